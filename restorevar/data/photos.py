"""Clean photographs on disk -> random crops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from ..errors import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".avif"}


def find_photos(root: Path) -> list[Path]:
    """All image files below `root`, sorted. Raises UserError when there are none."""
    if not root.is_dir():
        raise UserError(f"{root}: not a folder")
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not files:
        raise UserError(f"{root}: no photographs found")
    return files


def load_rgb(path: Path) -> Tensor:
    """(3, H, W) uint8, turned upright."""
    try:
        with Image.open(path) as image:
            pixels = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except OSError as error:
        raise UserError(f"{path}: not a readable image ({error})") from None
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


class PhotoPool:
    """Photographs held in memory as uint8; gives random crops, seeded.

    `min_mean` drops photos darker than this mean of 255: a night scene is no target for low light.
    """

    def __init__(self, files: Sequence[Path], min_mean: float = 0.0, min_side: int = 256):
        self.photos = []
        for path in files:
            photo = load_rgb(path)
            if min(photo.shape[1:]) >= min_side and photo.float().mean() >= min_mean:
                self.photos.append(photo)
        if not self.photos:
            raise UserError(f"none of {len(files)} photographs is bright enough and at least {min_side} px")

    def crops(self, count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """(count, 3, height, width) float32 in [0, 1].

        Each crop comes from a photo shrunk by a random factor, from full size down to where the crop nearly
        covers the photo: a restorer sees details and whole scenes alike. Half of them are mirrored.
        """
        return torch.stack([self._crop(height, width, generator) for _ in range(count)])

    def _crop(self, height: int, width: int, generator: torch.Generator) -> Tensor:
        def uniform() -> float:
            return float(torch.rand((), generator=generator))

        def below(n: int) -> int:
            return int(torch.randint(n, (), generator=generator))

        photo = self.photos[below(len(self.photos))]
        room = min(photo.shape[1] / height, photo.shape[2] / width)  # how often the crop fits
        shrink = max(1.0, room) ** uniform() if room > 1 else room
        h, w = min(round(height * shrink), photo.shape[1]), min(round(width * shrink), photo.shape[2])
        top, left = below(photo.shape[1] - h + 1), below(photo.shape[2] - w + 1)
        crop = photo[:, top : top + h, left : left + w].float().div_(255)
        if (h, w) != (height, width):
            crop = F.interpolate(crop[None], (height, width), mode="bilinear", antialias=True)[0]
        return crop.flip(-1) if uniform() < 0.5 else crop
