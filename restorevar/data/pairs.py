"""Training pairs: synthetic ones from clean photographs, real ones from manifests, mixed by weight.

Sample i of a stream is a function of (seed, stream, i) and of nothing else. So a run that was killed goes on with the
very samples it would have had, and several processes share a batch without telling each other.
"""

from __future__ import annotations

import hashlib
import logging
import zlib
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor

from ..errors import UserError
from .crops import Geometry, PhotoPool, Pixels, draw_cut
from .degradations import DEGRADATIONS
from .manifest import PUBLISHED_NAMES, Entry, read_manifest
from .mixes import CLEAN, MIXES, Mix, degrade
from .photos import find_photos
from .tones import retaken

#: Every n-th photo of a folder, and every n-th pair of a manifest, is kept for validation.
VALIDATION_EVERY = 24
#: Published names of degradations -> our task names.
TASK_NAMES = {published.lower(): ours for ours, published in PUBLISHED_NAMES.items()}


@dataclass
class Pairs:
    """A batch of pairs as stored files would have them: 8 bit. All (B, 3, H, W) uint8, `tasks` a name per sample."""

    clean: Tensor
    degraded: Tensor
    tasks: list[str]


def to_model(image_u8: Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1]."""
    return image_u8.float().div_(127.5).sub_(1)


def seeded(*key: object) -> Generator:
    """A generator that depends on the key alone."""
    return Generator().manual_seed(zlib.crc32("/".join(map(str, key)).encode()))


@dataclass(frozen=True)
class Source:
    """A folder of clean photographs or a manifest of real pairs, with its weight in the mixture."""

    path: Path
    weight: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Source:
        """PATH or PATH=WEIGHT. Raises UserError for a weight that is none."""
        path, _, weight = text.rpartition("=") if "=" in text else (text, "", "1")
        try:
            value = float(weight)
        except ValueError:
            return cls(Path(text))  # a file name may have "=" in it
        if value <= 0:
            raise UserError(f"{text}: the weight after = must be positive")
        return cls(Path(path), value)


class Synthetic:
    """Clean photographs of a folder, degraded on the fly.

    What is dark by nature is no target for low light: crops below `min_mean` of 255 are degraded otherwise or stay
    clean. They are worth having: from them a network learns that dusk and night are to be left alone. So are those
    that are given other tones, a share of the mix.
    """

    def __init__(self, root: Path, mix: Mix, geometry: Geometry, min_mean: float = 50.0):
        files = find_photos(root)
        held_out = files[VALIDATION_EVERY - 1 :: VALIDATION_EVERY] or files[-1:]
        training = sorted(set(files) - set(held_out)) or files
        self.root, self.files, self.mix, self.min_mean = root, files, mix, min_mean
        self.training = PhotoPool(training, geometry)
        self.held_out = PhotoPool(held_out)
        self.size = len(training)

    def drawn_by(self, mix: Mix) -> Synthetic:
        """The same photographs, decoded once for both, degraded by another mix."""
        other = copy(self)
        other.mix = mix
        return other

    def pair(self, height: int, width: int, generator: Generator) -> tuple[Tensor, Tensor, str]:
        crop = self.training.crop(height, width, generator)
        if self.mix.retaken and float(torch.rand((), generator=generator)) < self.mix.retaken:
            crop = retaken(crop, generator)
        dark = float(crop.mean()) * 255 < self.min_mean
        return self._degraded(crop, self.mix.without("lowlight") if dark else self.mix, generator)

    def clean(self, height: int, width: int, generator: Generator) -> Tensor:
        return _to_u8(self.training.crop(height, width, generator))

    def held_out_pair(self, height: int, width: int, task: str | None, generator: Generator) -> Sample:
        return self._degraded(self.held_out.crop(height, width, generator), task or self.mix, generator)

    def tasks(self) -> set[str]:
        return {*DEGRADATIONS, CLEAN}

    def contents(self) -> list[str]:
        return [f"{path.relative_to(self.root)} {path.stat().st_size}" for path in self.files]

    def _degraded(self, clean_3HW: Tensor, mix: Mix | str, generator: Generator) -> Sample:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):  # also when called inside a training step
            degraded, tasks = degrade(clean_3HW[None], mix, generator)
        return _to_u8(clean_3HW), _to_u8(degraded[0]), tasks[0]


class Real:
    """Pairs of a manifest: the same part is cut from both pictures. Rows marked "val" or "test" are not trained on."""

    def __init__(self, manifest: Path, geometry: Geometry):
        self.entries = read_manifest(manifest)
        if not self.entries:
            raise UserError(f"{manifest}: lists no pairs")
        self.manifest, self.geometry = manifest, geometry
        marked = [entry for entry in self.entries if entry.split in ("val", "test")]
        self.held_out = marked or self.entries[VALIDATION_EVERY - 1 :: VALIDATION_EVERY] or self.entries[-1:]
        kept = {id(entry) for entry in self.held_out}
        self.training = [entry for entry in self.entries if id(entry) not in kept]
        if marked and not self.training:
            raise UserError(f"{manifest}: all its pairs are marked as val or test; there is nothing to train on")
        self.training = self.training or self.entries  # a manifest of one pair
        self.size = len(self.training)
        self.pixels = Pixels()

    def pair(self, height: int, width: int, generator: Generator) -> Sample:
        return self._cut(self.training, height, width, generator)

    def clean(self, height: int, width: int, generator: Generator) -> Tensor:
        return self.pair(height, width, generator)[0]

    def held_out_pair(self, height: int, width: int, task: str | None, generator: Generator) -> Sample:
        entries = [entry for entry in self.held_out if task in (None, _task(entry))]
        return self._cut(entries or self.held_out, height, width, generator)

    def tasks(self) -> set[str]:
        return {_task(entry) for entry in self.held_out}

    def contents(self) -> list[str]:
        return [f"{e.image} {e.target} {e.image.stat().st_size}" for e in self.entries if e.image.is_file()]

    def _cut(self, entries: Sequence[Entry], height: int, width: int, generator: Generator) -> Sample:
        for _ in range(100):
            entry = entries[int(torch.randint(len(entries), (), generator=generator))]
            found = self.pixels.try_all(entry.target, entry.image)
            if found is None:
                continue
            clean, degraded = found
            if clean.shape == degraded.shape:
                cut = draw_cut((clean.shape[1], clean.shape[2]), height, width, self.geometry, generator)
                return _to_u8(cut(clean, height, width)), _to_u8(cut(degraded, height, width)), _task(entry)
            self.pixels.bad.add(entry.image)
            logging.getLogger(__name__).warning(
                "restorevar: warning: %s: not the size of its target; going on without it", entry.image
            )
        raise UserError(f"{self.manifest}: hardly any of its pairs can be used; see restorevar data index")


Sample = tuple[Tensor, Tensor, str]  # clean, degraded (3, H, W) uint8, task


class PairSource:
    """Endless random pairs, and a fixed validation set of others.

    photos      folders of clean photographs; their pairs are synthetic, of `mix`
    manifests   published JSON lists of real pairs
    The first of them also gives the validation pairs. Raises UserError for none at all, and for what cannot be read.
    """

    def __init__(
        self,
        photos: Sequence[Source] | Path = (),
        manifests: Sequence[Source] = (),
        seed: int = 0,
        mix: Mix = MIXES["train"],
        geometry: Geometry = "scene",
    ):
        folders = [Source(photos)] if isinstance(photos, Path) else list(photos)
        self.seed, self.mix = seed, mix
        self.parts: list[Synthetic | Real] = [Synthetic(s.path, mix, geometry) for s in folders]
        self.parts += [Real(s.path, geometry) for s in manifests]
        if not self.parts:
            raise UserError("nothing to train on: give a folder of photographs or a manifest of pairs")
        self.weights = torch.tensor([s.weight for s in (*folders, *manifests)], dtype=torch.float64)

    @property
    def size(self) -> int:
        """Photographs and pairs: what one epoch goes through on average."""
        return sum(part.size for part in self.parts)

    def pairs(self, stream: str, indices: Sequence[int], height: int, width: int) -> Pairs:
        """The samples of these numbers of a stream."""
        return _batch([self._pair(seeded(self.seed, stream, i), height, width) for i in indices])

    def clean(self, stream: str, indices: Sequence[int], height: int, width: int) -> Tensor:
        """Only the clean halves, (B, 3, height, width) uint8."""
        generators = [seeded(self.seed, stream, i) for i in indices]
        return torch.stack([self._part(g).clean(height, width, g) for g in generators])

    def drawn_by(self, mix: Mix) -> PairSource:
        """The same photographs, degraded by another mix; the pairs of manifests stay as they are."""
        other = copy(self)
        other.mix = mix
        other.parts = [part.drawn_by(mix) if isinstance(part, Synthetic) else part for part in self.parts]
        return other

    def validation(self, count: int, height: int, width: int, task: str | None = None) -> Pairs:
        """The same pairs at every call; of one task where one is named."""
        part = next((p for p in self.parts if task in p.tasks()), self.parts[0])
        generators = (seeded("validation", task, i) for i in range(count))
        return _batch([part.held_out_pair(height, width, task, g) for g in generators])

    def validation_tasks(self) -> list[str]:
        """Task names that `validation` knows, in a fixed order."""
        known = set().union(*(part.tasks() for part in self.parts))
        return [name for name in (*DEGRADATIONS, CLEAN) if name in known] + sorted(known - {*DEGRADATIONS, CLEAN})

    def fingerprint(self) -> str:
        """Changes when files are added, removed, renamed or resized, or the mixture changes."""
        lines = [line for part in self.parts for line in part.contents()]
        return hashlib.sha256("\n".join([*lines, str(self.weights.tolist()), repr(self.mix)]).encode()).hexdigest()

    def _part(self, generator: Generator) -> Synthetic | Real:
        if len(self.parts) == 1:
            return self.parts[0]
        return self.parts[int(torch.multinomial(self.weights, 1, generator=generator))]

    def _pair(self, generator: Generator, height: int, width: int) -> Sample:
        return self._part(generator).pair(height, width, generator)


def _task(entry: Entry) -> str:
    return TASK_NAMES.get(entry.degradation.lower(), entry.degradation.lower())


def _batch(samples: Sequence[Sample]) -> Pairs:
    clean, degraded, tasks = zip(*samples, strict=True)
    return Pairs(torch.stack(clean), torch.stack(degraded), list(tasks))


def _to_u8(image: Tensor) -> Tensor:
    return image.mul(255).round_().clamp_(0, 255).to(torch.uint8)
