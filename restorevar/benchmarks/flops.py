"""FLOPs, counted on torch's meta device: shapes without values, so the counts are exact and need no memory.

torch's own counter: two for each multiply-add of matrix products, convolutions and attention, nothing for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch.utils.flop_counter import FlopCounterMode

META = torch.device("meta")


@dataclass(frozen=True)
class Flops:
    """`attention` is the share of the products of queries, keys and values in `total`."""

    total: int
    attention: int

    def __add__(self, other: Flops) -> Flops:
        return Flops(self.total + other.total, self.attention + other.attention)

    def __sub__(self, other: Flops) -> Flops:
        return Flops(self.total - other.total, self.attention - other.attention)

    def times(self, factor: int) -> Flops:
        return Flops(self.total * factor, self.attention * factor)


@contextmanager
def counting() -> Iterator[Callable[[], Flops]]:
    """Gives a function that tells the FLOPs so far. Works on any device."""
    with FlopCounterMode(display=False) as counter:
        yield lambda: _so_far(counter)


def _so_far(counter: FlopCounterMode) -> Flops:
    counts = counter.get_flop_counts().get("Global", {})
    # The meta device knows no fused attention; there it is two batched products, which nothing else here uses.
    attention = sum(n for operator, n in counts.items() if "attention" in str(operator) or "bmm" in str(operator))
    return Flops(counter.get_total_flops(), attention)


@contextmanager
def on_meta() -> Iterator[None]:
    """Networks of meta tensors run inside: autocast, which does not know the device, is left out."""

    def no_autocast(*_: Any, **__: Any) -> nullcontext[None]:
        return nullcontext()

    with mock.patch.object(torch, "autocast", no_autocast):
        yield


def count(run: Callable[[], object]) -> Flops:
    """Of one call on meta tensors, without gradients."""
    with on_meta(), torch.inference_mode(), counting() as so_far:
        run()
        return so_far()
