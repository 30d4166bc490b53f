"""Photographs on disk -> random crops, decoded when they are needed and kept while there is memory for them."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..errors import UserError
from .photos import load_rgb

#: Bytes of decoded pixels kept per process. 500 photos of a megapixel fit, a published training set does not.
MEMORY = 2 << 30

#: "scene": a part of a random size, shrunken to the crop; details and whole scenes alike.
#: "published": the photo squashed to 9/8 of the crop, then a random part of it (published code: 576, then 512).
Geometry = Literal["scene", "published"]


class Pixels:
    """Decodes files to (3, H, W) uint8 and remembers the latest of them, and which of them cannot be read."""

    def __init__(self, memory: int = MEMORY):
        self.room = memory
        self.kept: OrderedDict[Path, Tensor] = OrderedDict()
        self.bad: set[Path] = set()

    def try_all(self, *paths: Path) -> list[Tensor] | None:
        """None where one cannot be read or is gone: told once, and a training of days goes on without it."""
        if not self.bad.isdisjoint(paths):
            return None
        found = []
        for path in paths:
            try:
                found.append(self(path))
            except UserError as error:
                self.bad.add(path)
                logging.getLogger(__name__).warning("restorevar: warning: %s; going on without it", error)
                return None
        return found

    def __call__(self, path: Path) -> Tensor:
        if path in self.kept:
            self.kept.move_to_end(path)
            return self.kept[path]
        pixels = load_rgb(path)
        self.kept[path] = pixels
        self.room -= pixels.numel()
        while self.room < 0 and len(self.kept) > 1:
            self.room += self.kept.popitem(last=False)[1].numel()
        return pixels


@dataclass(frozen=True)
class Cut:
    """Where a crop lies in its photo: drawn once, applied to every photo of a pair."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool

    def __call__(self, photo_3HW: Tensor, height: int, width: int) -> Tensor:
        """(3, height, width) float32 in [0, 1]."""
        part = photo_3HW[:, self.top : self.top + self.height, self.left : self.left + self.width].float().div_(255)
        if part.shape[1:] != (height, width):
            part = F.interpolate(part[None], (height, width), mode="bilinear", antialias=True)[0]
        return part.flip(-1) if self.mirrored else part


def draw_cut(photo: tuple[int, int], height: int, width: int, geometry: Geometry, generator: Generator) -> Cut:
    """A random cut of a photo of size (H, W) for a crop of height x width. Half of all are mirrored."""
    h, w = photo
    if geometry == "published":
        part_h, part_w = round(h * 8 / 9), round(w * 8 / 9)
    else:
        room = min(h / height, w / width)  # how often the crop fits
        shrink = max(1.0, room) ** _uniform(generator) if room > 1 else room
        part_h, part_w = min(round(height * shrink), h), min(round(width * shrink), w)
    top, left = _below(h - part_h + 1, generator), _below(w - part_w + 1, generator)
    return Cut(top, left, part_h, part_w, _uniform(generator) < 0.5)


class PhotoPool:
    """Random crops from clean photographs."""

    def __init__(self, files: Sequence[Path], geometry: Geometry = "scene"):
        if not files:
            raise UserError("no photographs to cut from")
        self.files, self.geometry = list(files), geometry
        self.pixels = Pixels()

    def crop(self, height: int, width: int, generator: Generator) -> Tensor:
        """(3, height, width) float32 in [0, 1]; all choices are the generator's."""
        for _ in range(100):
            path = self.files[_below(len(self.files), generator)]
            for photo in self.pixels.try_all(path) or ():
                cut = draw_cut((photo.shape[1], photo.shape[2]), height, width, self.geometry, generator)
                return cut(photo, height, width)
        raise UserError(f"hardly any of {len(self.files)} photographs below {self.files[0].parent} can be read")


def _uniform(generator: Generator) -> float:
    return float(torch.rand((), generator=generator))


def _below(n: int, generator: Generator) -> int:
    return int(torch.randint(n, (), generator=generator))
