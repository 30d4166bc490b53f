"""One number per sample of a batch: drawn at random, or given by the strength."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def uniform(count: int, low: float, high: float, generator: Generator) -> Tensor:
    """`count` numbers drawn evenly from [low, high)."""
    return low + (high - low) * torch.rand(count, generator=generator)


def chance(count: int, probability: float, generator: Generator) -> Tensor:
    """`count` booleans, each true with `probability`."""
    return torch.rand(count, generator=generator) < probability


def between(strength_B: Tensor, low: float, high: float) -> Tensor:
    """`low` at strength 0, `high` at strength 1."""
    return low + (high - low) * strength_B


def spread(value_B: Tensor) -> Tensor:
    """B -> B111, to broadcast over an image."""
    return value_B[:, None, None, None]
