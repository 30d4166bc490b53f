"""From a path to an image whose header is parsed, unless it is one that restorevar refuses."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from PIL import Image, ImageFile, TiffImagePlugin

from ..errors import UserError
from .formats import FORMATS

# Pillow's modes of which samples are taken as they are, and those that a conversion turns into these.
_PLAIN_MODES = ("L", "LA", "RGB", "RGBA", "I;16", "I;16B", "I;16L")
SIMPLE_CONVERSIONS = {"1": "L", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB", "YCbCr": "RGB", "PA": "RGBA"}


@contextmanager
def open_file(path: Path) -> Iterator[IO[bytes]]:
    """The file, open for reading; UserError if there is none to read."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise UserError("is a folder")
        if not stat.S_ISREG(status.st_mode):
            raise UserError("is not a regular file")
        if not status.st_size:
            raise UserError("is empty")
        stream = path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UserError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
    with stream:
        yield stream


def identify(stream: IO[bytes]) -> ImageFile.ImageFile:
    """The image in `stream`, its header parsed.

    Pillow's readers are called directly, because `Image.open` applies the process-wide pixel limit.
    """
    Image.init()
    stream.seek(0)
    head = stream.read(16)
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        verdict = accept(head) if accept else True
        if isinstance(verdict, str):  # a build of Pillow without this format
            raise UserError(f"cannot be read: {verdict}")
        if verdict:
            stream.seek(0)
            return factory(stream, "")
    raise UserError(f"is not an image of a known format ({', '.join(FORMATS)})")


def refuse_unsuitable(image: ImageFile.ImageFile, stream: IO[bytes], max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise UserError(f"claims {width} x {height} pixels, above the limit of {max_pixels}")
    # The further pictures of an MPO, a camera's JPEG, are variants of the first one.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        kind = f"has {frames} pages" if image.format == "TIFF" else f"is animated ({frames} frames)"
        raise UserError(f"{kind}; restorevar takes single images")
    refuse_mode(image)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _refuse_tiff(image)
    if image.format == "AVIF" and _is_deep_avif(stream):
        raise UserError("has more than 8 bits in AVIF, which cannot be kept; convert it to 16-bit PNG")


def refuse_mode(image: Image.Image) -> None:
    if image.mode not in (*_PLAIN_MODES, *SIMPLE_CONVERSIONS, "P", "CMYK"):
        kind = {"F": "floating-point", "I": "32-bit or signed"}.get(image.mode, image.mode)
        raise UserError(f"has {kind} pixels; restorevar takes 8-bit and 16-bit gray and colour")


def _refuse_tiff(image: TiffImagePlugin.TiffImageFile) -> None:
    """Refuses the kinds of TIFF of which Pillow would drop bits or mistake the values."""
    tags = image.tag_v2
    bits = max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    if bits <= 8:
        return
    photometric = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION)
    planes = tags.get(TiffImagePlugin.PLANAR_CONFIGURATION)
    premultiplied = tags.get(TiffImagePlugin.EXTRASAMPLES, ()) == (1,)
    if bits != 16 or photometric not in (1, 2) or premultiplied or (planes == 2 and photometric == 2):
        raise UserError(f"is a {bits}-bit TIFF of a rare layout, whose bits cannot be kept; convert it to 16-bit PNG")


def _is_deep_avif(stream: IO[bytes]) -> bool:
    """Whether an AV1 configuration box, near the start of the file, has the flag for 10 or 12 bits."""
    stream.seek(0)
    return re.search(rb"av1C..[\x40-\x7f\xc0-\xff]", stream.read(1 << 20), re.DOTALL) is not None
