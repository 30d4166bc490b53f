"""Haze, rain, snow, low light and blur, made from clean photographs by simple physics.

Every degradation has the same shape:

    image_B3HW   float32 in [0, 1], sRGB-encoded, any H, W >= 8; never modified
    strength_B   float in [0, 1]; 0 is barely visible, 1 is heavy
    generator    a CPU `torch.Generator`, the only source of chance: same seed, same result
                 (the images are on the CPU, too)

and returns a degraded B3HW in [0, 1]. Everything strength does not fix (colours, directions, sizes,
depth) is drawn at random per sample. Sizes are in pixels of a photograph 512 to 768 pixels wide, so that a
crop of such a photograph looks like a crop; larger photographs scale them up mildly.

Suffixes name dimensions: B sample, 3 colour, H height, W width, P particle, K kernel row or column.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Generator, Tensor

REFERENCE_SIDE = 768  # photographs with a longer side than this get larger streaks, flakes and kernels
LUMA_3 = torch.tensor([0.299, 0.587, 0.114])


# ---------------------------------------------------------------------------------------------- haze


def haze(image_B3HW: Tensor, strength_B: Tensor, generator: Generator, depth_BHW: Tensor | None = None) -> Tensor:
    """Atmospheric scattering, I = J t + A (1 - t) with t = exp(-beta d) (Koschmieder; Narasimhan 2002).

    Applied to sRGB values, with A and beta in the ranges of RESIDE (Li et al., 2019), somewhat widened.
    depth_BHW in [0, 1] is used as given, in homogeneous air; without it a plausible depth is invented.
    """
    batch, _, height, width = image_B3HW.shape
    beta_B = _between(strength_B, 0.35, 2.4) * _uniform(batch, 0.85, 1.15, generator)
    air_B3 = _air_light(batch, generator)
    if depth_BHW is None:
        depth_BHW = _invent_depth(image_B3HW, generator) * _air_density(batch, height, width, generator)
    t_B1HW = torch.exp(-_spread(beta_B) * depth_BHW[:, None])
    return image_B3HW * t_B1HW + air_B3[..., None, None] * (1 - t_B1HW)


def _air_light(batch: int, generator: Generator) -> Tensor:
    """B3 colour of the air: light grey, mostly neutral, at times bluish (mist) or yellowish (smog)."""
    level_B1 = _uniform(batch, 0.7, 1.0, generator)[:, None]
    dusk_B1 = _chance(batch, 0.12, generator)[:, None]
    level_B1 = torch.where(dusk_B1, level_B1 - 0.2, level_B1)
    warmth_B1 = 0.035 * torch.randn(batch, 1, generator=generator)
    tint_B3 = 1 + warmth_B1 * torch.tensor([1.0, 0.1, -1.0]) + 0.01 * torch.randn(batch, 3, generator=generator)
    return (level_B1 * tint_B3).clamp(0.4, 1.0)


def _air_density(batch: int, height: int, width: int, generator: Generator) -> Tensor:
    """BHW factor on beta: 1 everywhere for most samples, drifting banks of fog for some."""
    drift_BHW = 0.5 + _smooth_noise(batch, height, width, generator, cells=3, octaves=3)
    patchy_B = _chance(batch, 0.2, generator)
    return torch.where(patchy_B[:, None, None], drift_BHW, torch.ones(()))


def _invent_depth(image_B3HW: Tensor, generator: Generator) -> Tensor:
    """BHW depth in [0, 1]: a random blend of scene layouts, often snapped to the edges of the image.

    Blended at a quarter of the size (depth is smooth); the guided filter brings the edges back.
    """
    batch, _, height, width = image_B3HW.shape
    small_B3hw = F.interpolate(image_B3HW, size=_fraction(height, width, 4), mode="area")
    h, w = small_B3hw.shape[-2:]
    layouts_BLhw = torch.stack(
        [
            _ground_plane(batch, h, w, generator),
            _vanishing_point(batch, h, w, generator),
            _smooth_noise(batch, h, w, generator, cells=3, octaves=3),
            _pale_is_far(small_B3hw),
        ],
        dim=1,
    )
    weight_BL = torch.rand(batch, 4, generator=generator) ** 2  # squared: one layout tends to dominate
    weight_BL = weight_BL * torch.tensor([1.0, 1.0, 0.5, 0.8])  # air is seldom a cloud
    depth_Bhw = (layouts_BLhw * weight_BL[..., None, None]).sum(dim=1)
    depth_BHW = _follow_edges(_stretch(depth_Bhw), small_B3hw, image_B3HW, generator)
    return _indoor_or_outdoor(_stretch(depth_BHW), generator)


def _ground_plane(batch: int, height: int, width: int, generator: Generator) -> Tensor:
    """BHW: near at the bottom, far at the top, slightly tilted, with a horizon above which all is far."""
    y_HW, x_HW = _grid(height, width)
    tilt_B11 = _uniform(batch, -0.3, 0.3, generator)[:, None, None]
    horizon_B11 = _uniform(batch, -0.3, 0.5, generator)[:, None, None]
    below_BHW = (1 - (y_HW + tilt_B11 * (x_HW - 0.5) - horizon_B11) / (1 - horizon_B11)).clamp(0, 1)
    power_B11 = _uniform(batch, 0.7, 3.0, generator)[:, None, None]
    return below_BHW**power_B11


def _vanishing_point(batch: int, height: int, width: int, generator: Generator) -> Tensor:
    """BHW: a street or corridor, farthest at one point and nearer all around it."""
    y_HW, x_HW = _grid(height, width)
    centre_y_B11 = _uniform(batch, 0.1, 0.6, generator)[:, None, None]
    centre_x_B11 = _uniform(batch, 0.1, 0.9, generator)[:, None, None]
    radius_BHW = ((y_HW - centre_y_B11) ** 2 + (x_HW - centre_x_B11) ** 2).sqrt()
    reach_B11 = _uniform(batch, 0.25, 0.8, generator)[:, None, None]
    return torch.exp(-radius_BHW / reach_B11)


def _pale_is_far(image_B3HW: Tensor) -> Tensor:
    """BHW dark channel (He et al., 2009): pale, colourless regions such as skies are mostly far away."""
    dark_B1HW = image_B3HW.amin(dim=1, keepdim=True)
    return -F.max_pool2d(-dark_B1HW, kernel_size=5, stride=1, padding=2)[:, 0]


def _follow_edges(depth_Bhw: Tensor, small_B3hw: Tensor, image_B3HW: Tensor, generator: Generator) -> Tensor:
    """Upsample Bhw depth to BHW by the fast guided filter (He & Sun, 2015); half the samples stay smooth.

    Depth jumps where objects end, which the filter imitates by following the edges of the image.
    """
    radius = max(1, min(depth_Bhw.shape[-2:]) // 12)
    guide_B1hw = _luma(small_B3hw)
    depth_B1hw = depth_Bhw[:, None]
    mean_guide, mean_depth = _box(guide_B1hw, radius), _box(depth_B1hw, radius)
    covariance = _box(guide_B1hw * depth_B1hw, radius) - mean_guide * mean_depth
    variance = _box(guide_B1hw**2, radius) - mean_guide**2
    slope = covariance / (variance + 0.003)
    slope = slope * _spread(_chance(len(slope), 0.5, generator).float())
    offset = mean_depth - slope * mean_guide
    maps_B2HW = _resize(torch.cat([_box(slope, radius), _box(offset, radius)], dim=1), image_B3HW.shape[-2:])
    return maps_B2HW[:, 0] * _luma(image_B3HW)[:, 0] + maps_B2HW[:, 1]


def _indoor_or_outdoor(depth_BHW: Tensor, generator: Generator) -> Tensor:
    """Squeeze the depth range of some samples: a room is all at about the same distance."""
    batch = len(depth_BHW)
    near_B = torch.where(
        _chance(batch, 0.2, generator),
        _uniform(batch, 0.3, 0.6, generator),
        _uniform(batch, 0.0, 0.25, generator),
    )
    far_B = torch.where(near_B > 0.28, near_B + 0.3, torch.ones(()))
    return near_B[:, None, None] + (far_B - near_B)[:, None, None] * depth_BHW


# ---------------------------------------------------------------------------------------------- rain


def rain(image_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """Streaks in three distances, semi-transparent, and the mist of heavy rain.

    Strength 0.2 resembles Rain100L (few, thin streaks), 0.9 Rain100H (dense, bright, long; Yang et al.,
    2017). The streaks of one photograph fall in about one direction, now and then in several.
    """
    batch, _, height, width = image_B3HW.shape
    streaks_BHW = _streaks(strength_B, height, width, generator)
    light_B = _between(strength_B, 0.3, 0.8) * _uniform(batch, 0.6, 1.2, generator)
    screen_B = _uniform(batch, 0.5, 1.0, generator)  # 0 adds light as Rain100 does, 1 never overexposes
    misty_B3HW = _veil(image_B3HW, 0.45 * strength_B**1.5, generator)
    added_B1HW = _spread(light_B) * streaks_BHW[:, None]
    return (misty_B3HW + added_B1HW * (1 - _spread(screen_B) * misty_B3HW)).clamp(0, 1)


def _streaks(strength_B: Tensor, height: int, width: int, generator: Generator) -> Tensor:
    """BHW coverage in [0, 1] of far (short, thin, many), middle and near (long, wide, few) streaks."""
    batch = len(strength_B)
    scale = _pixel_scale(height, width)
    fall_B = 0.35 * torch.randn(batch, generator=generator).clamp(-2, 2)
    unruly_B = torch.where(_chance(batch, 0.12, generator), 0.3, 0.04)
    pace_B = _uniform(batch, 0.6, 1.5, generator)
    total_BHW = torch.zeros(batch, height, width)
    for per_megapixel, length, sigma in ((9000.0, 16.0, 0.4), (3000.0, 36.0, 0.5), (320.0, 85.0, 0.9)):
        share_B = _uniform(batch, 0.2, 1.8, generator) * (0.04 + 0.96 * strength_B**1.5)
        dense_B = share_B * per_megapixel / scale**2
        length_B = length * scale * pace_B * _between(strength_B, 0.7, 1.3)
        angle_B = fall_B + unruly_B * torch.randn(batch, generator=generator)
        sigma_B = sigma * scale * _uniform(batch, 0.8, 1.4, generator)
        total_BHW += _streak_layer(dense_B, length_B, angle_B, sigma_B, (height, width), generator)
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
    sample_P, y_P1, x_P1 = _scatter(dense_B, longest / 2, size, generator)
    particles = len(sample_P)
    length_P1 = (length_B[sample_P] * _uniform(particles, 0.5, 1.4, generator))[:, None]
    angle_P1 = (angle_B[sample_P] + 0.03 * torch.randn(particles, generator=generator))[:, None]
    light_P1 = _uniform(particles, 0.2, 1.0, generator)[:, None]
    along_K = torch.linspace(-0.5, 0.5, int(longest) + 2)
    taper_K = torch.cos(math.pi * along_K).clamp(min=0)
    y_PK = y_P1 + length_P1 * torch.cos(angle_P1) * along_K
    x_PK = x_P1 + length_P1 * torch.sin(angle_P1) * along_K
    weight_PK = light_P1 * taper_K * length_P1 / len(along_K)  # the same light per pixel at any length
    lines_BHW = _splat(sample_P, y_PK, x_PK, weight_PK, (len(dense_B), *size))
    return _gaussian_blur(lines_BHW, sigma_B) * (1 + 2 * sigma_B)[:, None, None]


def _veil(image_B3HW: Tensor, amount_B: Tensor, generator: Generator) -> Tensor:
    """Uneven thin mist: far drops and flakes too small to see add up to a veil, as haze does."""
    batch, _, height, width = image_B3HW.shape
    drift_BHW = 0.4 + 0.6 * _smooth_noise(batch, height, width, generator, cells=2, octaves=2)
    amount_B1HW = _spread(amount_B * _uniform(batch, 0.0, 1.0, generator)) * drift_BHW[:, None]
    colour_B = _uniform(batch, 0.65, 0.95, generator)
    return image_B3HW + amount_B1HW * (_spread(colour_B) - image_B3HW)


# ---------------------------------------------------------------------------------------------- snow


def snow(image_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """Flakes in three sizes, irregular, out of focus or smeared, translucent, at times with a veil.

    The sizes follow Snow100K (Liu et al., 2018): small, medium and large particles.
    """
    batch, _, height, width = image_B3HW.shape
    flakes_BHW = _flakes(strength_B, height, width, generator)
    opacity_B = _between(strength_B, 0.7, 1.0) * _uniform(batch, 0.8, 1.05, generator)
    colour_B3 = _uniform(batch, 0.85, 1.0, generator)[:, None] - torch.tensor([0.02, 0.01, 0.0])
    veiled_B3HW = _veil(image_B3HW, 0.35 * strength_B, generator)
    alpha_B1HW = (_spread(opacity_B) * flakes_BHW[:, None]).clamp(0, 1)
    return veiled_B3HW + alpha_B1HW * (colour_B3[..., None, None] - veiled_B3HW)


def _flakes(strength_B: Tensor, height: int, width: int, generator: Generator) -> Tensor:
    """BHW coverage in [0, 1] of small, medium and large flakes.

    Each layer is (count per megapixel, radius px, smear px, points per flake, drawn at 1/n of the size).
    Large flakes are near and out of focus, so they can be drawn small and enlarged.
    """
    batch = len(strength_B)
    scale = _pixel_scale(height, width)
    wind_B = 0.6 * torch.randn(batch, generator=generator)
    speed_B = _uniform(batch, 0.0, 1.0, generator) ** 2
    clear_BHW = torch.ones(batch, height, width)
    layers = ((6500.0, 0.95, 4.0, 5, 1), (1250.0, 2.6, 10.0, 24, 1), (110.0, 7.5, 20.0, 80, 2))
    for per_megapixel, radius, smear, points, shrink in layers:
        share_B = _uniform(batch, 0.1, 1.9, generator) * (0.08 + 0.92 * strength_B)
        size = _fraction(height, width, shrink)
        dense_B = share_B * per_megapixel / scale**2 * shrink**2
        radius_B = radius * scale * _uniform(batch, 0.8, 1.2, generator) * _between(strength_B, 0.8, 1.25)
        smear_B = smear * scale * speed_B
        layer_Bhw = _flake_layer(dense_B, radius_B / shrink, smear_B / shrink, wind_B, points, size, generator)
        clear_BHW *= 1 - _resize(layer_Bhw[:, None], (height, width))[:, 0]
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
    sample_P, y_P1, x_P1 = _scatter(dense_B, 2 * float(radius_B.max()), size, generator)
    cluster = (len(sample_P), points)
    radius_P1 = (radius_B[sample_P] * _uniform(cluster[0], 0.5, 1.6, generator))[:, None]
    light_P1 = _uniform(cluster[0], 0.5, 1.0, generator)[:, None]
    wind_P1 = (wind_B[sample_P] + 0.2 * torch.randn(cluster[0], generator=generator))[:, None]
    travel_PK = (torch.rand(cluster, generator=generator) - 0.5) * smear_B[sample_P][:, None]
    angle_PK = 2 * math.pi * torch.rand(cluster, generator=generator)
    reach_PK = radius_P1 * torch.rand(cluster, generator=generator).sqrt()  # sqrt: even over the disc
    y_PK = y_P1 + reach_PK * torch.sin(angle_PK) + travel_PK * torch.cos(wind_P1)
    x_PK = x_P1 + reach_PK * torch.cos(angle_PK) + travel_PK * torch.sin(wind_P1)
    weight_PK = (light_P1 * math.pi * radius_P1**2 / points).expand(cluster)
    dots_BHW = _splat(sample_P, y_PK, x_PK, weight_PK, (len(dense_B), *size))
    return 1 - torch.exp(-1.8 * _gaussian_blur(dots_BHW, 0.35 * radius_B + 0.2))


# ----------------------------------------------------------------------------------------- low light


def low_light(image_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """A photograph taken with too little light: exposure, tone, colour cast, sensor noise, 8 bits.

    Darkness as in LOL (Wei et al., 2018): mean about 0.05 to 0.2 of full scale. Exposure and noise act on
    linear light, where photons add up; noise is Gaussian with the Poisson variance of shot noise plus a
    constant read variance (Foi et al., 2008).
    """
    batch = len(image_B3HW)
    light_B3HW = _dim(to_linear(image_B3HW), strength_B, generator)
    cast_B3 = 1 + 0.06 * torch.randn(batch, 3, generator=generator).clamp(-2, 2)
    light_B3HW = _soften_some(light_B3HW * cast_B3[..., None, None], generator)
    noisy_B3HW = light_B3HW + _sensor_noise(light_B3HW, strength_B, generator)
    encoded_B3HW = to_srgb(noisy_B3HW.clamp(0, 1))
    return (encoded_B3HW * 255).round() / 255


def _dim(light_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """Lower the exposure of linear light, with uneven illumination and a tone curve at times.

    Some samples are 'night': the curve is steeper and the exposure higher, so that lamps and skies stay
    bright while shadows drown, as in photographs against the light.
    """
    batch, _, height, width = light_B3HW.shape
    exposure_B = torch.exp(_between(strength_B, math.log(0.45), math.log(0.025)))
    exposure_B = exposure_B * torch.exp(_uniform(batch, -0.25, 0.25, generator))
    metered_B = (0.18 / light_B3HW.mean(dim=(1, 2, 3)).clamp(min=1e-3)).clamp(0.7, 4.0).sqrt()
    exposure_B = exposure_B * metered_B  # a scene dark by nature is exposed longer, or nothing is left of it
    night_B = _chance(batch, 0.3, generator)
    gamma_B = torch.where(night_B, 1.1 + 0.7 * strength_B, _uniform(batch, 0.95, 1.2, generator))
    exposure_B = torch.where(night_B, exposure_B.sqrt(), exposure_B)
    uneven_B = torch.where(_chance(batch, 0.4, generator), _uniform(batch, 0.3, 1.0, generator), 0.0)
    lamp_BHW = 2 * _smooth_noise(batch, height, width, generator, cells=2, octaves=1) - 1
    lamp_BHW = torch.exp(uneven_B[:, None, None] * lamp_BHW)
    return light_B3HW.clamp(min=1e-6) ** _spread(gamma_B) * _spread(exposure_B) * lamp_BHW[:, None]


def _soften_some(light_B3HW: Tensor, generator: Generator) -> Tensor:
    """Blur a quarter of the samples slightly, as a wide aperture or in-camera denoising does."""
    batch, _, height, width = light_B3HW.shape
    chosen_S = _chance(batch, 0.25, generator).nonzero()[:, 0]
    if len(chosen_S) == 0:
        return light_B3HW
    sigma_S = _uniform(len(chosen_S), 0.4, 1.0, generator)
    maps_MHW = light_B3HW[chosen_S].view(-1, height, width)
    softened_B3HW = light_B3HW.clone()
    softened_B3HW[chosen_S] = _gaussian_blur(maps_MHW, sigma_S.repeat_interleave(3)).view(-1, 3, height, width)
    return softened_B3HW


def _sensor_noise(light_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """B3HW shot and read noise for linear light, part of it blotchy as in-camera denoising leaves it."""
    batch, _, height, width = light_B3HW.shape
    shot_B = torch.exp(_uniform(batch, math.log(3e-5), math.log(1.2e-3), generator)) * (0.3 + strength_B)
    read_B = torch.exp(_uniform(batch, math.log(1e-4), math.log(2.5e-3), generator)) * (0.3 + strength_B)
    sigma_B3HW = (_spread(shot_B) * light_B3HW + _spread(read_B) ** 2).sqrt()
    fine_B3HW = torch.randn(light_B3HW.shape, generator=generator)
    coarse_B3hw = torch.randn(batch, 3, *_fraction(height, width, 3), generator=generator)
    blotchy_B3HW = _resize(coarse_B3hw, (height, width))
    blotchy_B = torch.where(_chance(batch, 0.4, generator), _uniform(batch, 0.3, 0.9, generator), 0.0)
    return sigma_B3HW * torch.lerp(fine_B3HW, blotchy_B3HW, _spread(blotchy_B))


def to_linear(srgb: Tensor) -> Tensor:
    """Decode sRGB to linear light (IEC 61966-2-1), any shape."""
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: Tensor) -> Tensor:
    """Encode linear light as sRGB (IEC 61966-2-1), any shape."""
    return torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp(min=1e-8) ** (1 / 2.4) - 0.055)


# ---------------------------------------------------------------------------------------------- blur


def blur(image_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """Camera shake, straight motion or defocus, at times different in parts of the image.

    Half the samples are blurred in (roughly) linear light, as GoPro averages frames (Nah et al., 2017),
    half in sRGB; light noise comes after, since the sensor adds it to the blurred light.
    """
    batch, _, height, width = image_B3HW.shape
    gamma_B = torch.where(_chance(batch, 0.5, generator), 2.2, 1.0)
    light_B3HW = image_B3HW.clamp(min=1e-6) ** _spread(gamma_B)
    span_B = _between(strength_B, 3.0, 30.0) * _pixel_scale(height, width)
    blurred_B3HW = _convolve(light_B3HW, _blur_kernels(span_B, generator))
    blurred_B3HW = _blur_apart(light_B3HW, blurred_B3HW, span_B, generator)
    encoded_B3HW = blurred_B3HW.clamp(min=1e-6) ** _spread(1 / gamma_B)
    sigma_B = 0.01 * _uniform(batch, 0.0, 1.0, generator) ** 2
    noise_B3HW = torch.randn(image_B3HW.shape, generator=generator)
    return (encoded_B3HW + _spread(sigma_B) * noise_B3HW).clamp(0, 1)


def _blur_apart(light_B3HW: Tensor, blurred_B3HW: Tensor, span_B: Tensor, generator: Generator) -> Tensor:
    """Give a third of the samples a second kernel inside a soft mask: something moves on its own."""
    batch, _, height, width = light_B3HW.shape
    chosen_S = _chance(batch, 0.35, generator).nonzero()[:, 0]
    if len(chosen_S) == 0:
        return blurred_B3HW
    span_S = (span_B[chosen_S] * _uniform(len(chosen_S), 0.0, 1.0, generator)).clamp(min=1.0)
    other_S3HW = _convolve(light_B3HW[chosen_S], _blur_kernels(span_S, generator))
    noise_SHW = _smooth_noise(len(chosen_S), height, width, generator, cells=2, octaves=1)
    mask_S1HW = torch.sigmoid(25 * (noise_SHW - 0.5))[:, None]
    mixed_B3HW = blurred_B3HW.clone()
    mixed_B3HW[chosen_S] = torch.lerp(blurred_B3HW[chosen_S], other_S3HW, mask_S1HW)
    return mixed_B3HW


def _blur_kernels(span_B: Tensor, generator: Generator) -> Tensor:
    """BKK kernels of sum 1 and about span_B pixels across: shake (half), straight motion, defocus."""
    batch = len(span_B)
    side = 2 * math.ceil(float(span_B.max()) / 2) + 3
    motion_BKK = _motion_kernels(span_B, side, generator)
    defocus_BKK = _disc_kernels(0.3 * span_B, side)
    defocus_B = _chance(batch, 0.22, generator)
    kernel_BKK = torch.where(defocus_B[:, None, None], defocus_BKK, motion_BKK)
    return kernel_BKK / kernel_BKK.sum(dim=(1, 2), keepdim=True)


def _motion_kernels(span_B: Tensor, side: int, generator: Generator) -> Tensor:
    """BKK light left by a point along a smooth random path (shake) or a straight one, splatted sub-pixel."""
    batch, steps = len(span_B), 96
    wander_B1 = torch.where(_chance(batch, 0.35, generator), 0.03, _uniform(batch, 0.15, 1.0, generator))[:, None]
    turn_BK = torch.randn(batch, steps, generator=generator).cumsum(dim=1) * wander_B1 / math.sqrt(steps)
    heading_BK = 2 * math.pi * torch.rand(batch, 1, generator=generator) + 3 * turn_BK
    speed_BK = 1 + 0.6 * _smooth_rows(batch, steps, generator)
    path_BK2 = (torch.stack([heading_BK.sin(), heading_BK.cos()], dim=-1) * speed_BK[..., None]).cumsum(dim=1)
    middle_B12 = (path_BK2.amax(dim=1, keepdim=True) + path_BK2.amin(dim=1, keepdim=True)) / 2
    path_BK2 = path_BK2 - middle_B12
    reach_B11 = path_BK2.norm(dim=-1).amax(dim=1)[:, None, None].clamp(min=1e-6)
    path_BK2 = path_BK2 / reach_B11 * (span_B / 2)[:, None, None] + side // 2
    ones_BK = torch.ones(batch, steps)
    return _splat(torch.arange(batch), path_BK2[..., 0], path_BK2[..., 1], ones_BK, (batch, side, side))


def _disc_kernels(radius_B: Tensor, side: int) -> Tensor:
    """BKK discs with a soft rim of one pixel: the image of a point out of focus."""
    offset_K = torch.arange(side) - side // 2
    distance_KK = (offset_K[:, None] ** 2 + offset_K[None, :] ** 2).sqrt()
    return (radius_B[:, None, None] + 0.5 - distance_KK).clamp(0, 1)


def _convolve(image_B3HW: Tensor, kernel_BKK: Tensor) -> Tensor:
    """Convolve each sample with its own kernel by FFT, mirrored at the border (repeated in tiny images)."""
    height, width = image_B3HW.shape[-2:]
    side = kernel_BKK.shape[-1]
    pad = side // 2
    mode = "reflect" if pad < min(height, width) else "replicate"
    padded_B3HW = F.pad(image_B3HW, (pad, pad, pad, pad), mode=mode)
    size = (_fast_length(height + 2 * pad), _fast_length(width + 2 * pad))
    spectrum = torch.fft.rfft2(padded_B3HW, s=size) * torch.fft.rfft2(kernel_BKK, s=size)[:, None]
    full_B3HW = torch.fft.irfft2(spectrum, s=size)
    return full_B3HW[..., 2 * pad : 2 * pad + height, 2 * pad : 2 * pad + width]


# ---------------------------------------------------------------------------------------------- JPEG


def jpeg(image_B3HW: Tensor, quality_B: Tensor) -> Tensor:
    """Encode and decode each sample as JPEG at its own quality (1 to 100)."""
    return torch.stack([_jpeg_one(image, int(q)) for image, q in zip(image_B3HW, quality_B, strict=True)])


def _jpeg_one(image_3HW: Tensor, quality: int) -> Tensor:
    pixels = (image_3HW.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality)
    decoded = np.array(Image.open(buffer).convert("RGB"))
    return torch.from_numpy(decoded).permute(2, 0, 1).float() / 255


# --------------------------------------------------------------------------------------------- tools


def _uniform(count: int, low: float, high: float, generator: Generator) -> Tensor:
    """`count` numbers drawn evenly from [low, high)."""
    return low + (high - low) * torch.rand(count, generator=generator)


def _chance(count: int, probability: float, generator: Generator) -> Tensor:
    """`count` booleans, each true with `probability`."""
    return torch.rand(count, generator=generator) < probability


def _between(strength_B: Tensor, low: float, high: float) -> Tensor:
    """`low` at strength 0, `high` at strength 1."""
    return low + (high - low) * strength_B


def _spread(value_B: Tensor) -> Tensor:
    """B -> B111, to broadcast over an image."""
    return value_B[:, None, None, None]


def _pixel_scale(height: int, width: int) -> float:
    """Larger photographs have larger streaks, flakes and kernels, but less than in proportion."""
    return math.sqrt(max(1.0, max(height, width) / REFERENCE_SIDE))


def _fraction(height: int, width: int, divisor: int) -> tuple[int, int]:
    return max(2, height // divisor), max(2, width // divisor)


def _grid(height: int, width: int) -> tuple[Tensor, Tensor]:
    """HW coordinates in [0, 1]: y grows downwards, x to the right."""
    y_HW, x_HW = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return y_HW, x_HW


def _resize(maps_BCHW: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(maps_BCHW, size=list(size), mode="bilinear", align_corners=False)


def _luma(image_B3HW: Tensor) -> Tensor:
    """B1HW brightness (Rec. 601)."""
    return (image_B3HW * LUMA_3[:, None, None]).sum(dim=1, keepdim=True)


def _box(maps_BCHW: Tensor, radius: int) -> Tensor:
    """Mean over a (2 radius + 1) square, counting only pixels inside the image."""
    return F.avg_pool2d(maps_BCHW, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)


def _stretch(maps_BHW: Tensor) -> Tensor:
    """Shift and scale each map to fill [0, 1]."""
    low, high = maps_BHW.amin(dim=(1, 2), keepdim=True), maps_BHW.amax(dim=(1, 2), keepdim=True)
    return (maps_BHW - low) / (high - low).clamp(min=1e-6)


def _smooth_noise(batch: int, height: int, width: int, generator: Generator, cells: int, octaves: int) -> Tensor:
    """BHW clouds in [0, 1]: random grids of cells, 2 cells, 4 cells..., enlarged, each half as strong."""
    total_BHW = torch.zeros(batch, height, width)
    for octave in range(octaves):
        side = (cells << octave) + 1
        grid_B1 = torch.rand(batch, 1, side, side, generator=generator)
        enlarged = F.interpolate(grid_B1, size=(height, width), mode="bicubic", align_corners=True)
        total_BHW += 0.5**octave * enlarged[:, 0]
    return _stretch(total_BHW)


def _smooth_rows(batch: int, length: int, generator: Generator) -> Tensor:
    """Random smooth curves in about [-1, 1], one row per sample."""
    knots = 2 * torch.rand(batch, 1, 6, generator=generator) - 1
    return F.interpolate(knots, size=length, mode="linear", align_corners=True)[:, 0]


def _scatter(
    per_megapixel_B: Tensor, margin: float, size: tuple[int, int], generator: Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Throw particles evenly on each image and a margin around it: their sample_P, y_P1 and x_P1.

    A fractional count is rounded up or down by chance, so that small crops are as dense as large ones.
    """
    area = (size[0] + 2 * margin) * (size[1] + 2 * margin) / 1e6
    count_B = (per_megapixel_B * area + torch.rand(len(per_megapixel_B), generator=generator)).long()
    sample_P = torch.repeat_interleave(torch.arange(len(count_B)), count_B)
    y_P1 = _uniform(len(sample_P), -margin, size[0] + margin, generator)[:, None]
    x_P1 = _uniform(len(sample_P), -margin, size[1] + margin, generator)[:, None]
    return sample_P, y_P1, x_P1


def _splat(sample_P: Tensor, y_PK: Tensor, x_PK: Tensor, weight_PK: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Add weighted points at sub-pixel places to an empty BHW, each shared among its four neighbours.

    Row p belongs to image sample_P[p]. A rim around the canvas swallows what falls outside.
    """
    batch, height, width = size
    y_PK, x_PK = (y_PK + 1).clamp(0, height + 1), (x_PK + 1).clamp(0, width + 1)
    top_PK, left_PK = y_PK.long(), x_PK.long()
    down_PK, right_PK = y_PK - top_PK, x_PK - left_PK
    stride = width + 3
    index_PK = (sample_P[:, None] * (height + 3) + top_PK) * stride + left_PK
    canvas = torch.zeros(batch * (height + 3) * stride)
    corners = (
        (0, (1 - down_PK) * (1 - right_PK)),
        (1, (1 - down_PK) * right_PK),
        (stride, down_PK * (1 - right_PK)),
        (stride + 1, down_PK * right_PK),
    )
    for step, share_PK in corners:
        canvas.index_add_(0, (index_PK + step).flatten(), (weight_PK * share_PK).flatten())
    return canvas.view(batch, height + 3, stride)[:, 1 : height + 1, 1 : width + 1]


def _gaussian_blur(maps_BHW: Tensor, sigma_B: Tensor) -> Tensor:
    """Blur each map by its own sigma, rows then columns."""
    radius = max(1, math.ceil(2.5 * float(sigma_B.max())))
    offset_K = torch.arange(-radius, radius + 1)
    kernel_BK = torch.exp(-0.5 * (offset_K / sigma_B[:, None]) ** 2)
    kernel_BK = kernel_BK / kernel_BK.sum(dim=1, keepdim=True)
    batch = len(maps_BHW)
    padded = F.pad(maps_BHW[None], (radius, radius, radius, radius), mode="replicate")
    columns = F.conv2d(padded, kernel_BK[:, None, :, None], groups=batch)
    return F.conv2d(columns, kernel_BK[:, None, None, :], groups=batch)[0]


def _fast_length(length: int) -> int:
    """The next even length with no prime factor above 5, for which FFTs are quick."""
    candidate = length + length % 2
    while True:
        rest = candidate
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return candidate
        candidate += 2


# In the order in which light meets them: the air, what falls through it, the lens, the sensor.
DEGRADATIONS: dict[str, Callable[[Tensor, Tensor, Generator], Tensor]] = {
    "haze": haze,
    "rain": rain,
    "snow": snow,
    "blur": blur,
    "lowlight": low_light,
}
