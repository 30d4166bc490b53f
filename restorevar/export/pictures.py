"""What the graphs are compared on: float32 (1, 3, size, size) in [-1, 1]."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ..images import read_photo, to_tensor


def drawn(size: int) -> np.ndarray:
    """Waves of three colours under a veil: not a photo, but neither flat nor noise; the same each time."""
    y, x = np.mgrid[0:size, 0:size] / size
    waves = [np.sin(2 * np.pi * (3 * x + c)) * np.cos(2 * np.pi * (2 * y + c * x)) for c in (0.0, 0.3, 0.6)]
    return (0.2 + 0.5 * np.stack(waves)[None]).astype(np.float32)


def from_photo(path: Path, size: int) -> np.ndarray:
    """A photo, resized to the square. Raises UserError for one that cannot be read."""
    rgb = read_photo(path).rgb
    eight = rgb if rgb.dtype == np.uint8 else (rgb >> 8).astype(np.uint8)
    square = Image.fromarray(eight).resize((size, size), Image.Resampling.LANCZOS)
    return to_tensor(np.asarray(square))[None].numpy()
