"""A photo at half its size, and what changes there brought back to the whole: four times fewer pixels to restore.

Haze, darkness and most of what rain and snow add are larger than two pixels; the finest detail stays that of the
photo. Pure functions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

#: Rows of the small photo that are enlarged at once.
BAND = 128


def halve(pixels: np.ndarray) -> np.ndarray:
    """[H, W, C] of uint8 or uint16 -> means of 2x2 pixels, [ceil(H/2), ceil(W/2), C] of uint16.

    A last row or column without a partner counts twice.
    """
    height, width, channels = pixels.shape
    small = np.empty(((height + 1) // 2, (width + 1) // 2, channels), np.uint16)
    scale = 65535 / np.iinfo(pixels.dtype).max / 4
    for top in range(0, len(small), BAND):
        rows = pixels[2 * top : 2 * (top + BAND)].astype(np.float32)
        rows = np.pad(rows, ((0, len(rows) % 2), (0, width % 2), (0, 0)), mode="edge")
        sums = rows[::2, ::2] + rows[1::2, ::2] + rows[::2, 1::2] + rows[1::2, 1::2]
        small[top : top + BAND] = np.rint(sums * scale)
    return small


def enlarged_bands(change: np.ndarray, height: int, width: int) -> Iterator[tuple[int, Tensor]]:
    """The change of a halved photo, [h, w, C], at the size of the photo: (top, (C, rows, width)), top to bottom.

    Bilinear; neighbouring bands see each other's rows, so they meet without a step.
    """
    rows = len(change)
    for top in range(0, rows, BAND):
        end = min(top + BAND, rows)
        above, below = int(top > 0), int(end < rows)
        part = torch.from_numpy(np.ascontiguousarray(change[top - above : end + below])).permute(2, 0, 1)[None]
        large = F.interpolate(part, scale_factor=2.0, mode="bilinear", align_corners=False)[0]
        large = large[:, 2 * above : large.shape[1] - 2 * below, :width]
        yield 2 * top, large[:, : height - 2 * top]
