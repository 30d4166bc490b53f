"""What is looked at: any photo, shrunken to about the size that the measures and their training know."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..images.pixels import eight_bit

#: Pixels. Larger photos are shrunken to it, smaller ones taken as they are: what fills less than a pixel of
#: this is not seen on a screen either, and the time does not grow with the camera.
AREA = 768 * 512
#: No side is shorter, in pixels, so that every block has something to measure. Only strips are enlarged to it.
MIN_SIDE = 64


def view(rgb: np.ndarray) -> Tensor:
    """Pixels [H, W, 3] of uint8 or uint16 -> (3, h, w) float32 in [0, 1], h * w about AREA at most."""
    height, width = rgb.shape[:2]
    size = viewed_size(height, width)
    if size == (height, width):
        small = eight_bit(rgb)
    else:
        image = Image.fromarray(np.ascontiguousarray(eight_bit(_thinned(rgb, size))))
        # Blocks first, the filter after: several times faster on a large photo, and the same to a level or so.
        small = np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR, reducing_gap=2.0))
    return torch.from_numpy(small.copy()).permute(2, 0, 1).float().div_(255)


def viewed_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of the view of a photo of this size."""
    shrink = min(1.0, math.sqrt(AREA / (height * width)))
    return max(MIN_SIDE, round(height * shrink)), max(MIN_SIDE, round(width * shrink))


def _thinned(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Every n-th pixel of a photo so large (beyond 100 megapixels) that reading all of them would take seconds."""
    step = max(1, min(rgb.shape[0] // (16 * size[0]), rgb.shape[1] // (16 * size[1])))
    return rgb[::step, ::step]
