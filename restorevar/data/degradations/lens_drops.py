"""Drops of rain on the lens or on a window before it: each shows the scene small, upside down and out of focus.

For training only, as all of variants.py.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from .maps import gaussian_blur, luma, pixel_scale, smooth_noise, soften
from .particles import sown
from .per_sample import between, chance, spread, uniform

_SIZES = (2.5, 6.0, 14.0)  # px: small, middle and large drops, from the middle to where they are half as thick


def lens_drops(image_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """Drops of three sizes that run together where they touch, over 1 to 20 per cent of the photo.

    Where water is thick it bends light as a lens of short focal length does (von Bernuth et al., 2018; Qian et al.,
    2018, photographed such), so what is behind it is not hidden only: it must be taken from the surroundings.
    """
    batch, _, height, width = image_B3HW.shape
    water_BHW, bent_BHW2 = _water(strength_B, height, width, generator)
    soft_B = uniform(batch, 0.15, 0.95, generator)  # how far out of focus the drops are
    alpha_B1HW = ((water_BHW[:, None] - 0.5) / spread(soft_B) + 0.5).clamp(0, 1)
    alpha_B1HW = alpha_B1HW * spread(uniform(batch, 0.6, 1.0, generator))
    blurred_B3HW = soften(image_B3HW, uniform(batch, 0.5, 6.0, generator) * pixel_scale(height, width))
    seen_B3HW = _sample(blurred_B3HW, bent_BHW2)
    # The sky, above the scene, comes from a drop's lower half: it is brighter there and darker at its top.
    slope_B1HW = (bent_BHW2[..., 1] / (6 * _SIZES[-1])).clamp(-1, 1)[:, None]
    lit_B1HW = spread(uniform(batch, 0.75, 1.2, generator)) - spread(uniform(batch, 0.0, 0.5, generator)) * slope_B1HW
    # A drop gathers light from half the sky, too: gray, and as bright as the brightest around.
    sky_B = torch.quantile(luma(image_B3HW).flatten(1), 0.9, dim=1) * uniform(batch, 0.7, 1.1, generator)
    pale_B = uniform(batch, 0.0, 0.6, generator) * chance(batch, 0.7, generator)
    seen_B3HW = torch.lerp(seen_B3HW * lit_B1HW, spread(sky_B).expand_as(seen_B3HW), spread(pale_B))
    return torch.lerp(image_B3HW, seen_B3HW.clamp(0, 1), alpha_B1HW)


def _water(strength_B: Tensor, height: int, width: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """BHW thickness, 1 in the middle of one drop, and BHW2 (across, down) px by which the light through it is bent."""
    batch = len(strength_B)
    scale = pixel_scale(height, width)
    water_BHW = torch.zeros(batch, height, width)
    bent_BHW2 = torch.zeros(batch, height, width, 2)
    power_B = uniform(batch, 1.5, 5.0, generator)  # of the lens: 1 would show the drop's middle all over it, 2 a mirror
    ragged_BHW = 0.6 + 0.8 * smooth_noise(batch, height, width, generator, cells=12, octaves=2)
    for size in _SIZES:
        sigma_B = size * scale * uniform(batch, 0.7, 1.5, generator)
        covered_B = between(strength_B, 0.004, 0.07) * uniform(batch, 0.0, 2.0, generator)
        sparse_B = covered_B / (1.4 * math.pi * sigma_B**2)
        drops_BHW = gaussian_blur(sown(sparse_B, height, width, generator), sigma_B)
        drops_BHW = drops_BHW * (2 * math.pi * sigma_B**2)[:, None, None] * ragged_BHW
        down_BHW, across_BHW = torch.gradient(drops_BHW, dim=(1, 2))
        bent_BHW2 += (power_B * sigma_B**2)[:, None, None, None] * torch.stack([across_BHW, down_BHW], dim=-1)
        water_BHW += drops_BHW
    return water_BHW, bent_BHW2


def _sample(image_B3HW: Tensor, bent_BHW2: Tensor) -> Tensor:
    """The image where each pixel's light comes from, mirrored at the border."""
    height, width = image_B3HW.shape[-2:]
    y_H, x_W = torch.arange(height), torch.arange(width)
    from_BHW2 = torch.stack(torch.meshgrid(y_H, x_W, indexing="ij")[::-1], dim=-1) + bent_BHW2
    place_BHW2 = 2 * (from_BHW2 + 0.5) / torch.tensor([width, height]) - 1
    return F.grid_sample(image_B3HW, place_BHW2, padding_mode="reflection", align_corners=False)
