"""Focus last: how soft a photo is, and which way, decided from its spectrum and the statistics of its details.

The power of sharp photographs falls off with frequency in much the same way in all directions; blur takes from the high
ones, motion from those across it, and where it takes all of them it leaves dark bands. A hundred numbers tell, and what
they ask for is a few numbers too: how much of the photo's curvature to subtract, by scale and direction. U-Nets that
must see every pixel learned in hours to leave each blurred photo as it is (docs/log.md); this learns from thousands of
photos in minutes.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .spectrum import ANGLES, FLAT, FREQUENCIES, spectrum

#: Distances in pixels at which what is smooth is looked at, and those up to which it is sharpened with.
LOOKED_AT = (1, 2, 4, 8)
REACHES = (1, 2, 4)
#: Channels of `curvature` at each distance: across, down, and the mixed one, which leans.
DIRECTIONS = 3
#: Of `sharpeners`: curvature and curvature's curvature, of the image itself and at each of the REACHES.
SHARES = 2 * DIRECTIONS * (1 + len(REACHES))
#: Of `statistics`: those of the details, then of the spectrum.
DETAILS = 2 * DIRECTIONS * (1 + len(LOOKED_AT))
SEEN = DETAILS + len(FREQUENCIES) * ANGLES


def curvature(x_NHW: Tensor) -> Tensor:
    """Second differences (N, 15, H, W) of the image and of what is smooth in it at each of the distances LOOKED_AT."""
    levels = _levels(x_NHW, LOOKED_AT)
    return torch.stack([maps for reach, level in levels for maps in _differences(level, reach)], dim=1)


def sharpeners(x_HW: Tensor) -> Iterator[Tensor]:
    """SHARES maps (..., H, W) to add shares of: curvature at each distance, and that of the curvature once more.

    Without the latter the best shares bring half as much where motion blurs (docs/log.md): to undo it takes filters
    that swing.
    """
    for reach, level in _levels(x_HW, REACHES):
        across, down, mixed = _differences(level, reach)
        yield from (across, down, mixed)
        yield from _differences(across + down, reach)


# Sums of shifted images: convolutions of one channel take ten times as long on a CPU.
def _shifted(x_HW: Tensor, rows: tuple[int, ...], columns: tuple[int, ...]) -> list[Tensor]:
    """(..., H, W) as seen from so many pixels down and to the right, each with each; its edges go on."""
    most = [max(map(abs, columns))] * 2 + [max(map(abs, rows))] * 2
    wide, (height, width) = F.pad(x_HW, most, mode="replicate"), x_HW.shape[-2:]
    lines = [wide.narrow(-2, most[2] + row, height) for row in rows]
    return [line.narrow(-1, most[0] + column, width) for line in lines for column in columns]


def _levels(x_HW: Tensor, reaches: tuple[int, ...]) -> list[tuple[int, Tensor]]:
    """The image, then what is smooth by the B3 spline "a trous": each distance from the one before, twice as far."""
    smooth, found = x_HW, [(1, x_HW)]
    for reach in reaches:
        steps = tuple(reach * i for i in (-2, -1, 0, 1, 2))
        for rows, columns in (((0,), steps), (steps, (0,))):
            first, second, middle, fourth, fifth = _shifted(smooth, rows, columns)
            smooth = (first + fifth) * 0.0625 + (second + fourth) * 0.25 + middle * 0.375
        found.append((reach, smooth))
    return found


def _differences(x_HW: Tensor, reach: int) -> tuple[Tensor, Tensor, Tensor]:
    """Across, down, and the mixed one."""
    around = (-reach, 0, reach)
    above_left, above, above_right, left, here, right, below_left, below, below_right = _shifted(x_HW, around, around)
    twice = here * 2
    return left + right - twice, above + below - twice, (above_left + below_right - above_right - below_left) * 0.25


class FocusNet(nn.Module):
    """Statistics of a photo -> how much of its curvature to add, by distance and direction; none at the start."""

    def __init__(self, hidden: int = 128):
        super().__init__()
        self.first = nn.Linear(SEEN, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.third = nn.Linear(hidden, hidden)
        self.shares = nn.Linear(hidden, SHARES)
        nn.init.zeros_(self.shares.weight)
        nn.init.zeros_(self.shares.bias)

    def forward(self, seen_BF: Tensor) -> Tensor:
        """`statistics` -> shares (B, 24), float32."""
        h = seen_BF.to(self.first.weight.dtype)
        for layer in (self.first, self.second, self.third):
            h = F.gelu(layer(h))
        return self.shares(h).float()

    def look(self, image_B3HW: Tensor) -> Tensor:
        """Shares (B, 24) for whole images in [-1, 1]."""
        return self(statistics(image_B3HW))


def statistics(image_B3HW: Tensor) -> Tensor:
    """(B, 110) of an image in [-1, 1]: how sparse its curvature is in each band, and its spectrum.

    Each about 0 on the mean of photographs, and mostly within 3.
    """
    luma_BHW = (image_B3HW.float() * image_B3HW.new_tensor((0.299, 0.587, 0.114)).float()[:, None, None]).sum(1) / 2
    bands_BKHW = curvature(luma_BHW)
    square_BKHW = bands_BKHW.square()
    strength_BK = (square_BKHW.mean((2, 3)) + FLAT**2).log() / 2
    # Of the mean and of the fourth power to the square: noise is dense, edges are sparse.
    density_BK = (bands_BKHW.abs().mean((2, 3)) + FLAT).log() - strength_BK
    peaks_BK = (square_BKHW.square().mean((2, 3)) + FLAT**4).log() / 4 - strength_BK
    return torch.cat([(density_BK + 0.6) / 0.2, (peaks_BK - 0.6) / 0.25, spectrum(luma_BHW)], dim=1)


def apply_focus(image_B3HW: Tensor, shares_BK: Tensor) -> Tensor:
    """The image with so much of its `sharpeners` added; not clamped."""
    colours = image_B3HW.float().contiguous()
    sharpened = colours
    for change, share_B in zip(sharpeners(colours), shares_BK.T, strict=True):
        sharpened = torch.addcmul(sharpened, change, share_B[:, None, None, None])
    return sharpened
