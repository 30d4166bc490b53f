"""A file or a Pillow image in, a Photo out."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from ..errors import UserError
from .coding import coding_of_image, coding_of_stream
from .decoding import decode, plain, samples_of
from .failures import naming, silence, translating
from .formats import FORMATS
from .metadata import read_dpi, read_exif, read_xmp
from .opening import identify, open_file, refuse_mode, refuse_unsuitable
from .photo import Photo
from .pixels import upright

MAX_PIXELS = 200_000_000


def read_photo(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> Photo:
    """Read and fully decode one image file.

    Raises UserError, with the name of the file, when it is missing, unreadable, damaged, not an image,
    animated, larger than `max_pixels` (told from the header, before decoding) or of a kind that would
    lose something (32-bit, float, some rare 16-bit ones).
    """
    with naming(path), open_file(Path(path)) as stream:
        return _read(stream, max_pixels)


def photo_from_bytes(data: bytes, max_pixels: int = MAX_PIXELS) -> Photo:
    """As `read_photo`, of the content of a file.

    Raises NotAnImage where it is of no known format, TooLarge above `max_pixels`, else UserError.
    """
    with naming("image"):
        if not data:
            raise UserError("is empty")
        return _read(BytesIO(data), max_pixels)


def _read(stream: IO[bytes], max_pixels: int) -> Photo:
    with silence():
        with translating("is damaged or not supported"):
            image = identify(stream)
            refuse_unsuitable(image, stream, max_pixels)
        with translating("is damaged or incomplete"):
            pixels = decode(image, stream)
            coding = coding_of_image(image) | coding_of_stream(image, stream)
            return _assemble(image, pixels, coding)


def photo_from_pil(image: Image.Image) -> Photo:
    """The photo in a Pillow image, with the metadata Pillow knows of; the image itself stays unchanged.

    16-bit colour files opened by Pillow come with 8 bits: use `read_photo` to keep the 16.
    Raises UserError for pixel kinds that cannot be restored (32-bit, float) and for damaged files.
    """
    with naming("image"), silence():
        refuse_mode(image)
        with translating("is damaged or incomplete"):
            return _assemble(image, samples_of(plain(image)), coding_of_image(image))


def _assemble(image: Image.Image, samples: np.ndarray, coding: dict[str, Any]) -> Photo:
    """The photo made of decoded samples and of the metadata of the loaded image they came from."""
    orientation, exif = read_exif(image)
    samples = upright(samples, orientation)
    channels = samples.shape[2]
    rgb = samples[..., :3] if channels > 2 else np.repeat(samples[..., :1], 3, axis=2)
    name = "JPEG" if image.format == "MPO" else image.format
    profile = image.info.get("icc_profile")
    return Photo(
        rgb=np.ascontiguousarray(rgb),
        alpha=np.ascontiguousarray(samples[..., -1]) if channels in (2, 4) else None,
        gray=channels < 3,
        format=name if name in FORMATS else "PNG",
        exif=exif,
        icc=profile if isinstance(profile, bytes) and profile and image.mode != "CMYK" else None,
        xmp=read_xmp(image),
        dpi=read_dpi(image),
        coding=coding,
    )
