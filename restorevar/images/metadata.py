"""EXIF, XMP, ICC profile and DPI: what is kept of them, and what a format can take."""

from __future__ import annotations

import re
import struct
from typing import Any

from PIL import Image, TiffImagePlugin

from .photo import Photo

_ORIENTATION = 0x0112
_EXIF_IFD, _GPS_IFD, _INTEROP_IFD = 0x8769, 0x8825, 0xA005
# What a TIFF directory says about the photograph; the other tags describe how its pixels are stored.
_DESCRIPTIVE_TAGS = (270, 271, 272, 305, 306, 315, 33432, _EXIF_IFD, _GPS_IFD)


def read_exif(image: Image.Image) -> tuple[int, bytes | None]:
    """The orientation still to be applied, and the EXIF block to keep: none if it cannot be parsed."""
    orientation = 1
    try:
        parsed = image.getexif()
        if isinstance(image, TiffImagePlugin.TiffImageFile):  # a TIFF is its own EXIF block; Pillow turns it
            kept = Image.Exif()
            kept.update(descriptive(parsed))
            return 1, _reset_exif(kept.tobytes()) if kept else None
        orientation = parsed.get(_ORIENTATION, 1)
        block = image.info.get("exif") or (parsed.tobytes() if parsed else None)
        return orientation, _reset_exif(block) if block else None
    except Exception:  # metadata in disorder is no reason to refuse the picture
        return orientation, None


def rewritable(exif: bytes) -> Image.Exif | None:
    """The EXIF parsed, or None if Pillow would fail to write it anew, as TIFF and AVIF need it."""
    parsed = Image.Exif()
    try:
        parsed.load(exif)
        parsed.tobytes()
    except Exception:  # nor is it a reason to lose the restored picture
        return None
    return parsed


def descriptive(exif: Image.Exif) -> dict[int, Any]:
    """The tags that are about the photograph, for use in another file."""
    tags: dict[int, Any] = {}
    for tag in _DESCRIPTIVE_TAGS:
        value: Any = dict(exif.get_ifd(tag)) if tag in (_EXIF_IFD, _GPS_IFD) else exif.get(tag)
        if isinstance(value, dict):
            value.pop(_INTEROP_IFD, None)  # an offset into the old file
        if value:
            tags[tag] = value
    return tags


def _reset_exif(block: bytes) -> bytes:
    """The EXIF block with orientation 1 and its thumbnail unlinked.

    It is patched in place: makers' notes hold offsets that would not survive writing it anew.
    """
    data = bytearray(re.sub(rb"^(Exif\0\0)+", b"", block))
    order = "<" if data.startswith(b"II") else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    end = start + 2 + 12 * count
    for entry in range(start + 2, end, 12):
        if struct.unpack_from(order + "H", data, entry) == (_ORIENTATION,):
            struct.pack_into(order + "HHIH2x", data, entry, _ORIENTATION, 3, 1, 1)
    if end + 4 <= len(data):
        struct.pack_into(order + "I", data, end, 0)
    return bytes(data)


def read_xmp(image: Image.Image) -> bytes | None:
    """The XMP packet, orientation reset; none if it points to further pictures, which are not kept."""
    xmp = image.info.get("xmp")
    if not isinstance(xmp, bytes) or not xmp or image.format == "MPO" or b"hdrgm:" in xmp:
        return None
    return re.sub(rb"(tiff:Orientation(?:=[\"']|>)\s*)[2-8]", rb"\g<1>1", xmp)


def read_dpi(image: Image.Image) -> tuple[float, float] | None:
    try:
        x, y = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    # Pillow gives 1 for a TIFF that does not tell; NaN is refused too.
    return (x, y) if 1 < x < 65_536 and 1 < y < 65_536 else None


def fitting_profile(photo: Photo, name: str) -> bytes | None:
    """The ICC profile, unless it is one for gray and the format stores gray as colour."""
    for_gray = photo.icc is not None and photo.icc[16:20] == b"GRAY"
    return None if for_gray and (not photo.gray or name in ("WEBP", "AVIF")) else photo.icc
