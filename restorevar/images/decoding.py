"""From a parsed header to samples: all bits, palettes and CMYK turned into RGB, transparent colours into alpha."""

from __future__ import annotations

import re
import sys
from io import BytesIO
from typing import IO, Any

import numpy as np
from PIL import Image, ImageCms, ImageFile

from .formats import DEEP_FORMATS
from .opening import SIMPLE_CONVERSIONS, identify
from .pixels import image_bands


def decode(image: ImageFile.ImageFile, stream: IO[bytes]) -> np.ndarray:
    """All samples of the file as [H, W, C], uint8 or uint16, C from 1 to 4, in the file's orientation."""
    rawmode = _rawmode(image)
    if image.format not in DEEP_FORMATS or not re.fullmatch(r"(LA|RGB[AX]?);16[BLN]", rawmode):
        return samples_of(plain(image))
    if rawmode == "LA;16B":  # two samples of 16 bits, read as four of 8
        return samples_of(_reread(image, "RGBA")).view(">u2").astype(np.uint16)
    native, foreign = ("L", "B") if sys.byteorder == "little" else ("B", "L")
    swapped = {"N": foreign, native: foreign, foreign: native}[rawmode[-1]]
    # Pillow gives the high bytes; those of the samples with their bytes swapped are the low ones.
    deep = samples_of(_reread(identify(stream), rawmode[:-1] + swapped), np.uint16)
    for rows, band in image_bands(image):
        deep[rows] |= band.astype(np.uint16) << 8
    return _with_key(deep, image.info.get("transparency"))


def _rawmode(image: ImageFile.ImageFile) -> str:
    """Pillow's name for the layout of the stored samples, such as "RGB;16B"."""
    args = image.tile[0].args if image.tile else None
    return args if isinstance(args, str) else str(args[0]) if args else ""


def _reread(image: ImageFile.ImageFile, rawmode: str) -> ImageFile.ImageFile:
    """`image`, not yet loaded, set to take its stored samples as `rawmode`."""

    def changed(args: Any) -> Any:
        return rawmode if isinstance(args, str) else (rawmode, *args[1:])

    image.tile = [tile._replace(args=changed(tile.args)) for tile in image.tile]
    return image


def plain(image: Image.Image) -> Image.Image:
    """`image` decoded, in a plain mode, a transparent colour turned into alpha."""
    image.load()
    if image.mode == "CMYK":
        return _cmyk_to_rgb(image)
    has_key = image.has_transparency_data and not image.mode.startswith("I")
    if image.mode == "P":
        return image.convert("RGBA" if has_key else "RGB")
    mode = SIMPLE_CONVERSIONS.get(image.mode, image.mode)
    if has_key:
        mode = {"L": "LA", "RGB": "RGBA"}.get(mode, mode)
    return image if mode == image.mode else image.convert(mode)


def _cmyk_to_rgb(image: Image.Image) -> Image.Image:
    """CMYK as sRGB, by its profile if it has a usable one."""
    profile = image.info.get("icc_profile")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError):
            return image.convert("RGB")
        if converted is not None:
            return converted
    return image.convert("RGB")


def samples_of(image: Image.Image, dtype: type[np.generic] | None = None) -> np.ndarray:
    """The samples of an image in a plain mode, [H, W, C], in `dtype` or else in uint8 or (I;16) uint16."""
    image.load()  # may turn a TIFF, and so change its size
    is_deep = image.mode.startswith("I")
    shape = image.height, image.width, len(image.getbands())
    samples = np.empty(shape, dtype or (np.uint16 if is_deep else np.uint8))
    for rows, band in image_bands(image):
        samples[rows] = band
    # Only here: Pillow itself turns the transparent colour of other modes into alpha.
    return _with_key(samples, image.info.get("transparency") if is_deep else None)


def _with_key(samples: np.ndarray, key: Any) -> np.ndarray:
    """16-bit samples, with an alpha channel that is 0 where the pixel has the colour `key`, if any."""
    if key is None:
        return samples
    opaque = (samples != np.asarray(key, np.uint16)).any(axis=2, keepdims=True)
    return np.concatenate([samples, np.where(opaque, np.uint16(65535), np.uint16(0))], axis=2)
