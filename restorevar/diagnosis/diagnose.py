"""A photo in, a Diagnosis out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..errors import UserError
from ..images import Photo, photo_from_pil, read_photo
from .measures import measure
from .report import NAMES, Diagnosis
from .view import view
from .weights import Head, shipped_head


def diagnose(photo: Photo | np.ndarray | Image.Image | str | Path, head: Head | None = None) -> Diagnosis:
    """What a photo of any size suffers from; a fraction of a second on a CPU.

    photo   a Photo, pixels [H, W, 3] of uint8 or uint16, a PIL image, or the path of a file
    head    by default the one that is shipped

    The alpha channel is not looked at. Raises UserError for files that cannot be read, and for other arrays.
    """
    head = head or shipped_head()
    blocks, whole = measure(view(_pixels(photo)))
    with torch.inference_mode():
        strengths = head.network(blocks[None], whole[None])[0].sigmoid().tolist()
    return Diagnosis(dict(zip(NAMES, strengths, strict=True)), head.thresholds)


def _pixels(photo: Photo | np.ndarray | Image.Image | str | Path) -> np.ndarray:
    if isinstance(photo, str | Path):
        photo = read_photo(Path(photo))
    if isinstance(photo, Image.Image):
        photo = photo_from_pil(photo)
    pixels = photo.rgb if isinstance(photo, Photo) else photo
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise UserError(f"cannot diagnose {_shape(pixels)}: give a photo, a path, or pixels [H, W, 3]")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise UserError(f"cannot diagnose pixels of {pixels.dtype}: give uint8 or uint16")
    return pixels


def _shape(pixels: object) -> str:
    return f"an array of shape {pixels.shape}" if isinstance(pixels, np.ndarray) else f"a {type(pixels).__name__}"
