"""The power spectrum of a photo in a few dozen numbers: how strong its waves are, by frequency and angle."""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

#: Side in pixels of the tiles whose spectra are averaged, and the most of them down and across.
TILE, MOST_TILES = 64, 16
#: In cycles per pixel: ten, evenly spaced on a logarithmic scale, the highest reached by slanting waves alone.
FREQUENCIES = tuple(2 / TILE * (0.3 * TILE) ** (i / 9) for i in range(10))
#: From 0 on, for waves that run across, to below a half turn.
ANGLES = 8
#: Less than the steps of 8 bits: flat surfaces are alike.
FLAT = 1e-4


def spectrum(luma_BHW: Tensor) -> Tensor:
    """(B, 80): the logarithm of the amplitude at each of FREQUENCIES and angles, less what is usual at that frequency.

    Of float32 luma of any size, black and white one apart; of its power averaged over tiles (Welch's method). Frequency
    by frequency; the angles are those in which the waves run, 0 for across.
    """
    height, width = (int(side) for side in luma_BHW.shape[-2:])
    wide_BHW = F.pad(luma_BHW, (0, max(0, TILE - width), 0, max(0, TILE - height)), mode="replicate")
    rows, columns = (_places(max(side, TILE), luma_BHW.device) for side in (height, width))
    tiles_BRCTS = wide_BHW[:, rows][..., columns].transpose(2, 3)
    waves, pooling = _waves().to(luma_BHW.device), _pooling().to(luma_BHW.device)
    # A transform as products with matrices, which every exporter knows; in float32, for high frequencies are faint.
    with torch.autocast("cpu" if luma_BHW.is_meta else luma_BHW.device.type, enabled=False):
        even, odd = (waves.mT @ tiles_BRCTS @ waves).chunk(2, dim=-2)
        (cc, cs), (sc, ss) = even.chunk(2, dim=-1), odd.chunk(2, dim=-1)
        power = [(cc - ss).square() + (sc + cs).square(), (cc + ss).square() + (sc - cs).square()]
        pooled_BF = torch.stack(power, dim=-3).mean((1, 2)).flatten(1) @ pooling
    usual_F = torch.tensor([-6.2 - 1.9 * math.log(f) for f in FREQUENCIES], device=luma_BHW.device)
    return (pooled_BF + FLAT**2).log() / 2 - usual_F.repeat_interleave(ANGLES)


def _places(side: int, device: torch.device) -> Tensor:
    """(tiles, TILE): where the pixels of each tile are along a side; half a tile further each, or evenly spread."""
    count = min(MOST_TILES, -(-(side - TILE) // (TILE // 2)) + 1)
    starts = [round(i * (side - TILE) / max(1, count - 1)) for i in range(count)]
    return torch.tensor(starts, device=device)[:, None] + torch.arange(TILE, device=device)


# On the CPU whatever device is the default: they are kept for all.


@cache
def _waves() -> Tensor:
    """(TILE, TILE): cosines of 0 to 31 cycles a tile, then sines, in a Hann window; white noise keeps its power."""
    with torch.inference_mode(False), torch.device("cpu"):
        place = torch.arange(TILE)[:, None] * (2 * math.pi / TILE)
        phase = place * torch.arange(TILE // 2)
        return torch.cat([phase.cos(), phase.sin()], 1) * (1 - place.cos()) / math.sqrt(1.5 * TILE)


@cache
def _pooling() -> Tensor:
    """(2 * 32 * 32, 80): of power that runs down or up, by cycles down and across, to means about each frequency."""
    with torch.inference_mode(False), torch.device("cpu"):
        cycles = torch.arange(TILE // 2) / TILE
        down, across = torch.stack([cycles, -cycles])[:, :, None], cycles[None, None]
        # Waves and their mirror images coincide where they run across or down only, and must not count twice.
        counted = 2 - ((down == 0) | (across == 0)).float()
        angle, frequency = torch.atan2(*torch.broadcast_tensors(down, across)), torch.hypot(down, across)
        step = math.log(FREQUENCIES[1] / FREQUENCIES[0])
        weights = []
        for centre in FREQUENCIES:
            near = (1 - (frequency.clamp(min=1e-6).log() - math.log(centre)).abs() / step).clamp(min=0)
            for i in range(ANGLES):
                turned = torch.remainder(angle - math.pi * i / ANGLES + math.pi / 2, math.pi) - math.pi / 2
                weights.append(counted * near * (1 - turned.abs() * ANGLES / math.pi).clamp(min=0))
        table = torch.stack(weights, dim=-1).flatten(0, 2)
        return table / table.sum(0)
