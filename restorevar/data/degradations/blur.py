"""Blur: camera shake, straight motion, defocus."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ...models.filtering import convolve
from .maps import pixel_scale, smooth_noise
from .particles import splat
from .per_sample import between, chance, spread, uniform


def blur(image_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """Camera shake, straight motion or defocus, at times different in parts of the image.

    Half the samples are blurred in (roughly) linear light, as GoPro averages frames (Nah et al., 2017),
    half in sRGB; light noise comes after, since the sensor adds it to the blurred light.
    """
    batch, _, height, width = image_B3HW.shape
    gamma_B = torch.where(chance(batch, 0.5, generator), 2.2, 1.0)
    light_B3HW = image_B3HW.clamp(min=1e-6) ** spread(gamma_B)
    span_B = between(strength_B, 3.0, 30.0) * pixel_scale(height, width)
    blurred_B3HW = convolve(light_B3HW, _blur_kernels(span_B, generator))
    blurred_B3HW = _blur_apart(light_B3HW, blurred_B3HW, span_B, generator)
    encoded_B3HW = blurred_B3HW.clamp(min=1e-6) ** spread(1 / gamma_B)
    sigma_B = 0.01 * uniform(batch, 0.0, 1.0, generator) ** 2
    noise_B3HW = torch.randn(image_B3HW.shape, generator=generator)
    return (encoded_B3HW + spread(sigma_B) * noise_B3HW).clamp(0, 1)


def _blur_apart(light_B3HW: Tensor, blurred_B3HW: Tensor, span_B: Tensor, generator: Generator) -> Tensor:
    """Give a third of the samples a second kernel inside a soft mask: something moves on its own."""
    batch, _, height, width = light_B3HW.shape
    chosen_S = chance(batch, 0.35, generator).nonzero()[:, 0]
    if len(chosen_S) == 0:
        return blurred_B3HW
    span_S = (span_B[chosen_S] * uniform(len(chosen_S), 0.0, 1.0, generator)).clamp(min=1.0)
    other_S3HW = convolve(light_B3HW[chosen_S], _blur_kernels(span_S, generator))
    noise_SHW = smooth_noise(len(chosen_S), height, width, generator, cells=2, octaves=1)
    mask_S1HW = torch.sigmoid(25 * (noise_SHW - 0.5))[:, None]
    mixed_B3HW = blurred_B3HW.clone()
    mixed_B3HW[chosen_S] = torch.lerp(blurred_B3HW[chosen_S], other_S3HW, mask_S1HW)
    return mixed_B3HW


def _blur_kernels(span_B: Tensor, generator: Generator) -> Tensor:
    """BKK kernels of sum 1 and about span_B pixels across: shake (half), straight motion, defocus."""
    batch = len(span_B)
    side = 2 * math.ceil(float(span_B.max()) / 2) + 3
    motion_BKK = _motion_kernels(span_B, side, generator)
    defocus_BKK = disc_kernels(0.3 * span_B, side)
    defocus_B = chance(batch, 0.22, generator)
    kernel_BKK = torch.where(defocus_B[:, None, None], defocus_BKK, motion_BKK)
    return kernel_BKK / kernel_BKK.sum(dim=(1, 2), keepdim=True)


def _motion_kernels(span_B: Tensor, side: int, generator: Generator) -> Tensor:
    """BKK light left by a point along a smooth random path (shake) or a straight one, splatted sub-pixel."""
    batch, steps = len(span_B), 96
    wander_B1 = torch.where(chance(batch, 0.35, generator), 0.03, uniform(batch, 0.15, 1.0, generator))[:, None]
    turn_BK = torch.randn(batch, steps, generator=generator).cumsum(dim=1) * wander_B1 / math.sqrt(steps)
    heading_BK = 2 * math.pi * torch.rand(batch, 1, generator=generator) + 3 * turn_BK
    speed_BK = 1 + 0.6 * _smooth_rows(batch, steps, generator)
    path_BK2 = (torch.stack([heading_BK.sin(), heading_BK.cos()], dim=-1) * speed_BK[..., None]).cumsum(dim=1)
    middle_B12 = (path_BK2.amax(dim=1, keepdim=True) + path_BK2.amin(dim=1, keepdim=True)) / 2
    path_BK2 = path_BK2 - middle_B12
    reach_B11 = path_BK2.norm(dim=-1).amax(dim=1)[:, None, None].clamp(min=1e-6)
    path_BK2 = path_BK2 / reach_B11 * (span_B / 2)[:, None, None] + side // 2
    ones_BK = torch.ones(batch, steps)
    return splat(torch.arange(batch), path_BK2[..., 0], path_BK2[..., 1], ones_BK, (batch, side, side))


def _smooth_rows(batch: int, length: int, generator: Generator) -> Tensor:
    """Random smooth curves in about [-1, 1], one row per sample."""
    knots = 2 * torch.rand(batch, 1, 6, generator=generator) - 1
    return F.interpolate(knots, size=length, mode="linear", align_corners=True)[:, 0]


def disc_kernels(radius_B: Tensor, side: int) -> Tensor:
    """BKK discs with a soft rim of one pixel: the image of a point out of focus."""
    offset_K = torch.arange(side) - side // 2
    distance_KK = (offset_K[:, None] ** 2 + offset_K[None, :] ** 2).sqrt()
    return (radius_B[:, None, None] + 0.5 - distance_KK).clamp(0, 1)
