"""The power spectrum of a photo in a few hundred numbers: how strong its waves are, by frequency and angle."""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

#: Side in pixels of the tiles whose spectra are averaged, and the most of them down and across.
TILE, MOST_TILES = 64, 16
#: In cycles per pixel, evenly spaced: what motion takes away comes back at even distances, too.
FREQUENCIES = tuple(0.5 * (i + 1) / 24 for i in range(24))
#: From 0 on, for waves that run across, to below a half turn.
ANGLES = 24
#: Less than the steps of 8 bits: flat surfaces are alike.
FLAT = 1e-4


def spectrum(luma_BHW: Tensor) -> Tensor:
    """(B, 24, 24): the logarithm of the amplitude at each of FREQUENCIES and angles, less what is usual there.

    Of float32 luma of any size, black and white one apart; of its power averaged over tiles (Welch's method). The
    angles are those in which the waves run, 0 for across.
    """
    # A transform as products with matrices, which every exporter knows; in float32, for high frequencies are faint.
    with torch.autocast("cpu" if luma_BHW.is_meta else luma_BHW.device.type, enabled=False):
        waves, pooling = (table(luma_BHW.device) for table in (_waves, _pooling))
        even, odd = (waves.mT @ tiles(luma_BHW) @ waves).chunk(2, dim=-2)
        (cc, cs), (sc, ss) = even.chunk(2, dim=-1), odd.chunk(2, dim=-1)
        power = [(cc - ss).square() + (sc + cs).square(), (cc + ss).square() + (sc - cs).square()]
        pooled_BF = torch.stack(power, dim=-3).mean(1).flatten(1) @ pooling
    pooled_BFA = pooled_BF.view(-1, len(FREQUENCIES), ANGLES)
    usual_F1 = torch.tensor([[-6.2 - 1.9 * math.log(f)] for f in FREQUENCIES], device=luma_BHW.device)
    return (pooled_BFA + FLAT**2).log() / 2 - usual_F1


def tiles(image_BHW: Tensor) -> Tensor:
    """(B, tiles, TILE, TILE) of an image of any size, each less its mean and in a Hann window.

    The squared modulus of the transform of each has the mean of the variance of white noise.
    """
    height, width = (int(side) for side in image_BHW.shape[-2:])
    wide_BHW = F.pad(image_BHW, (0, max(0, TILE - width), 0, max(0, TILE - height)), mode="replicate")
    rows, columns = (_places(max(side, TILE), image_BHW.device) for side in (height, width))
    tiles_BNTS = wide_BHW[:, rows][..., columns].transpose(2, 3).flatten(1, 2)
    hann_T = (1 - (torch.arange(TILE, device=image_BHW.device) * (2 * math.pi / TILE)).cos()) / math.sqrt(1.5 * TILE)
    return (tiles_BNTS - tiles_BNTS.mean((2, 3), keepdim=True)) * hann_T[:, None] * hann_T


def _places(side: int, device: torch.device) -> Tensor:
    """(tiles, TILE): where the pixels of each tile are along a side; half a tile further each, or evenly spread."""
    count = min(MOST_TILES, -(-(side - TILE) // (TILE // 2)) + 1)
    starts = [round(i * (side - TILE) / max(1, count - 1)) for i in range(count)]
    return torch.tensor(starts, device=device)[:, None] + torch.arange(TILE, device=device)


# Made on the CPU whatever device is the default, alike for all, and kept: copied to a device once.


@cache
def _waves(device: torch.device) -> Tensor:
    """(TILE, TILE): cosines of 0 to 31 cycles a tile, then sines."""
    with torch.inference_mode(False), torch.device("cpu"):
        phase = torch.arange(TILE)[:, None] * torch.arange(TILE // 2) * (2 * math.pi / TILE)
        return torch.cat([phase.cos(), phase.sin()], 1).to(device)


@cache
def _pooling(device: torch.device) -> Tensor:
    """(2 * 32 * 32, 576): of power that runs down or up, by cycles down and across, to means about each frequency."""
    with torch.inference_mode(False), torch.device("cpu"):
        cycles = torch.arange(TILE // 2) / TILE
        down, across = torch.stack([cycles, -cycles])[:, :, None, None, None], cycles[:, None, None]
        # Waves and their mirror images coincide where they run across or down only, and must not count twice.
        counted = 2 - ((down == 0) | (across == 0)).float()
        counted = counted * ((down != 0) | (across != 0))
        frequency, angle = torch.tensor(FREQUENCIES)[:, None], torch.arange(ANGLES) * (math.pi / ANGLES)
        along = across * angle.cos() + down * angle.sin()
        beside = down * angle.cos() - across * angle.sin()
        narrow = 0.7 / TILE
        wide = (frequency * (0.5 * math.pi / ANGLES)).clamp(min=narrow)
        near = sum(torch.exp(-0.5 * (((along - sign * frequency) / narrow) ** 2)) for sign in (-1, 1))
        table = (counted * near * torch.exp(-0.5 * (beside / wide) ** 2)).flatten(0, 2).flatten(1)
        return (table / table.sum(0)).to(device)
