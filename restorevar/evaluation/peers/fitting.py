"""Sizes: an image made to fit what a peer takes, and its output brought back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import writing
from ..protocols import resized


@dataclass(frozen=True)
class Fit:
    """What sizes a peer takes. Images are [H, W, 3] uint8, sizes (width, height).

    multiple   sides are padded at the right and the bottom, by reflection, to a multiple of this
    least      a shorter side than this: the image is enlarged first (Lanczos), its result shrunk in the end
    square     all images are squashed to this many pixels on both sides (Lanczos), their results stretched back
    """

    multiple: int = 1
    least: int = 0
    square: int | None = None

    def scaled(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size to which an image of `size` is resized; mostly its own."""
        if self.square is not None:
            return self.square, self.square
        factor = max(1.0, self.least / min(size))
        return math.ceil(size[0] * factor), math.ceil(size[1] * factor)

    def fed(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size in which an image of `size` is given to the peer."""
        width, height = self.scaled(size)
        return -(-width // self.multiple) * self.multiple, -(-height // self.multiple) * self.multiple

    def feed(self, image: np.ndarray) -> np.ndarray:
        """The image as the peer is given it."""
        size = image.shape[1], image.shape[0]
        image = resized(image, self.scaled(size))
        width, height = self.fed(size)
        margins = ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0))
        return np.pad(image, margins, mode="reflect") if any(map(max, margins)) else image

    def back(self, output: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The peer's output of size `fed(size)` as an image of `size`."""
        width, height = self.scaled(size)
        return resized(output[:height, :width], size)


def save_png(image: np.ndarray, path: Path) -> None:
    """Raises UserError if it cannot be written."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(image)).save(path, compress_level=1)
