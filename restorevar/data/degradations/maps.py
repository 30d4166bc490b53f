"""Maps over the image, and their sizes: brightness, enlarging, stretching, blurring, clouds of noise."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

REFERENCE_SIDE = 768  # photographs with a longer side than this get larger streaks, flakes and kernels


_LUMA_3 = torch.tensor([0.299, 0.587, 0.114])


def luma(image_B3HW: Tensor) -> Tensor:
    """B1HW brightness (Rec. 601)."""
    return (image_B3HW * _LUMA_3[:, None, None]).sum(dim=1, keepdim=True)


def coloured(image_B3HW: Tensor, share_B: Tensor) -> Tensor:
    """So much of the colour, 1 for all of it, at the same luma; not clamped."""
    luma_B1HW = luma(image_B3HW)
    return luma_B1HW + share_B[:, None, None, None] * (image_B3HW - luma_B1HW)


def pixel_scale(height: int, width: int) -> float:
    """Larger photographs have larger streaks, flakes and kernels, but less than in proportion."""
    return math.sqrt(max(1.0, max(height, width) / REFERENCE_SIDE))


def fraction(height: int, width: int, divisor: int) -> tuple[int, int]:
    return max(2, height // divisor), max(2, width // divisor)


def resize(maps_BCHW: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(maps_BCHW, size=list(size), mode="bilinear", align_corners=False)


def stretch(maps_BHW: Tensor) -> Tensor:
    """Shift and scale each map to fill [0, 1]."""
    low, high = maps_BHW.amin(dim=(1, 2), keepdim=True), maps_BHW.amax(dim=(1, 2), keepdim=True)
    return (maps_BHW - low) / (high - low).clamp(min=1e-6)


def smooth_noise(batch: int, height: int, width: int, generator: Generator, cells: int, octaves: int) -> Tensor:
    """BHW clouds in [0, 1]: random grids of cells, 2 cells, 4 cells..., enlarged, each half as strong."""
    total_BHW = torch.zeros(batch, height, width)
    for octave in range(octaves):
        side = (cells << octave) + 1
        grid_B1 = torch.rand(batch, 1, side, side, generator=generator)
        enlarged = F.interpolate(grid_B1, size=(height, width), mode="bicubic", align_corners=True)
        total_BHW += 0.5**octave * enlarged[:, 0]
    return stretch(total_BHW)


def gaussian_blur(maps_BHW: Tensor, sigma_B: Tensor) -> Tensor:
    """Blur each map by its own sigma, rows then columns."""
    radius = max(1, math.ceil(2.5 * float(sigma_B.max())))
    offset_K = torch.arange(-radius, radius + 1)
    kernel_BK = torch.exp(-0.5 * (offset_K / sigma_B[:, None]) ** 2)
    kernel_BK = kernel_BK / kernel_BK.sum(dim=1, keepdim=True)
    batch = len(maps_BHW)
    padded = F.pad(maps_BHW[None], (radius, radius, radius, radius), mode="replicate")
    columns = F.conv2d(padded, kernel_BK[:, None, :, None], groups=batch)
    return F.conv2d(columns, kernel_BK[:, None, None, :], groups=batch)[0]


def soften(image_B3HW: Tensor, sigma_B: Tensor) -> Tensor:
    """Blur each image by its own sigma, all its colours alike."""
    colours_NHW = image_B3HW.flatten(0, 1)
    return gaussian_blur(colours_NHW, sigma_B.repeat_interleave(3)).view_as(image_B3HW)
