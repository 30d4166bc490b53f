"""Arithmetic on the samples of a photo, in bands of rows; pixels to tensors and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image

_BAND = 1 << 22  # pixels worked on at once


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """Pixels [H, W, C] of uint8 or uint16 as float32 [C, H, W] in [-1, 1]. Works on any window of a photo."""
    planes = np.moveaxis(pixels, -1, 0).astype(np.float32, order="C")
    return torch.from_numpy(planes).div_(np.iinfo(pixels.dtype).max / 2).sub_(1)


def from_tensor(tensor: torch.Tensor, dtype: np.dtype[Any] | type = np.uint8) -> np.ndarray:
    """A finite tensor [C, H, W] as pixels [H, W, C] of `dtype`; -1 and 1 are the ends of its range.

    Values are clipped and, for integers, rounded to the nearest (half to even): `to_tensor` undone exactly. Floats
    range from 0 to 1.
    """
    whole = np.issubdtype(dtype, np.integer)
    peak = np.iinfo(dtype).max if whole else 1
    # The copy is needed: the caller's tensor must survive the arithmetic in place.
    planes = tensor.detach().to("cpu", torch.float32, copy=True).add_(1).mul_(peak / 2)
    pixels = (planes.round_() if whole else planes).clamp_(0, peak).numpy().astype(dtype)
    return np.ascontiguousarray(np.moveaxis(pixels, 0, -1))


def luma(rgb: np.ndarray) -> np.ndarray:
    """[H, W] Rec. 601 luma of [H, W, 3], in the same type; gray pixels keep their value."""
    gray = np.empty(rgb.shape[:2], rgb.dtype)
    for rows in row_bands(rgb):
        gray[rows] = (rgb[rows] @ np.array([299, 587, 114], np.uint32) + 500) // 1000
    return gray


def eight_bit(samples: np.ndarray) -> np.ndarray:
    """Samples in 8 bits, rounded to the nearest; those of 8 bits are returned as they are."""
    if samples.dtype == np.uint8:
        return samples
    reduced = np.empty(samples.shape, np.uint8)
    for rows in row_bands(samples):
        reduced[rows] = (samples[rows].astype(np.uint32) + 128) // 257
    return reduced


def upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """A view of the samples turned as the EXIF orientation (1 to 8) says; other values do nothing."""
    turns: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: a.swapaxes(0, 1)[:, ::-1],
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: a.swapaxes(0, 1)[::-1],
    }
    return turns.get(orientation, lambda a: a)(samples)


def image_bands(image: Image.Image) -> Iterator[tuple[slice, np.ndarray]]:
    """The rows of `image` in bands of [rows, W, C]: a conversion of the whole would need two more copies."""
    step = max(1, _BAND // image.width)
    for top in range(0, image.height, step):
        bottom = min(top + step, image.height)
        band = np.asarray(image.crop((0, top, image.width, bottom)))
        yield slice(top, bottom), band.reshape(bottom - top, image.width, -1)


def row_bands(samples: np.ndarray) -> Iterator[slice]:
    height, width = samples.shape[:2]
    step = max(1, _BAND // width)
    return (slice(top, top + step) for top in range(0, height, step))
