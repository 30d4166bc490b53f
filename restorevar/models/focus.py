"""Focus last: how soft a photo is, and which way, decided from the statistics of its details.

The details of sharp photographs are strong in much the same proportion from one scale and direction to the next; blur
takes from the fine ones, motion from those across it. A few numbers tell, and what they ask for is a few numbers too:
how much of the photo's curvature to subtract, by scale and direction. U-Nets that must see every pixel learned in hours
to leave each blurred photo as it is (docs/log.md); this learns from thousands of photos in minutes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Distances in pixels at which curvature is taken to sharpen with, and those at which it is looked at.
REACHES = (1, 2, 4)
LOOKED_AT = (1, 2, 4, 8)
#: Channels of `curvature` at each distance: across, down, and the mixed one, which leans.
DIRECTIONS = 3
#: Less than the steps of 8 bits: flat surfaces are alike.
FLAT = 1e-4


def curvature(x_NHW: Tensor, reaches: tuple[int, ...], raw: bool = False) -> Tensor:
    """Second differences (N, 3 a reach, H, W) of what is smooth at each of the distances; `raw`: of the image first."""
    kernels = _kernels(x_NHW)[:, None]
    smooth = [(1, x_NHW), *_smooth(x_NHW, reaches)] if raw else _smooth(x_NHW, reaches)
    with torch.autocast(x_NHW.device.type, enabled=False):  # small differences of large numbers
        return torch.cat([_differences(maps_NHW[:, None], reach, kernels) for reach, maps_NHW in smooth], dim=1)


def _kernels(like: Tensor) -> Tensor:
    """(3, 3, 3): second differences across, down, and the mixed one."""
    flat, step = [0.0, 0.0, 0.0], [1.0, -2.0, 1.0]
    across = [flat, step, flat]
    leaning = [[0.25, 0.0, -0.25], flat, [-0.25, 0.0, 0.25]]
    return like.new_tensor([across, list(zip(*across, strict=True)), leaning])


def _smooth(x_NHW: Tensor, reaches: tuple[int, ...]) -> list[tuple[int, Tensor]]:
    """By the B3 spline "a trous": each distance from the one before, twice as far apart."""
    count = int(x_NHW.shape[0])
    spline = x_NHW.new_tensor((0.0625, 0.25, 0.375, 0.25, 0.0625))
    across, down = (spline.view(1, 1, *shape).expand(count, 1, *shape) for shape in ((1, 5), (5, 1)))
    smooth, found = x_NHW[None], []
    with torch.autocast(x_NHW.device.type, enabled=False):
        for reach in reaches:
            wide, high = [2 * reach] * 2 + [0, 0], [0, 0] + [2 * reach] * 2
            smooth = F.conv2d(F.pad(smooth, wide, mode="replicate"), across, dilation=reach, groups=count)
            smooth = F.conv2d(F.pad(smooth, high, mode="replicate"), down, dilation=reach, groups=count)
            found.append((reach, smooth[0]))
    return found


def _differences(maps_BCHW: Tensor, reach: int, kernels: Tensor, groups: int = 1) -> Tensor:
    return F.conv2d(F.pad(maps_BCHW, [reach] * 4, mode="replicate"), kernels, dilation=reach, groups=groups)


class FocusNet(nn.Module):
    """Statistics of a photo's curvature -> how much of it to add, by distance and direction; none at the start."""

    def __init__(self, hidden: int = 64):
        super().__init__()
        bands = DIRECTIONS * (1 + len(LOOKED_AT))
        self.first = nn.Linear(4 * bands, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.shares = nn.Linear(hidden, DIRECTIONS * len(REACHES))
        nn.init.zeros_(self.shares.weight)
        nn.init.zeros_(self.shares.bias)

    def forward(self, seen_BF: Tensor) -> Tensor:
        """`statistics` -> shares (B, 9), float32."""
        h = F.gelu(self.first(seen_BF.to(self.first.weight.dtype)))
        return self.shares(F.gelu(self.second(h))).float()

    def look(self, image_B3HW: Tensor) -> Tensor:
        """Shares (B, 9) for whole images in [-1, 1]."""
        return self(statistics(image_B3HW))


def statistics(image_B3HW: Tensor) -> Tensor:
    """(B, 60) of an image in [-1, 1]: how strong and how sparse its curvature is in each band, and which way it leans.

    Each about 0 on the mean of photographs, and mostly within 3.
    """
    luma_BHW = (image_B3HW.float() * image_B3HW.new_tensor((0.299, 0.587, 0.114)).float()[:, None, None]).sum(1) / 2
    bands_BKHW = curvature(luma_BHW, LOOKED_AT, raw=True)
    square_BKHW = bands_BKHW.square()
    power_BK = square_BKHW.mean((2, 3)) + FLAT**2
    strength_BK = power_BK.log() / 2
    # Of the mean and of the fourth power to the square: noise is dense, edges are sparse.
    density_BK = (bands_BKHW.abs().mean((2, 3)) + FLAT).log() - strength_BK
    peaks_BK = (square_BKHW.square().mean((2, 3)) + FLAT**4).log() / 4 - strength_BK
    triples, size = bands_BKHW.unflatten(1, (-1, DIRECTIONS)), power_BK.sqrt().unflatten(1, (-1, DIRECTIONS))
    leaning = [
        (triples[:, :, i] * triples[:, :, j]).mean((2, 3)) / (size[:, :, i] * size[:, :, j])
        for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    scaled = [(strength_BK + 5) / 1.2, (density_BK + 0.6) / 0.2, (peaks_BK - 0.6) / 0.25, torch.cat(leaning, 1) / 0.3]
    return torch.cat(scaled, dim=1)


def apply_focus(image_B3HW: Tensor, shares_BK: Tensor) -> Tensor:
    """The image with so much of its curvature added; not clamped."""
    colours = image_B3HW.float()
    batch, count = int(colours.shape[0]), int(colours.shape[1])  # numbers: exported kernels must have a known shape
    # What the shares make of the three directions is one kernel a distance: a third of the maps, and no sum over them.
    shares_BRD11 = shares_BK.view(batch, len(REACHES), DIRECTIONS, 1, 1)
    own_BR33 = (shares_BRD11 * _kernels(colours)).sum(2)
    with torch.autocast(colours.device.type, enabled=False):
        for i, (reach, smooth_NHW) in enumerate(_smooth(colours.flatten(0, 1), REACHES)):
            own_N133 = own_BR33[:, i, None].expand(batch, count, 3, 3).reshape(batch * count, 1, 3, 3)
            change = _differences(smooth_NHW[None], reach, own_N133, groups=batch * count)
            colours = colours + change.view_as(colours)
    return colours
