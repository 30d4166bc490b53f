"""Training pairs: clean crops and what the degradation engine makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .mixes import MIXES, Mix, degrade
from .photos import PhotoPool, find_photos

#: Every n-th photo of a folder is kept for validation.
VALIDATION_EVERY = 24


@dataclass
class Pairs:
    """A batch of pairs as stored files would have them: 8 bit. All (B, 3, H, W) uint8, `tasks` a name per sample."""

    clean: Tensor
    degraded: Tensor
    tasks: list[str]


def to_model(image_u8: Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1]."""
    return image_u8.float().div_(127.5).sub_(1)


class PairSource:
    """Endless random pairs from a folder of clean photographs, and a fixed validation set of others of them."""

    def __init__(self, root: Path, seed: int = 0, mix: Mix = MIXES["train"], min_mean: float = 50.0):
        files = find_photos(root)
        held_out = files[VALIDATION_EVERY - 1 :: VALIDATION_EVERY] or files[-1:]
        training = [f for f in files if f not in set(held_out)] or files
        self.mix = mix
        self.generator = torch.Generator().manual_seed(seed)
        self.photos = PhotoPool(training, min_mean)
        self.held_out = PhotoPool(held_out)

    def clean(self, count: int, height: int, width: int) -> Tensor:
        """(count, 3, height, width) in [-1, 1]."""
        return self.photos.crops(count, height, width, self.generator) * 2 - 1

    def pairs(self, count: int, height: int, width: int) -> Pairs:
        return self._make(self.photos.crops(count, height, width, self.generator), self.mix, self.generator)

    def validation(self, count: int, height: int, width: int, task: str | None = None) -> Pairs:
        """The same pairs at every call; of one task where one is named."""
        generator = torch.Generator().manual_seed(1)
        crops = self.held_out.crops(count, height, width, generator)
        return self._make(crops, task or self.mix, generator)

    def _make(self, clean: Tensor, mix: Mix | str, generator: torch.Generator) -> Pairs:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):  # also when called inside a training step
            degraded, tasks = degrade(clean, mix, generator)
        return Pairs(_to_u8(clean), _to_u8(degraded), tasks)


def _to_u8(image: Tensor) -> Tensor:
    return image.mul(255).round_().clamp_(0, 255).to(torch.uint8)
