"""TIFF of 8 or 16 bits, written without Pillow's encoder."""

from __future__ import annotations

import zlib
from itertools import accumulate
from typing import IO, Any

import numpy as np
from PIL import TiffImagePlugin

from .metadata import descriptive, fitting_profile, rewritable
from .photo import Photo, stored_samples


def encode_tiff(photo: Photo, stream: IO[bytes]) -> None:
    """Writes a TIFF of 8 or 16 bits, uncompressed if the source was, else Deflate.

    Pillow's own writer has no 16-bit colour, and fails on EXIF in compressed files.
    """
    samples = stored_samples(photo)
    if samples.shape[2] == 2 and samples.dtype == np.uint16:  # what hardly any reader takes: gray with alpha
        samples = samples[..., [0, 0, 0, 1]]
    raw = photo.coding.get("compression") == "raw"
    rows = max(1, (1 << 20) // samples[0].nbytes)
    bands = (samples[top : top + rows] for top in range(0, len(samples), rows))
    strips = [band.astype(band.dtype.newbyteorder("<")).tobytes() if raw else _deflated(band) for band in bands]
    directory = _tiff_directory(photo, samples, raw)
    directory[TiffImagePlugin.ROWSPERSTRIP] = rows
    sizes = [len(strip) for strip in strips]
    directory[TiffImagePlugin.STRIPBYTECOUNTS] = tuple(sizes)
    # Counted from the end of the directory; `save` makes them offsets in the file.
    directory[TiffImagePlugin.STRIPOFFSETS] = tuple(accumulate(sizes[:-1], initial=0))
    directory.save(stream)
    stream.writelines(strips)


def _deflated(band: np.ndarray) -> bytes:
    """Rows of samples as TIFF's Deflate wants them: differences to the pixel on the left, little-endian."""
    differences = band.copy()
    differences[:, 1:] -= band[:, :-1]
    return zlib.compress(differences.astype(band.dtype.newbyteorder("<"), copy=False).data, 4)


def _tiff_directory(photo: Photo, samples: np.ndarray, raw: bool) -> TiffImagePlugin.ImageFileDirectory_v2:
    """The tags of the photo, all but those of the strips."""
    height, width, channels = samples.shape
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    directory[TiffImagePlugin.IMAGEWIDTH] = width
    directory[TiffImagePlugin.IMAGELENGTH] = height
    directory[TiffImagePlugin.BITSPERSAMPLE] = (8 * samples.itemsize,) * channels
    directory[TiffImagePlugin.SAMPLESPERPIXEL] = channels
    directory[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = 1 if channels < 3 else 2
    directory[TiffImagePlugin.PLANAR_CONFIGURATION] = 1
    directory[TiffImagePlugin.COMPRESSION] = 1 if raw else 8
    if not raw:
        directory[TiffImagePlugin.PREDICTOR] = 2
    if channels in (2, 4):
        directory[TiffImagePlugin.EXTRASAMPLES] = 2
    for tag, value in _tiff_metadata(photo).items():
        directory[tag] = value
    return directory


def _tiff_metadata(photo: Photo) -> dict[int, Any]:
    tags: dict[int, Any] = {}
    if photo.exif and (exif := rewritable(photo.exif)):
        tags |= descriptive(exif)
    if photo.dpi:
        tags[TiffImagePlugin.RESOLUTION_UNIT] = 2
        tags[TiffImagePlugin.X_RESOLUTION], tags[TiffImagePlugin.Y_RESOLUTION] = photo.dpi
    if profile := fitting_profile(photo, "TIFF"):
        tags[TiffImagePlugin.ICCPROFILE] = profile
    if photo.xmp:
        tags[TiffImagePlugin.XMP] = photo.xmp
    return tags
