"""A pool of prepared samples, so that frozen stages need not compute each sample anew for each step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

Sample = dict[str, Tensor]


class Replay:
    """Draws batches from the newest `size` samples; each sample serves `reuse` times on average.

    `make(count)` returns a batch as a dict of tensors with `count` first; it runs without gradients.
    """

    def __init__(self, make: Callable[[int], Sample], size: int = 1024, reuse: int = 3, seed: int = 0):
        self.make = make
        self.reuse = reuse
        self.pool: deque[Sample] = deque(maxlen=size)
        self.generator = torch.Generator().manual_seed(seed)
        self.debt = 0.0

    @torch.no_grad()
    def batch(self, count: int) -> Sample:
        self.debt += count / self.reuse if len(self.pool) >= 4 * count else count
        while self.debt >= 4 or not self.pool:  # a few at a time: batches are cheaper than singles
            fresh = min(16, max(4, int(self.debt)))
            made = self.make(fresh)
            self.pool.extend({k: v[i] for k, v in made.items()} for i in range(fresh))
            self.debt -= fresh
        picks = torch.randint(len(self.pool), (count,), generator=self.generator).tolist()
        return {k: torch.stack([self.pool[i][k] for i in picks]) for k in self.pool[0]}


class ShapedReplay:
    """One pool per window shape; each batch is of one shape, drawn by weight."""

    def __init__(
        self,
        make: Callable[..., Sample],  # (count, height, width) -> batch
        shapes: dict[tuple[int, int], float],
        size: int = 1024,
        reuse: int = 3,
        seed: int = 0,
    ):
        self.shapes = list(shapes)
        self.weights = torch.tensor(list(shapes.values()))
        self.generator = torch.Generator().manual_seed(seed)
        base = self.shapes[0][0] * self.shapes[0][1]
        self.pools = []
        for i, (h, w) in enumerate(self.shapes):
            share = float(self.weights[i] / self.weights.sum()) * base / (h * w)
            self.pools.append(Replay(partial(make, height=h, width=w), max(32, int(size * share)), reuse, seed + i))

    def batch(self, count: int) -> Sample:
        """About `count` samples' worth of pixels of the first shape."""
        i = int(torch.multinomial(self.weights, 1, generator=self.generator))
        h, w = self.shapes[i]
        base = self.shapes[0][0] * self.shapes[0][1]
        return self.pools[i].batch(max(2, round(count * base / (h * w))))
