"""Prepared samples in a pool, so that frozen parts need not compute each sample anew for each step.

Which samples a step draws follows from (seed, step) alone: a resumed run draws what it would have drawn, and each of
several processes prepares and draws its own part of every batch. What frozen parts made can be kept on disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..data.pairs import Pairs, PairSource, seeded
from .workers import holding_signals, obey_the_parent_alone

Sample = dict[str, Tensor]
Shape = tuple[int, int]
Shapes = dict[Shape, float]  #: window sizes in pixels and their weights
Round = tuple[Shape, int]
#: Pairs -> what the stage trains on; every tensor has the batch first, and no sample depends on another.
Make = Callable[[Pairs], Sample]


@dataclass(frozen=True)
class Share:
    """The part of every global batch that one process computes, in `accumulate` turns."""

    rank: int = 0
    world: int = 1
    accumulate: int = 1

    def round_up(self, batch: int) -> int:
        """The smallest global batch from `batch` that divides evenly."""
        parts = self.world * self.accumulate
        return -(-batch // parts) * parts

    def lanes(self, batch: int) -> range:
        """The numbers, within the global batch, of the samples of this process."""
        mine = batch // self.world
        return range(self.rank * mine, (self.rank + 1) * mine)


class RoundPlan:
    """When which samples are made. A round is one new sample for each place in the batch of one shape.

    A step draws from the newest `size` samples of its shape; a round is added every `reuse` steps.
    """

    def __init__(self, shapes: Shapes, batch: int, share: Share, size: int, reuse: int, seed: int):
        self.shapes = list(shapes)
        self.weights = torch.tensor(list(shapes.values()), dtype=torch.float64)
        self.seed, self.reuse = seed, reuse
        pixels = self.shapes[0][0] * self.shapes[0][1]
        # Every batch has about the pixels of one of the first shape.
        self.batches = {s: share.round_up(max(2, round(batch * pixels / (s[0] * s[1])))) for s in self.shapes}
        total = float(self.weights.sum())
        self.kept = {
            s: max(4, int(size * w / total * pixels / (s[0] * s[1])) // self.batches[s]) for s, w in shapes.items()
        }

    def shape(self, step: int) -> Shape:
        """Drawn by weight."""
        if len(self.shapes) == 1:
            return self.shapes[0]
        return self.shapes[int(torch.multinomial(self.weights, 1, generator=seeded(self.seed, "shape", step)))]

    def rounds(self, uses: int, shape: Shape) -> range:
        """Rounds to draw from at the use number `uses` of a shape. The first few come one a step."""
        made = min(uses + 1, 4) + max(0, uses - 3) // self.reuse
        return range(max(0, made - self.kept[shape]), made)

    def steps(self, first: int) -> Iterator[tuple[Shape, range, list[int]]]:
        """From step `first` on: the shape, the rounds to draw from, the rounds to make before."""
        uses = dict.fromkeys(self.shapes, 0)
        for step in range(first):
            uses[self.shape(step)] += 1
        made = dict.fromkeys(self.shapes, 0)
        for step in count(first):
            shape = self.shape(step)
            rounds = self.rounds(uses[shape], shape)
            yield shape, rounds, list(range(max(rounds.start, made[shape]), rounds.stop))
            made[shape] = rounds.stop
            uses[shape] += 1


@dataclass(frozen=True)
class Cache:
    """What one process made of each round, a file each; nothing at all where there is no folder."""

    folder: Path | None
    share: Share
    batches: dict[Shape, int]

    def path(self, key: Round) -> Path | None:
        (height, width), number = key
        if self.folder is None:
            return None
        # The batch says which samples a round has.
        folder = self.folder / f"{self.batches[height, width]}x{height}x{width}"
        return folder / f"{number}-{self.share.rank}-of-{self.share.world}.safetensors"

    def find(self, key: Round) -> Path | None:
        """The file of a finished round, if it is there and whole.

        Its length is compared with its header, no tensor is read: that is left to the process that needs them.
        """
        path = self.path(key)
        if path is None or not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt"):
                return path
        except (SafetensorError, OSError):
            return None


@dataclass(frozen=True)
class _Rounds(Dataset):
    """A round -> its pairs; None where the finished samples already lie in the cache. Goes to other processes."""

    source: PairSource
    stream: str
    cache: Cache

    def __getitem__(self, key: Round) -> Pairs | None:
        (height, width), number = key
        if self.cache.find(key) is not None:
            return None
        batch = self.cache.batches[height, width]
        indices = [number * batch + lane for lane in self.cache.share.lanes(batch)]
        return self.source.pairs(f"{self.stream}/{height}x{width}", indices, height, width)


class Replay:
    """`batch(step, turn)` gives this process's samples of a step; calls go on from the first step asked for."""

    def __init__(
        self,
        make: Make,
        source: PairSource,
        stream: str,
        shapes: Shapes,
        batch: int,
        share: Share,
        size: int = 1024,
        reuse: int = 3,
        workers: int = 0,
        cache: Path | None = None,
    ):
        self.make, self.source, self.stream, self.share, self.workers = make, source, stream, share, workers
        self.plan = RoundPlan(shapes, batch, share, size, reuse, source.seed)
        self.cache = Cache(cache, share, self.plan.batches)
        self.loader: Iterator[Pairs | None] = iter(())
        self.pool: dict[Shape, dict[int, Sample]] = {s: {} for s in self.plan.shapes}
        self.waited = 0.0  #: seconds spent waiting for pairs
        self.next_step = -1
        self.current: tuple[Shape, range] | None = None

    def batch(self, step: int, turn: int = 0) -> Sample:
        """Tensors with the samples first; "dice" (B, 4) holds random numbers in [0, 1), each sample's own."""
        return stacked(self.rows(step, turn))

    def rows(self, step: int, turn: int = 0) -> list[Sample]:
        """The same, sample by sample and not copied yet: for who wants parts of them."""
        if turn == 0:
            self._advance(step)
        assert self.current is not None, "a step begins with turn 0"
        shape, rounds = self.current
        lanes = self.share.lanes(self.plan.batches[shape])
        mine = len(lanes) // self.share.accumulate
        places = range(turn * mine, (turn + 1) * mine)
        rows = []
        for place in places:
            generator = seeded(self.source.seed, self.stream, "draw", step, lanes[place])
            number = rounds[int(torch.randint(len(rounds), (), generator=generator))]
            row = {name: values[place] for name, values in self.pool[shape][number].items()}
            rows.append(row | {"dice": torch.rand(4, generator=generator)})
        return rows

    def close(self) -> None:
        """Ends the workers and forgets the samples, which else stay in memory as long as this does."""
        self.loader, self.next_step = iter(()), -1
        for pool in self.pool.values():
            pool.clear()

    @torch.no_grad()
    def _advance(self, step: int) -> None:
        if step != self.next_step:
            self._start(step)
        shape, rounds, fresh = next(self.steps)
        pool = self.pool[shape]
        for number in fresh:
            began = time.monotonic()
            pairs = next(self.loader)
            self.waited += time.monotonic() - began
            pool[number] = self._prepare((shape, number), pairs)
        for old in [number for number in pool if number < rounds.start]:
            del pool[old]
        self.current, self.next_step = (shape, rounds), step + 1

    def _start(self, step: int) -> None:
        self.close()
        self.steps = self.plan.steps(step)
        order = ((shape, number) for shape, _, fresh in self.plan.steps(step) for number in fresh)
        loader = DataLoader(
            _Rounds(self.source, self.stream, self.cache),
            sampler=order,
            batch_size=None,
            num_workers=self.workers,
            prefetch_factor=4 if self.workers else None,
            worker_init_fn=obey_the_parent_alone,
        )
        with holding_signals():
            self.loader = iter(loader)

    def _prepare(self, key: Round, pairs: Pairs | None) -> Sample:
        path = self.cache.path(key)
        if pairs is None:
            assert path is not None
            return load_file(path)
        sample = self._make_in_turns(pairs)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            save_file(sample, part)
            part.replace(path)
        return sample

    def _make_in_turns(self, pairs: Pairs) -> Sample:
        """As many at once as a step computes at once: making samples must not need more memory than training."""
        size = max(1, len(pairs.tasks) // self.share.accumulate)
        made = []
        for begin in range(0, len(pairs.tasks), size):
            turn = slice(begin, begin + size)
            made.append(self.make(Pairs(pairs.clean[turn], pairs.degraded[turn], pairs.tasks[turn])))
        with torch.autocast("cpu", enabled=False):  # which refuses to join float16
            return {name: torch.cat([part[name].cpu() for part in made]).contiguous() for name in made[0]}


def stacked(rows: list[Sample]) -> Sample:
    """Samples -> a batch."""
    with torch.autocast("cpu", enabled=False):  # which refuses to join float16
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def unstacked(batch: Sample) -> list[Sample]:
    """The inverse of `stacked`."""
    return [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]


def die_below(die: float, bound: int) -> int:
    """A random number in [0, 1) -> a whole number in [0, bound)."""
    return min(int(die * bound), bound - 1)


def loader_speed(source: PairSource, side: int, workers: int, seconds: float, batch: int = 16) -> float:
    """Pairs of side x side pixels per second of the loader alone: decoded, cut and degraded, nothing trained."""
    replay = Replay(
        lambda pairs: {"x": pairs.clean}, source, "speed", {(side, side): 1.0}, batch, Share(), 64, 1, workers
    )
    replay.batch(0)  # workers start, first photos are decoded
    began, step = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        step += 1
        replay.batch(step)
    speed = step * batch / (time.monotonic() - began)
    replay.close()
    return speed
