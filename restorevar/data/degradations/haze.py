"""Haze: atmospheric scattering in a depth that is invented where none is known."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from .maps import fraction, luma, resize, smooth_noise, stretch
from .per_sample import between, chance, spread, uniform


def haze(
    image_B3HW: Tensor,
    strength_B: Tensor,
    generator: Generator,
    depth_BHW: Tensor | None = None,
    air: Tensor | None = None,
) -> Tensor:
    """Atmospheric scattering, I = J t + A (1 - t) with t = exp(-beta d) (Koschmieder; Narasimhan 2002).

    Applied to sRGB values, with A and beta in the ranges of RESIDE (Li et al., 2019), somewhat widened.
    depth_BHW in [0, 1] is used as given, in homogeneous air; without it a plausible depth is invented. `air` is the
    colour of the air, B3 or, where its light is uneven, B3HW; else drawn.
    """
    batch, _, height, width = image_B3HW.shape
    beta_B = between(strength_B, 0.35, 2.4) * uniform(batch, 0.85, 1.15, generator)
    air = air_light(batch, generator) if air is None else air
    if depth_BHW is None:
        depth_BHW = _invent_depth(image_B3HW, generator) * _air_density(batch, height, width, generator)
    t_B1HW = torch.exp(-spread(beta_B) * depth_BHW[:, None])
    air_B3HW = air if air.ndim == 4 else air[..., None, None]
    return image_B3HW * t_B1HW + air_B3HW * (1 - t_B1HW)


def air_light(batch: int, generator: Generator) -> Tensor:
    """B3 colour of the air: light grey, mostly neutral, at times bluish (mist) or yellowish (smog)."""
    level_B1 = uniform(batch, 0.7, 1.0, generator)[:, None]
    dusk_B1 = chance(batch, 0.12, generator)[:, None]
    level_B1 = torch.where(dusk_B1, level_B1 - 0.2, level_B1)
    warmth_B1 = 0.035 * torch.randn(batch, 1, generator=generator)
    tint_B3 = 1 + warmth_B1 * torch.tensor([1.0, 0.1, -1.0]) + 0.01 * torch.randn(batch, 3, generator=generator)
    return (level_B1 * tint_B3).clamp(0.4, 1.0)


def _air_density(batch: int, height: int, width: int, generator: Generator) -> Tensor:
    """BHW factor on beta: 1 everywhere for most samples, drifting banks of fog for some."""
    drift_BHW = 0.5 + smooth_noise(batch, height, width, generator, cells=3, octaves=3)
    patchy_B = chance(batch, 0.2, generator)
    return torch.where(patchy_B[:, None, None], drift_BHW, torch.ones(()))


def _invent_depth(image_B3HW: Tensor, generator: Generator) -> Tensor:
    """BHW depth in [0, 1]: a random blend of scene layouts, often snapped to the edges of the image.

    Blended at a quarter of the size (depth is smooth); the guided filter brings the edges back.
    """
    batch, _, height, width = image_B3HW.shape
    small_B3hw = F.interpolate(image_B3HW, size=fraction(height, width, 4), mode="area")
    h, w = small_B3hw.shape[-2:]
    layouts_BLhw = torch.stack(
        [
            ground_plane(batch, h, w, generator),
            _vanishing_point(batch, h, w, generator),
            smooth_noise(batch, h, w, generator, cells=3, octaves=3),
            pale_is_far(small_B3hw),
        ],
        dim=1,
    )
    weight_BL = torch.rand(batch, 4, generator=generator) ** 2  # squared: one layout tends to dominate
    weight_BL = weight_BL * torch.tensor([1.0, 1.0, 0.5, 0.8])  # air is seldom a cloud
    depth_Bhw = (layouts_BLhw * weight_BL[..., None, None]).sum(dim=1)
    depth_BHW = _follow_edges(stretch(depth_Bhw), small_B3hw, image_B3HW, generator)
    return _indoor_or_outdoor(stretch(depth_BHW), generator)


def ground_plane(batch: int, height: int, width: int, generator: Generator) -> Tensor:
    """BHW: near at the bottom, far at the top, slightly tilted, with a horizon above which all is far."""
    y_HW, x_HW = grid(height, width)
    tilt_B11 = uniform(batch, -0.3, 0.3, generator)[:, None, None]
    horizon_B11 = uniform(batch, -0.3, 0.5, generator)[:, None, None]
    below_BHW = (1 - (y_HW + tilt_B11 * (x_HW - 0.5) - horizon_B11) / (1 - horizon_B11)).clamp(0, 1)
    power_B11 = uniform(batch, 0.7, 3.0, generator)[:, None, None]
    return below_BHW**power_B11


def _vanishing_point(batch: int, height: int, width: int, generator: Generator) -> Tensor:
    """BHW: a street or corridor, farthest at one point and nearer all around it."""
    y_HW, x_HW = grid(height, width)
    centre_y_B11 = uniform(batch, 0.1, 0.6, generator)[:, None, None]
    centre_x_B11 = uniform(batch, 0.1, 0.9, generator)[:, None, None]
    radius_BHW = ((y_HW - centre_y_B11) ** 2 + (x_HW - centre_x_B11) ** 2).sqrt()
    reach_B11 = uniform(batch, 0.25, 0.8, generator)[:, None, None]
    return torch.exp(-radius_BHW / reach_B11)


def pale_is_far(image_B3HW: Tensor) -> Tensor:
    """BHW dark channel (He et al., 2009): pale, colourless regions such as skies are mostly far away."""
    dark_B1HW = image_B3HW.amin(dim=1, keepdim=True)
    return -F.max_pool2d(-dark_B1HW, kernel_size=5, stride=1, padding=2)[:, 0]


def _follow_edges(depth_Bhw: Tensor, small_B3hw: Tensor, image_B3HW: Tensor, generator: Generator) -> Tensor:
    """Upsample Bhw depth to BHW by the fast guided filter (He & Sun, 2015); half the samples stay smooth.

    Depth jumps where objects end, which the filter imitates by following the edges of the image.
    """
    radius = max(1, min(depth_Bhw.shape[-2:]) // 12)
    guide_B1hw = luma(small_B3hw)
    depth_B1hw = depth_Bhw[:, None]
    mean_guide, mean_depth = _box(guide_B1hw, radius), _box(depth_B1hw, radius)
    covariance = _box(guide_B1hw * depth_B1hw, radius) - mean_guide * mean_depth
    variance = _box(guide_B1hw**2, radius) - mean_guide**2
    slope = covariance / (variance + 0.003)
    slope = slope * spread(chance(len(slope), 0.5, generator).float())
    offset = mean_depth - slope * mean_guide
    maps_B2HW = resize(torch.cat([_box(slope, radius), _box(offset, radius)], dim=1), image_B3HW.shape[-2:])
    return maps_B2HW[:, 0] * luma(image_B3HW)[:, 0] + maps_B2HW[:, 1]


def _indoor_or_outdoor(depth_BHW: Tensor, generator: Generator) -> Tensor:
    """Squeeze the depth range of some samples: a room is all at about the same distance."""
    batch = len(depth_BHW)
    near_B = torch.where(
        chance(batch, 0.2, generator),
        uniform(batch, 0.3, 0.6, generator),
        uniform(batch, 0.0, 0.25, generator),
    )
    far_B = torch.where(near_B > 0.28, near_B + 0.3, torch.ones(()))
    return near_B[:, None, None] + (far_B - near_B)[:, None, None] * depth_BHW


def grid(height: int, width: int) -> tuple[Tensor, Tensor]:
    """HW coordinates in [0, 1]: y grows downwards, x to the right."""
    y_HW, x_HW = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return y_HW, x_HW


def _box(maps_BCHW: Tensor, radius: int) -> Tensor:
    """Mean over a (2 radius + 1) square, counting only pixels inside the image."""
    return F.avg_pool2d(maps_BCHW, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)
