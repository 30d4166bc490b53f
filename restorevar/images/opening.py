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
from .failures import NotAnImage, TooLarge
from .formats import FORMATS

#: Scans of a progressive JPEG: encoders make about ten, files that are made to cost hours make thousands.
MAX_SCANS = 200
#: Pages are counted up to this number.
MAX_COUNT = 100

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
    raise NotAnImage(f"is not an image of a known format ({', '.join(FORMATS)})")


def refuse_unsuitable(image: ImageFile.ImageFile, stream: IO[bytes], max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise TooLarge(f"claims {width} x {height} pixels, above the limit of {max_pixels}")
    # The further pictures of an MPO, a camera's JPEG, are variants of the first one.
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        if image.is_animated:
            raise UserError(f"has {_pages(image)} pages; restorevar takes single images")
    elif image.format != "MPO" and (frames := getattr(image, "n_frames", 1)) > 1:
        raise UserError(f"is animated ({frames} frames); restorevar takes single images")
    if image.format in ("JPEG", "MPO") and _scans(stream) > MAX_SCANS:
        raise UserError(f"is a JPEG of more than {MAX_SCANS} scans, which no camera makes")
    refuse_mode(image)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _refuse_tiff(image)
    if image.format == "AVIF" and _is_deep_avif(stream):
        raise UserError("has more than 8 bits in AVIF, which cannot be kept; convert it to 16-bit PNG")


def _pages(image: TiffImagePlugin.TiffImageFile) -> str:
    """How many, as far as is worth counting: Pillow's own count takes hours for a file made to be counted."""
    for page in range(1, MAX_COUNT):
        try:
            image.seek(page)
        except Exception:  # the end, or damage
            return str(page)
    return f"{MAX_COUNT} or more"


def _scans(stream: IO[bytes]) -> int:
    """Scans of a JPEG, those of its thumbnails among them: each is worked through over the whole area."""
    stream.seek(0)
    count, last = 0, b""
    while block := stream.read(1 << 20):
        count += (last + block).count(b"\xff\xda")  # within the coded data, 0xff is followed by 0
        last = block[-1:]
    return count


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
