"""Snow: flakes small, medium and large, sharp or smeared."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from .maps import fraction, gaussian_blur, pixel_scale, resize
from .particles import scatter, splat, veil
from .per_sample import between, spread, uniform


def snow(image_B3HW: Tensor, strength_B: Tensor, generator: Generator, moment: Generator | None = None) -> Tensor:
    """Flakes in three sizes, irregular, out of focus or smeared, translucent, at times with a veil.

    The sizes follow Snow100K (Liu et al., 2018): small, medium and large particles.
    moment: draws the single flakes; the same generator otherwise makes frames of one snowfall.
    """
    batch, _, height, width = image_B3HW.shape
    flakes_BHW = flakes(strength_B, height, width, generator, moment or generator)
    opacity_B = between(strength_B, 0.7, 1.0) * uniform(batch, 0.8, 1.05, generator)
    colour_B3 = uniform(batch, 0.85, 1.0, generator)[:, None] - torch.tensor([0.02, 0.01, 0.0])
    veiled_B3HW = veil(image_B3HW, 0.35 * strength_B, generator)
    alpha_B1HW = (spread(opacity_B) * flakes_BHW[:, None]).clamp(0, 1)
    return veiled_B3HW + alpha_B1HW * (colour_B3[..., None, None] - veiled_B3HW)


def flakes(strength_B: Tensor, height: int, width: int, generator: Generator, moment: Generator) -> Tensor:
    """BHW coverage in [0, 1] of small, medium and large flakes.

    Each layer is (count per megapixel, radius px, smear px, points per flake, drawn at 1/n of the size).
    Large flakes are near and out of focus, so they can be drawn small and enlarged.
    """
    batch = len(strength_B)
    scale = pixel_scale(height, width)
    wind_B = 0.6 * torch.randn(batch, generator=generator)
    speed_B = uniform(batch, 0.0, 1.0, generator) ** 2
    clear_BHW = torch.ones(batch, height, width)
    layers = ((6500.0, 0.95, 4.0, 5, 1), (1250.0, 2.6, 10.0, 24, 1), (110.0, 7.5, 20.0, 80, 2))
    for per_megapixel, radius, smear, points, shrink in layers:
        share_B = uniform(batch, 0.1, 1.9, generator) * (0.08 + 0.92 * strength_B)
        size = fraction(height, width, shrink)
        dense_B = share_B * per_megapixel / scale**2 * shrink**2
        radius_B = radius * scale * uniform(batch, 0.8, 1.2, generator) * between(strength_B, 0.8, 1.25)
        smear_B = smear * scale * speed_B
        layer_Bhw = _flake_layer(dense_B, radius_B / shrink, smear_B / shrink, wind_B, points, size, moment)
        clear_BHW *= 1 - resize(layer_Bhw[:, None], (height, width))[:, 0]
    return 1 - clear_BHW


def _flake_layer(
    dense_B: Tensor,
    radius_B: Tensor,
    smear_B: Tensor,
    wind_B: Tensor,
    points: int,
    size: tuple[int, int],
    generator: Generator,
) -> Tensor:
    """BHW coverage of dense_B flakes per megapixel, each a random cluster of points, so irregular."""
    sample_P, y_P1, x_P1 = scatter(dense_B, 2 * float(radius_B.max()), size, generator)
    cluster = (len(sample_P), points)
    radius_P1 = (radius_B[sample_P] * uniform(cluster[0], 0.5, 1.6, generator))[:, None]
    light_P1 = uniform(cluster[0], 0.5, 1.0, generator)[:, None]
    wind_P1 = (wind_B[sample_P] + 0.2 * torch.randn(cluster[0], generator=generator))[:, None]
    travel_PK = (torch.rand(cluster, generator=generator) - 0.5) * smear_B[sample_P][:, None]
    angle_PK = 2 * math.pi * torch.rand(cluster, generator=generator)
    reach_PK = radius_P1 * torch.rand(cluster, generator=generator).sqrt()  # sqrt: even over the disc
    y_PK = y_P1 + reach_PK * torch.sin(angle_PK) + travel_PK * torch.cos(wind_P1)
    x_PK = x_P1 + reach_PK * torch.cos(angle_PK) + travel_PK * torch.sin(wind_P1)
    weight_PK = (light_P1 * math.pi * radius_P1**2 / points).expand(cluster)
    dots_BHW = splat(sample_P, y_PK, x_PK, weight_PK, (len(dense_B), *size))
    return 1 - torch.exp(-1.8 * gaussian_blur(dots_BHW, 0.35 * radius_B + 0.2))
