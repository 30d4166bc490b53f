"""A Photo in, a file out: whole or not at all, and never one that would lose something unasked."""

from __future__ import annotations

import math
import os
import uuid
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import UserError
from .encoding import encode
from .failures import naming, silence, translating
from .formats import DEEP_FORMATS, EXTENSIONS, FORMATS, OPAQUE_FORMATS
from .photo import Photo

_LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383, "AVIF": 65_536}


def write_photo(
    path: str | os.PathLike[str],
    photo: Photo,
    format: str | None = None,
    quality: int | None = None,
    overwrite: bool = False,
) -> None:
    """Write `photo` to `path`, making its folder; the file appears complete or not at all.

    `format` is a name such as "jpeg"; without it the extension decides, and without that the photo's own
    format. `quality` (1 to 100) is for JPEG, lossy WebP and AVIF; without it a JPEG keeps the tables of its
    source, a WebP stays lossless if it was, and else 95 (JPEG) or 90 is used. A 16-bit photo is reduced to 8
    bits only if `format` asks for a format without 16 bits. Raises UserError: see `check_output`.
    """
    path = Path(path)
    name = check_output(path, photo, format, quality, overwrite)
    with naming(path):
        with silence(), translating(f"cannot be written as {name}"):
            data = encode(photo, name, quality)
        _write_whole(path, data)


def photo_to_bytes(photo: Photo, format: str | None = None, quality: int | None = None) -> tuple[str, bytes]:
    """As `write_photo`, but the name of the format and the content of the file. Raises UserError as `check_format`."""
    with naming("image"):
        name = check_format(photo, format, quality)
        with silence(), translating(f"cannot be written as {name}"):
            return name, encode(photo, name, quality).getvalue()


def check_output(
    path: str | os.PathLike[str],
    photo: Photo,
    format: str | None = None,
    quality: int | None = None,
    overwrite: bool = False,
) -> str:
    """The name of the format `write_photo` would write. Call it before long work that may be in vain.

    Raises UserError if the output exists or is a folder, or the format is unknown, or cannot hold the
    photo's alpha (unless it is opaque all over), 16 bits (unless `format` was given) or size.
    """
    path = Path(path)
    with naming(path), translating("cannot be written"):
        name = _output_format(path, photo, format)
        _refuse_place(path, overwrite)
        _refuse_loss(photo, name, format, quality)
    return name


def check_format(photo: Photo, format: str | None = None, quality: int | None = None) -> str:
    """As `check_output`, where there is no path: the photo's own format if none is asked for."""
    name = _output_format(Path(), photo, format)
    _refuse_loss(photo, name, format, quality)
    return name


def _refuse_loss(photo: Photo, name: str, format: str | None, quality: int | None) -> None:
    """`format` is what was asked for, `name` what it came to."""
    if quality is not None and not 1 <= quality <= 100:
        raise UserError(f"cannot be written with quality {quality}; it goes from 1 to 100")
    if photo.rgb.dtype == np.uint16 and name not in DEEP_FORMATS and format is None:
        raise UserError(f"would lose bits: the photo has 16, {name} has 8; ask for {name} to accept that")
    if name in OPAQUE_FORMATS and not _is_opaque(photo):
        raise UserError(f"would lose its transparency, which {name} cannot hold; write PNG or WebP")
    if max(photo.rgb.shape[:2]) > _LONGEST_SIDE.get(name, math.inf):
        raise UserError(f"is too large for {name}: no side may exceed {_LONGEST_SIDE[name]} pixels")


def _output_format(path: Path, photo: Photo, format: str | None) -> str:
    """The format asked for, or that of the extension, or (without extension) that of the photo."""
    asked = "." + format.lower().lstrip(".") if format is not None else path.suffix.lower()
    name = EXTENSIONS.get(asked) if asked else photo.format
    Image.init()
    if name is None:
        raise UserError(f"has an unknown output format ({asked[1:]}); known are {', '.join(FORMATS)}")
    if name not in Image.SAVE:
        raise UserError(f"cannot be written: this Pillow is built without {name}")
    return name


def _refuse_place(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise UserError("is a folder")
    if not overwrite and path.exists():
        raise UserError("exists already and is not overwritten")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"cannot be written: {folder} is not a folder that may be written to")


def _is_opaque(photo: Photo) -> bool:
    return photo.alpha is None or bool(photo.alpha.min() == np.iinfo(photo.alpha.dtype).max)


def _write_whole(path: Path, data: BytesIO) -> None:
    """Writes a hidden file beside `path` and moves it there; whatever happens, no part of it stays behind."""
    temporary = path.parent / f".restorevar-{uuid.uuid4().hex}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as stream:
                stream.write(data.getbuffer())
            os.replace(temporary, path)
        except BaseException:  # an interrupt from the keyboard too
            temporary.unlink(missing_ok=True)
            raise
    except (OSError, ValueError) as error:
        raise UserError(f"cannot be written ({getattr(error, 'strerror', None) or error})") from error
