"""PNG beyond Pillow: its chunks, and 16-bit colour."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from typing import IO

import numpy as np
from PIL import PngImagePlugin

from .photo import Photo
from .pixels import row_bands

_KEPT_CHUNKS = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"tEXt", b"zTXt", b"iTXt")
_XMP_KEYWORD = b"XML:com.adobe.xmp\0"


def _chunks(stream: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Type and data of the chunks from here on."""
    while len(head := stream.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        yield kind, stream.read(size)
        stream.seek(4, os.SEEK_CUR)  # checksum


def kept_chunks(stream: IO[bytes]) -> list[tuple[bytes, bytes]]:
    """Type and data of the chunks of a PNG that are copied as they are."""
    stream.seek(8)
    return [(kind, data) for kind, data in _chunks(stream) if _is_kept(kind, data)]


def _is_kept(kind: bytes, data: bytes) -> bool:
    """Whether a PNG chunk is copied as it is: colour space and texts, but not EXIF and XMP in text form."""
    elsewhere = (_XMP_KEYWORD, b"Raw profile type exif", b"Raw profile type xmp", b"Raw profile type APP1")
    return kind in _KEPT_CHUNKS and not data.startswith(elsewhere)


def png_info(photo: Photo) -> PngImagePlugin.PngInfo:
    """The chunks to add to those that Pillow writes: what was kept of the source, and XMP."""
    info = PngImagePlugin.PngInfo()
    for kind, data in photo.coding.get("chunks", ()):
        info.add(kind, data)
    if photo.xmp:
        info.add(b"iTXt", _XMP_KEYWORD + b"\0\0\0\0" + photo.xmp)
    return info


def encode_deep_png(samples: np.ndarray, model: IO[bytes], stream: IO[bytes]) -> None:
    """Writes a 16-bit PNG of the samples: the chunks of `model`, any PNG, with our own header and pixels."""
    height, width, channels = samples.shape
    model.seek(0)
    stream.write(model.read(8))
    for kind, data in _chunks(model):
        if kind == b"IHDR":
            color_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
            PngImagePlugin.putchunk(stream, kind, struct.pack(">IIBB3x", width, height, 16, color_type))
        elif kind == b"IDAT":
            for piece in _packed_pixels(samples):
                PngImagePlugin.putchunk(stream, kind, piece)
        else:
            PngImagePlugin.putchunk(stream, kind, data)


def _packed_pixels(samples: np.ndarray) -> Iterator[bytes]:
    """The compressed pixels of a 16-bit PNG, each byte less the byte of the pixel to its left (filter 1)."""
    packer = zlib.compressobj(4, strategy=zlib.Z_FILTERED)
    step = 2 * samples.shape[2]
    for rows in row_bands(samples):
        raw = samples[rows].astype(">u2").view(np.uint8).reshape(len(samples[rows]), -1)
        lines = np.empty((raw.shape[0], raw.shape[1] + 1), np.uint8)
        lines[:, 0] = 1
        lines[:, 1 : step + 1] = raw[:, :step]
        np.subtract(raw[:, step:], raw[:, :-step], out=lines[:, step + 1 :])
        yield packer.compress(lines.data)
    yield packer.flush()
