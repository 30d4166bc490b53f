"""Photo: what is read from a file and written into one. Also as a Pillow image."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from .pixels import eight_bit, luma


@dataclass(eq=False)
class Photo:
    """A photograph: its pixels, upright, and what else is written into its file.

    `coding` tells how the source file was encoded; it counts only when the output has the same format:
    JPEG {qtables, subsampling, comment}, WEBP {lossless}, TIFF {compression}, PNG {chunks}.
    """

    rgb: np.ndarray  # [H, W, 3], uint8 or uint16; all of the range is used
    alpha: np.ndarray | None = None  # [H, W], same type as rgb
    gray: bool = False  # the source was gray, and so is what is written
    format: str = "PNG"  # one of FORMATS
    exif: bytes | None = None  # a TIFF structure, without the "Exif" prefix; orientation is 1
    icc: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    coding: dict[str, Any] = field(default_factory=dict)

    def replaced(self, rgb: np.ndarray) -> Photo:
        """The same photo with new pixels; ValueError unless shape and type are those of the old ones."""
        if rgb.shape != self.rgb.shape or rgb.dtype != self.rgb.dtype:
            raise ValueError(f"pixels are {rgb.dtype} {rgb.shape}, the photo has {self.rgb.dtype} {self.rgb.shape}")
        return replace(self, rgb=rgb)


def photo_to_pil(photo: Photo) -> Image.Image:
    """The photo as a Pillow image of mode L, LA, RGB or RGBA, metadata in `info`; 16 bits become 8."""
    image = Image.fromarray(eight_bit(luma(photo.rgb) if photo.gray else photo.rgb))
    if photo.alpha is not None:
        image.putalpha(Image.fromarray(eight_bit(photo.alpha)))
    known = {"exif": photo.exif, "icc_profile": photo.icc, "xmp": photo.xmp, "dpi": photo.dpi}
    image.info.update({key: value for key, value in known.items() if value is not None})
    return image


def stored_samples(photo: Photo) -> np.ndarray:
    """What is stored of a photo: gray or RGB, with alpha if any, [H, W, C] in the photo's type."""
    color = luma(photo.rgb)[..., None] if photo.gray else photo.rgb
    return color if photo.alpha is None else np.concatenate([color, photo.alpha[..., None]], axis=2)
