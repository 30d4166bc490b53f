"""A Photo as the bytes of a file: which encoder, and what it is told."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from .formats import OPAQUE_FORMATS
from .metadata import fitting_profile, rewritable
from .photo import Photo, photo_to_pil, stored_samples
from .png import encode_deep_png, png_info
from .tiff import encode_tiff


def encode(photo: Photo, name: str, quality: int | None) -> BytesIO:
    """The complete file. In memory, so that nothing but whole files meets the disk."""
    if name in OPAQUE_FORMATS:
        photo = replace(photo, alpha=None)
    if photo.format != name:
        photo = replace(photo, coding={})
    stream = BytesIO()
    if name == "TIFF":
        encode_tiff(photo, stream)
    elif name == "PNG" and photo.rgb.dtype == np.uint16:
        model = BytesIO()  # lends its metadata
        Image.new("L" if photo.gray else "RGB", (1, 1)).save(model, name, **_save_options(photo, name, None))
        encode_deep_png(stored_samples(photo), model, stream)
    else:
        photo_to_pil(photo).save(stream, name, **_save_options(photo, name, quality))
    return stream


def _save_options(photo: Photo, name: str, quality: int | None) -> dict[str, Any]:
    """The keywords for Pillow's `save`: metadata and quality, each as the format wants it."""
    options: dict[str, Any] = {"icc_profile": fitting_profile(photo, name), "dpi": photo.dpi}
    if photo.exif and (name != "AVIF" or rewritable(photo.exif)):
        options["exif"] = b"Exif\0\0" + photo.exif
    if name == "PNG":
        options["pnginfo"] = png_info(photo)
    elif name != "BMP":
        options["xmp"] = photo.xmp
    if name == "JPEG":
        options |= _jpeg_options(photo, quality)
    elif name == "WEBP":
        lossless = quality is None and photo.coding.get("lossless", False)
        options |= {"lossless": True, "exact": True} if lossless else {"quality": quality or 90}
    elif name == "AVIF":
        options |= {"quality": quality or 90}
        options |= {} if photo.gray else {"subsampling": "4:4:4"}
    return {key: value for key, value in options.items() if value is not None or key == "icc_profile"}


def _jpeg_options(photo: Photo, quality: int | None) -> dict[str, Any]:
    options = {"subsampling": 0, **photo.coding}
    if quality is not None or "qtables" not in options:
        options.pop("qtables", None)
        options["quality"] = quality or 95
    return options
