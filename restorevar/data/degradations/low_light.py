"""Low light: too short an exposure, and the noise of the sensor in it."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from .maps import fraction, resize, smooth_noise, soften
from .per_sample import between, chance, spread, uniform


def low_light(image_B3HW: Tensor, strength_B: Tensor, generator: Generator, moment: Generator | None = None) -> Tensor:
    """A photograph taken with too little light: exposure, tone, colour cast, sensor noise, 8 bits.

    Darkness as in LOL (Wei et al., 2018): mean about 0.05 to 0.2 of full scale. Exposure and noise act on
    linear light, where photons add up; noise is Gaussian with the Poisson variance of shot noise plus a
    constant read variance (Foi et al., 2008). moment: draws the noise; the same generator otherwise makes frames
    of one camera.
    """
    batch = len(image_B3HW)
    light_B3HW = _dim(to_linear(image_B3HW), strength_B, generator)
    cast_B3 = 1 + 0.06 * torch.randn(batch, 3, generator=generator).clamp(-2, 2)
    light_B3HW = _soften_some(light_B3HW * cast_B3[..., None, None], generator)
    noisy_B3HW = light_B3HW + _sensor_noise(light_B3HW, strength_B, generator, moment or generator)
    encoded_B3HW = to_srgb(noisy_B3HW.clamp(0, 1))
    return (encoded_B3HW * 255).round() / 255


def _dim(light_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """Lower the exposure of linear light, with uneven illumination and a tone curve at times.

    Some samples are 'night': the curve is steeper and the exposure higher, so that lamps and skies stay
    bright while shadows drown, as in photographs against the light.
    """
    batch, _, height, width = light_B3HW.shape
    exposure_B = torch.exp(between(strength_B, math.log(0.45), math.log(0.025)))
    exposure_B = exposure_B * torch.exp(uniform(batch, -0.25, 0.25, generator))
    metered_B = (0.18 / light_B3HW.mean(dim=(1, 2, 3)).clamp(min=1e-3)).clamp(0.7, 4.0).sqrt()
    exposure_B = exposure_B * metered_B  # a scene dark by nature is exposed longer, or nothing is left of it
    night_B = chance(batch, 0.3, generator)
    gamma_B = torch.where(night_B, 1.1 + 0.7 * strength_B, uniform(batch, 0.95, 1.2, generator))
    exposure_B = torch.where(night_B, exposure_B.sqrt(), exposure_B)
    uneven_B = torch.where(chance(batch, 0.4, generator), uniform(batch, 0.3, 1.0, generator), 0.0)
    lamp_BHW = 2 * smooth_noise(batch, height, width, generator, cells=2, octaves=1) - 1
    lamp_BHW = torch.exp(uneven_B[:, None, None] * lamp_BHW)
    return light_B3HW.clamp(min=1e-6) ** spread(gamma_B) * spread(exposure_B) * lamp_BHW[:, None]


def _soften_some(light_B3HW: Tensor, generator: Generator) -> Tensor:
    """Blur a quarter of the samples slightly, as a wide aperture or in-camera denoising does."""
    chosen_S = chance(len(light_B3HW), 0.25, generator).nonzero()[:, 0]
    if len(chosen_S) == 0:
        return light_B3HW
    sigma_S = uniform(len(chosen_S), 0.4, 1.0, generator)
    softened_B3HW = light_B3HW.clone()
    softened_B3HW[chosen_S] = soften(light_B3HW[chosen_S], sigma_S)
    return softened_B3HW


def _sensor_noise(light_B3HW: Tensor, strength_B: Tensor, generator: Generator, moment: Generator) -> Tensor:
    """B3HW shot and read noise for linear light, part of it blotchy as in-camera denoising leaves it."""
    batch, _, height, width = light_B3HW.shape
    shot_B = torch.exp(uniform(batch, math.log(3e-5), math.log(1.2e-3), generator)) * (0.3 + strength_B)
    read_B = torch.exp(uniform(batch, math.log(1e-4), math.log(2.5e-3), generator)) * (0.3 + strength_B)
    sigma_B3HW = (spread(shot_B) * light_B3HW + spread(read_B) ** 2).sqrt()
    fine_B3HW = torch.randn(light_B3HW.shape, generator=moment)
    coarse_B3hw = torch.randn(batch, 3, *fraction(height, width, 3), generator=moment)
    blotchy_B3HW = resize(coarse_B3hw, (height, width))
    blotchy_B = torch.where(chance(batch, 0.4, generator), uniform(batch, 0.3, 0.9, generator), 0.0)
    return sigma_B3HW * torch.lerp(fine_B3HW, blotchy_B3HW, spread(blotchy_B))


def to_linear(srgb: Tensor) -> Tensor:
    """Decode sRGB to linear light (IEC 61966-2-1), any shape."""
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: Tensor) -> Tensor:
    """Encode linear light as sRGB (IEC 61966-2-1), any shape."""
    return torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp(min=1e-8) ** (1 / 2.4) - 0.055)
