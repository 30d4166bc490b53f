"""Clean photographs on disk -> random crops."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..errors import UserError
from ..images import is_image_path, read_photo
from ..images.pixels import eight_bit


def find_photos(root: Path) -> list[Path]:
    """All image files below `root`, sorted. Raises UserError when there are none."""
    if not root.is_dir():
        raise UserError(f"{root}: not a folder")
    files = sorted(path for path in root.rglob("*") if is_image_path(path) and path.is_file())
    if not files:
        raise UserError(f"{root}: no photographs found")
    return files


def load_rgb(path: Path) -> Tensor:
    """(3, H, W) uint8, turned upright. Raises UserError, naming the file, for what is no readable photo."""
    return torch.from_numpy(eight_bit(read_photo(path).rgb)).permute(2, 0, 1).contiguous()
