"""Numbers of a photo that the degradations change: of each block of a grid, and of the whole.

Haze lifts the darkest channel (He et al. 2009) and flattens contrast and colour; rain adds thin bright lines that
run one way, snow bright spots, both over smooth parts, too, where photographs have none; blur takes the fine slopes,
and moves them to fewer directions; low light takes the mean and leaves noise. Blocks, because a sharp face before a
soft ground is no blur, and because what falls from the sky falls everywhere.

Suffixes: G cells of the grid, M measures, 1HW one map over the view.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

#: Blocks along each side.
GRID = 6
#: Sizes at which slopes and curvatures are measured: the view, its half, quarter, eighth.
LEVELS = 4
#: Levels of brightness (of 255) at which slopes drown in rounding.
_FLOOR = 0.2 / 255

_LUMA = (0.299, 0.587, 0.114)
_COLOR_MEASURES, _SHAPE_MEASURES = 11, 15
#: Measures of a block, and of the whole photo.
BLOCK_MEASURES = _COLOR_MEASURES + LEVELS * _SHAPE_MEASURES
WHOLE_MEASURES = 14


def measure(view_3HW: Tensor) -> tuple[Tensor, Tensor]:
    """Photo in [0, 1], sides of 64 pixels or more -> blocks (GRID * GRID, BLOCK_MEASURES), whole (WHOLE_MEASURES)."""
    luma_1HW = sum(weight * plane for weight, plane in zip(_LUMA, view_3HW, strict=True))[None]
    dark_1HW = dark_channel(view_3HW)
    columns = [_colors(view_3HW, luma_1HW, dark_1HW)]
    for level_1HW in _pyramid(luma_1HW):
        columns.append(_shapes(level_1HW[0]))
    return torch.cat(columns, dim=1), _whole(luma_1HW, dark_1HW)


def dark_channel(view_3HW: Tensor) -> Tensor:
    """1HW: the darkest channel within 7 x 7 pixels."""
    darkest_1HW = view_3HW.amin(dim=0, keepdim=True)
    return -F.max_pool2d(-darkest_1HW[None], 7, stride=1, padding=3)[0]


def _pyramid(luma_1HW: Tensor) -> Iterator[Tensor]:
    for level in range(LEVELS):
        yield luma_1HW if level == 0 else F.avg_pool2d(luma_1HW[None], 2**level)[0]


def _block_means(maps_MHW: Tensor) -> Tensor:
    """GM."""
    return F.adaptive_avg_pool2d(maps_MHW[None], GRID)[0].flatten(1).T


def _colors(view_3HW: Tensor, luma_1HW: Tensor, dark_1HW: Tensor) -> Tensor:
    """GM: brightness, contrast, dark channel, colour, clipping."""
    high_1HW, low_1HW = view_3HW.amax(0, keepdim=True), view_3HW.amin(0, keepdim=True)
    maps_MHW = torch.cat(
        [
            luma_1HW,
            luma_1HW**2,
            dark_1HW,
            low_1HW,
            high_1HW,
            (high_1HW - low_1HW) / (high_1HW + 0.02),
            view_3HW[:1] - luma_1HW,
            view_3HW[2:] - luma_1HW,
            (luma_1HW > 0.95).float(),
            (luma_1HW < 0.05).float(),
        ]
    )
    means_GM = _block_means(maps_MHW)
    spread_G1 = (means_GM[:, 1:2] - means_GM[:, :1] ** 2).clamp(min=1e-7).sqrt()
    means_GM[:, 1:2] = spread_G1
    return torch.cat([means_GM, (spread_G1 + _FLOOR).log()], dim=1)


def _shapes(luma_HW: Tensor) -> Tensor:
    """GM: slopes, curvatures, bright and dark lines and spots, and which way they run."""
    inner = luma_HW[1:-1, 1:-1]
    left, right, up, down = luma_HW[1:-1, :-2], luma_HW[1:-1, 2:], luma_HW[:-2, 1:-1], luma_HW[2:, 1:-1]
    slope_x, slope_y = (right - left) / 2, (down - up) / 2
    bend_x, bend_y = right + left - 2 * inner, down + up - 2 * inner
    bend_xy = (luma_HW[2:, 2:] + luma_HW[:-2, :-2] - luma_HW[2:, :-2] - luma_HW[:-2, 2:]) / 4
    # The curvatures along and across (eigenvalues of the Hessian): middle -+ half.
    middle, lean = (bend_x + bend_y) / 2, (bend_x - bend_y) / 2
    half = (lean**2 + bend_xy**2).sqrt()
    least, most = middle - half, middle + half
    bright_line, dark_line = F.relu(-least - most.abs()), F.relu(most - least.abs())
    bright_spot, dark_spot = F.relu(-most), F.relu(least)
    cosine, sine = lean / (half + 1e-6), bend_xy / (half + 1e-6)  # of twice the angle across the line; 1: upright
    slope2, middle2 = slope_x**2 + slope_y**2, middle**2
    maps = torch.stack(
        [
            *(slope2, slope2**2, slope_x**2 - slope_y**2, slope_x * slope_y),
            *(middle2, middle2 * middle, middle2**2),
            *(bright_line, dark_line, bright_spot, dark_spot),
            *(bright_line * cosine, bright_line * sine, dark_line * cosine, dark_line * sine),
        ]
    )
    (s2, s4, turn, cross, m2, m3, m4, bl, dl, bs, ds, blc, bls, dlc, dls) = _block_means(maps).unbind(1)
    floor2 = _FLOOR**2
    columns = [
        (s2 + floor2).log() / 2,
        ((s4 + floor2**2) / (s2 + floor2) ** 2).log(),  # few steep slopes, or many gentle ones
        turn / (s2 + floor2),
        (2 * cross).abs() / (s2 + floor2),
        (m2 + floor2).log() / 2,
        m3 / (m2 + floor2) ** 1.5,
        ((m4 + floor2**2) / (m2 + floor2) ** 2).log(),
        (bl + _FLOOR).log(),
        ((bl + _FLOOR) / (dl + _FLOOR)).log(),
        (bs + _FLOOR).log(),
        ((bs + _FLOOR) / (ds + _FLOOR)).log(),
        blc / (bl + _FLOOR),
        bls.abs() / (bl + _FLOOR),
        dlc / (dl + _FLOOR),
        dls.abs() / (dl + _FLOOR),
    ]
    return torch.stack(columns, dim=1)


def _whole(luma_1HW: Tensor, dark_1HW: Tensor) -> Tensor:
    """How brightness and dark channel are spread over the whole photo."""
    shares = torch.tensor([0.005, 0.05, 0.25, 0.5, 0.75, 0.95, 0.995])
    thinned = (map_1HW[0, ::2, ::2].flatten() for map_1HW in (luma_1HW, dark_1HW))
    return torch.cat([torch.quantile(values, shares) for values in thinned])
