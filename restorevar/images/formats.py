"""The image formats restorevar knows, and the names of their files."""

from __future__ import annotations

import os
from pathlib import Path

EXTENSIONS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".avif": "AVIF",
}
FORMATS = tuple(dict.fromkeys(EXTENSIONS.values()))
DEEP_FORMATS = ("PNG", "TIFF")  # can hold 16 bits
OPAQUE_FORMATS = ("JPEG", "BMP")  # cannot hold alpha (in BMP, readers disagree about it)


def is_image_path(path: str | os.PathLike[str]) -> bool:
    """Whether the name looks like an image restorevar reads: a known extension, and not a hidden file."""
    path = Path(path)
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")
