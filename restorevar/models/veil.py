"""The photo without the veil before it, by the dark channel prior: what the fidelity branch is shown beside the photo.

K. He, J. Sun, X. Tang, "Single image haze removal using dark channel prior", CVPR 2009, with the fast guided filter (He
and Sun 2015, arXiv 1505.00996) in place of soft matting. A minimum over surroundings is what convolutions and means are
worst at, and it holds for any haze, not only for the one a network was trained on. What it gets wrong (white things,
skies, photos without any haze) is for the network to know.

Ours is that grain stays as it is: what JPEG and a camera's noise leave in dense fog would be lifted ten times as well.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import VEIL_CELL as CELL

#: Depth is smooth: all but the last step is computed in cells. Cells a side of the surroundings whose darkest pixel
#: counts, and of the windows of the guided filter.
SURROUNDINGS, WINDOW = 5, 11
#: Of the veil that is taken away: a little makes distance visible (section 4.2 there).
OMEGA = 0.95
#: Least transmission: where nothing shines through there is nothing to bring back (section 4.3).
LEAST = 0.1
#: Standard deviation of grain, of values in [0, 1], that matters where the veil is lifted to twice the contrast; and of
#: blots of colour. Chosen by looking at fog and by validation crops (docs/log.md).
GRAIN, COLOUR_GRAIN = 0.6 / 255, 0.3 / 255
#: Variance of the brightness, of values in [0, 1], below which the guided filter smooths edges away.
EPSILON = 1e-3
#: How fast a cell stops counting for the colour of the air as its dark channel falls below the highest: to 1/e in this.
AIR_FALL = 0.004


def lift_veil(image_B3HW: Tensor) -> Tensor:
    """Image (B, 3, H, W) in [-1, 1], sides multiples of 4 -> (B, 4, H, W): the image without veil, in [-1, 1], and
    the transmission, 1 where there is no veil, in [0.1, 1]. float32, without a gradient.
    """
    with torch.no_grad(), torch.autocast(image_B3HW.device.type, enabled=False):
        image = (image_B3HW.detach().float() + 1) / 2
        dark_B3hw = dark_cells(image)
        small_B3hw = F.avg_pool2d(image, CELL)
        air_B311 = _air(small_B3hw, _surroundings(dark_B3hw.amin(1, keepdim=True)))
        veil_B1hw = _surroundings((dark_B3hw / air_B311).amin(1, keepdim=True))
        guide_B1HW = image.mean(1, keepdim=True)
        through = _guided(1 - OMEGA * veil_B1hw, guide_B1HW).clamp(LEAST, 1)
        plain = _without_grain(image, small_B3hw, through)
        behind = _without_blots(plain - air_B311, through)
        lifted = behind / through + air_B311 + (image - plain)
        return torch.cat([lifted.clamp(0, 1) * 2 - 1, through], dim=1)


def dark_cells(image_BCHW: Tensor) -> Tensor:
    """The darkest pixel of each cell, channel by channel; cells at the edges may be smaller."""
    return -F.max_pool2d(-image_BCHW, CELL, ceil_mode=True)


def _without_grain(image_B3HW: Tensor, small_B3hw: Tensor, through_B1HW: Tensor) -> Tensor:
    """The image, made even where it differs from its surroundings by no more than grain does.

    Blocks of JPEG and noise lie before the veil, not behind it: divided by a small transmission they are all that is
    seen of dense fog. The guided filter with the image as its own guide keeps a = v / (v + e) of what differs from the
    surroundings, with v its variance and e that of grain, worse the more the veil is lifted.
    """
    mean_B3hw = _box(small_B3hw)
    variance_B3hw = (_box(F.avg_pool2d(image_B3HW.square(), CELL)) - mean_B3hw.square()).clamp(min=0)
    slope = _box(_share_above(variance_B3hw, GRAIN, F.avg_pool2d(through_B1HW, CELL)))
    return _along(slope, mean_B3hw * (1 - slope), image_B3HW)


def _without_blots(behind_B3HW: Tensor, through_B1HW: Tensor) -> Tensor:
    """What differs from the air, with less colour where that is as little as grain: cameras save colours coarsely."""
    gray = behind_B3HW.mean(1, keepdim=True)
    colour = behind_B3HW - gray
    power = colour.square().mean(1, keepdim=True)
    return gray + colour * _share_above(power, COLOUR_GRAIN, through_B1HW)


def _share_above(variance: Tensor, grain: float, through: Tensor) -> Tensor:
    """In [0, 1], how much of what varies so is the scene's: grain counts the more, the more the veil is lifted."""
    return variance / (variance + (grain * (1 / through - 1)).square() + 1e-8)


def _surroundings(dark_B1hw: Tensor) -> Tensor:
    """The darkest of the cells around each."""
    return -F.max_pool2d(-dark_B1hw, SURROUNDINGS, stride=1, padding=SURROUNDINGS // 2)


def _air(small_B3hw: Tensor, dark_B1hw: Tensor) -> Tensor:
    """(B, 3, 1, 1) colour of the air: the mean of the cells, those counting most whose dark channel is highest.

    Not their brightest pixel, as published: smooth in the image, so that neighbouring windows agree.
    """
    weight = ((dark_B1hw - dark_B1hw.amax((2, 3), keepdim=True)) / AIR_FALL).exp()
    air = (small_B3hw * weight).sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True)
    return air.clamp_min(0.05)  # black photos are divided by it


def _guided(plane_B1hw: Tensor, guide_B1HW: Tensor) -> Tensor:
    """The plane, of cells, with the edges of the guide, of pixels: in every window a line a * guide + b is fitted."""
    small = F.avg_pool2d(guide_B1HW, CELL)
    mean_guide, mean_plane = _box(small, WINDOW), _box(plane_B1hw, WINDOW)
    covariance = _box(small * plane_B1hw, WINDOW) - mean_guide * mean_plane
    slope = covariance / (_box(small * small, WINDOW) - mean_guide**2 + EPSILON)
    return _along(_box(slope, WINDOW), _box(mean_plane - slope * mean_guide, WINDOW), guide_B1HW)


def _along(slope_BChw: Tensor, offset_BChw: Tensor, image_BCHW: Tensor) -> Tensor:
    """slope * image + offset, both of them brought from cells to pixels: the fast guided filter's last step."""
    lines = torch.cat([slope_BChw, offset_BChw], dim=1)
    slope, offset = F.interpolate(lines, scale_factor=CELL, mode="bilinear", align_corners=False).chunk(2, dim=1)
    return slope * image_BCHW + offset


def _box(values_BChw: Tensor, side: int = SURROUNDINGS) -> Tensor:
    """Mean over a square of `side` cells, counting only those inside the image."""
    return F.avg_pool2d(values_BChw, side, stride=1, padding=side // 2, count_include_pad=False)
