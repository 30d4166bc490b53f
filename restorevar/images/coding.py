"""How a file was encoded: what it takes to write the photo back in kind."""

from __future__ import annotations

import os
import struct
from typing import IO, Any

from PIL import Image, ImageFile, JpegImagePlugin

from .png import kept_chunks


def coding_of_image(image: Image.Image) -> dict[str, Any]:
    """How the source was encoded, as far as the image object tells."""
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        # Ratios that Pillow cannot write come as -1: full resolution keeps them best.
        sampling = max(0, JpegImagePlugin.get_sampling(image))
        tables = [list(image.quantization[key]) for key in sorted(image.quantization)]
        return {"qtables": tables, "subsampling": sampling, "comment": image.info.get("comment")}
    if image.format == "TIFF":
        return {"compression": image.info.get("compression")}
    return {}


def coding_of_stream(image: ImageFile.ImageFile, stream: IO[bytes]) -> dict[str, Any]:
    """How the source was encoded, as far as only the file itself tells."""
    if image.format == "WEBP":
        return {"lossless": _is_lossless_webp(stream)}
    if image.format == "PNG":
        return {"chunks": kept_chunks(stream)}
    return {}


def _is_lossless_webp(stream: IO[bytes]) -> bool:
    stream.seek(12)
    while len(head := stream.read(8)) == 8:
        kind, size = struct.unpack("<4sI", head)
        if kind in (b"VP8 ", b"VP8L"):
            return bool(kind == b"VP8L")
        stream.seek(size + size % 2, os.SEEK_CUR)
    return False
