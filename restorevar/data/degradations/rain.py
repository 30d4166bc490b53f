"""Rain: streaks near and far, and the mist of heavy rain."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from .maps import gaussian_blur, pixel_scale
from .particles import scatter, splat, veil
from .per_sample import between, chance, spread, uniform


def rain(image_B3HW: Tensor, strength_B: Tensor, generator: Generator, moment: Generator | None = None) -> Tensor:
    """Streaks in three distances, semi-transparent, and the mist of heavy rain.

    Strength 0.2 resembles Rain100L (few, thin streaks), 0.9 Rain100H (dense, bright, long; Yang et al.,
    2017). The streaks of one photograph fall in about one direction, now and then in several.
    moment: draws the single streaks; the same generator otherwise makes frames of one shower.
    """
    batch, _, height, width = image_B3HW.shape
    streaks_BHW = streaks(strength_B, height, width, generator, moment or generator)
    light_B = between(strength_B, 0.3, 0.8) * uniform(batch, 0.6, 1.2, generator)
    screen_B = uniform(batch, 0.5, 1.0, generator)  # 0 adds light as Rain100 does, 1 never overexposes
    misty_B3HW = veil(image_B3HW, 0.45 * strength_B**1.5, generator)
    added_B1HW = spread(light_B) * streaks_BHW[:, None]
    return (misty_B3HW + added_B1HW * (1 - spread(screen_B) * misty_B3HW)).clamp(0, 1)


def streaks(strength_B: Tensor, height: int, width: int, generator: Generator, moment: Generator) -> Tensor:
    """BHW coverage in [0, 1] of far (short, thin, many), middle and near (long, wide, few) streaks."""
    batch = len(strength_B)
    scale = pixel_scale(height, width)
    fall_B = 0.35 * torch.randn(batch, generator=generator).clamp(-2, 2)
    unruly_B = torch.where(chance(batch, 0.12, generator), 0.3, 0.04)
    pace_B = uniform(batch, 0.6, 1.5, generator)
    total_BHW = torch.zeros(batch, height, width)
    for per_megapixel, length, sigma in ((9000.0, 16.0, 0.4), (3000.0, 36.0, 0.5), (320.0, 85.0, 0.9)):
        share_B = uniform(batch, 0.2, 1.8, generator) * (0.04 + 0.96 * strength_B**1.5)
        dense_B = share_B * per_megapixel / scale**2
        length_B = length * scale * pace_B * between(strength_B, 0.7, 1.3)
        angle_B = fall_B + unruly_B * torch.randn(batch, generator=generator)
        sigma_B = sigma * scale * uniform(batch, 0.8, 1.4, generator)
        total_BHW += _streak_layer(dense_B, length_B, angle_B, sigma_B, (height, width), moment)
    return 1 - torch.exp(-1.2 * total_BHW)


def _streak_layer(
    dense_B: Tensor,
    length_B: Tensor,
    angle_B: Tensor,
    sigma_B: Tensor,
    size: tuple[int, int],
    generator: Generator,
) -> Tensor:
    """BHW sum of dense_B tapered lines per megapixel, length_B px long, at angle_B (0: straight down)."""
    longest = 1.4 * float(length_B.max())
    sample_P, y_P1, x_P1 = scatter(dense_B, longest / 2, size, generator)
    particles = len(sample_P)
    length_P1 = (length_B[sample_P] * uniform(particles, 0.5, 1.4, generator))[:, None]
    angle_P1 = (angle_B[sample_P] + 0.03 * torch.randn(particles, generator=generator))[:, None]
    light_P1 = uniform(particles, 0.2, 1.0, generator)[:, None]
    along_K = torch.linspace(-0.5, 0.5, int(longest) + 2)
    taper_K = torch.cos(math.pi * along_K).clamp(min=0)
    y_PK = y_P1 + length_P1 * torch.cos(angle_P1) * along_K
    x_PK = x_P1 + length_P1 * torch.sin(angle_P1) * along_K
    weight_PK = light_P1 * taper_K * length_P1 / len(along_K)  # the same light per pixel at any length
    lines_BHW = splat(sample_P, y_PK, x_PK, weight_PK, (len(dense_B), *size))
    return gaussian_blur(lines_BHW, sigma_B) * (1 + 2 * sigma_B)[:, None, None]
