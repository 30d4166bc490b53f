"""What a browser is shown of a photo: small enough, in sRGB, without metadata; and maps of it in colours."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ...evaluation.analysis.drawing import heat
from ...evaluation.webpage import picture_of
from ...images import Photo

#: Longest sides in pixels: of what is laid side by side, and of a photo in the strip.
SIDE, THUMBNAIL = 2048, 192
#: WebP. Detail is what people come for; previews are to be quick.
QUALITY, ROUGH = 90, 70
#: A change of so many levels of 255 can be seen; less than this is never as bright as a map gets.
VISIBLE, NOTABLE = 8, 32
#: A map of probabilities spans at least so much, so that it does not make much of nothing.
NARROWEST = 0.1


def shown(photo: Photo) -> Image.Image:
    """The photo for a browser: 8-bit RGB in sRGB, transparency over white, shrunken if it is large."""
    picture = picture_of(photo)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return picture


def thumbnail(picture: Image.Image) -> Image.Image:
    small = picture.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    return small


def change(before: Image.Image, after: Image.Image) -> tuple[Image.Image, float]:
    """A map of how much each pixel changed, and the share of pixels where that can be seen. Same sizes.

    Dark is nothing; bright is what the most changed hundredth of the photo reaches.
    """
    levels = np.abs(np.asarray(after, np.float32) - np.asarray(before, np.float32)).mean(2)
    brightest = max(NOTABLE, float(np.percentile(levels, 99)))
    return Image.fromarray(heat(torch.from_numpy(levels), 0, brightest)), float((levels >= VISIBLE).mean())


def confidence(scales: Sequence[np.ndarray], size: tuple[int, int]) -> tuple[Image.Image, float]:
    """A map, `size` (width, height), of the probability of what was chosen, and its mean: every scale counts alike.

    From the least sure hundredth of the photo to the surest: what matters is where to look.
    scales   float32 [h, w] in [0, 1], each of its own size
    """
    width, height = size
    share = min(1.0, 512 / max(size))  # the map is smooth
    small = (max(1, round(width * share)), max(1, round(height * share)))
    maps = [np.asarray(Image.fromarray(scale).resize(small, Image.Resampling.BILINEAR)) for scale in scales]
    mean = np.mean(maps, axis=0)
    low, high = np.percentile(mean, (1, 99))
    picture = Image.fromarray(heat(torch.from_numpy(mean), float(low), float(max(high, low + NARROWEST))))
    return picture.resize(size, Image.Resampling.BICUBIC), float(mean.mean())


def save(picture: Image.Image, path: Path) -> None:
    """As WebP. No other file reads it before it is told of, so it needs no temporary name."""
    picture.save(path, "WEBP", quality=QUALITY, method=2)


def as_uri(pixels: np.ndarray) -> str:
    """A preview [H, W, 3] uint8 as text, for it is gone as soon as the next one comes."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", quality=ROUGH, method=0)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
