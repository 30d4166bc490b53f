"""Read and write photographs so that everything but the pixels comes out as it went in.

`read_photo` gives a `Photo`: upright RGB pixels of 8 or 16 bits plus all that is needed to write the file
back in kind (alpha, EXIF, ICC profile, XMP, DPI, JPEG tables, ...); `write_photo` writes it, whole or not
at all. Pillow does the decoding and encoding. It holds colour at 8 bits only, hence two additions here:

* 16-bit colour is decoded by Pillow twice, once for the high and once for the low bytes of the samples;
* 16-bit PNG, and TIFF of either depth, are encoded here, with Pillow's own writers of metadata.

What does not come back as it was: palette and CMYK pixels become RGB, 1-, 2- and 4-bit gray becomes 8-bit,
progressive JPEG becomes baseline, LZW and lossy TIFF becomes Deflate, the EXIF thumbnail is unlinked, and the
further pictures of a JPEG (depth map, gain map) are left behind.
"""

from __future__ import annotations

import math
import os
import re
import stat
import struct
import sys
import threading
import uuid
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image, ImageCms, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from restorevar.errors import UserError

EXTENSIONS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".avif": "AVIF",
}
FORMATS = tuple(dict.fromkeys(EXTENSIONS.values()))
MAX_PIXELS = 200_000_000

_DEEP_FORMATS = ("PNG", "TIFF")  # can hold 16 bits
_OPAQUE_FORMATS = ("JPEG", "BMP")  # cannot hold alpha (in BMP, readers disagree about it)
_LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383, "AVIF": 65_536}
_PLAIN_MODES = ("L", "LA", "RGB", "RGBA", "I;16", "I;16B", "I;16L")
_SIMPLE_CONVERSIONS = {"1": "L", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB", "YCbCr": "RGB", "PA": "RGBA"}
_BAND = 1 << 22  # pixels worked on at once

_ORIENTATION = 0x0112
_EXIF_IFD, _GPS_IFD, _INTEROP_IFD = 0x8769, 0x8825, 0xA005
# What a TIFF directory says about the photograph; the other tags describe how its pixels are stored.
_DESCRIPTIVE_TAGS = (270, 271, 272, 305, 306, 315, 33432, _EXIF_IFD, _GPS_IFD)
_PNG_CHUNKS = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"tEXt", b"zTXt", b"iTXt")
_XMP_KEYWORD = b"XML:com.adobe.xmp\0"

# Warnings can be silenced only for the whole process, so one thread at a time decodes or encodes.
_quiet = threading.Lock()


@dataclass(eq=False)
class Photo:
    """A photograph: its pixels, upright, and what else is written into its file.

    `coding` tells how the source file was encoded; it counts only when the output has the same format:
    JPEG {qtables, subsampling, comment}, WEBP {lossless}, TIFF {compression}, PNG {chunks}.
    """

    rgb: np.ndarray  # [H, W, 3], uint8 or uint16; all of the range is used
    alpha: np.ndarray | None = None  # [H, W], same type as rgb
    gray: bool = False  # the source was gray, and so is what is written
    format: str = "PNG"  # one of FORMATS
    exif: bytes | None = None  # a TIFF structure, without the "Exif" prefix; orientation is 1
    icc: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    coding: dict[str, Any] = field(default_factory=dict)

    def replaced(self, rgb: np.ndarray) -> Photo:
        """The same photo with new pixels; ValueError unless shape and type are those of the old ones."""
        if rgb.shape != self.rgb.shape or rgb.dtype != self.rgb.dtype:
            raise ValueError(f"pixels are {rgb.dtype} {rgb.shape}, the photo has {self.rgb.dtype} {self.rgb.shape}")
        return replace(self, rgb=rgb)


# ---------------------------------------------------------------------------------------------- public


def is_image_path(path: str | os.PathLike[str]) -> bool:
    """Whether the name looks like an image restorevar reads: a known extension, and not a hidden file."""
    path = Path(path)
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def read_photo(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> Photo:
    """Read and fully decode one image file.

    Raises UserError, with the name of the file, when it is missing, unreadable, damaged, not an image,
    animated, larger than `max_pixels` (told from the header, before decoding) or of a kind that would
    lose something (32-bit, float, some rare 16-bit ones).
    """
    with _naming(path), _open(Path(path)) as stream, _silence():
        with _translating("is damaged or not supported"):
            image = _identify(stream)
            _refuse_unsuitable(image, stream, max_pixels)
        with _translating("is damaged or incomplete"):
            pixels = _decode(image, stream)
            coding = _coding(image) | _stream_coding(image, stream)
            return _assemble(image, pixels, coding)


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
    with _naming(path):
        with _silence(), _translating(f"cannot be written as {name}"):
            data = _encode(photo, name, quality)
        _write_whole(path, data)


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
    with _naming(path), _translating("cannot be written"):
        name = _output_format(path, photo, format)
        _refuse_place(path, overwrite)
        if quality is not None and not 1 <= quality <= 100:
            raise UserError(f"cannot be written with quality {quality}; it goes from 1 to 100")
        if photo.rgb.dtype == np.uint16 and name not in _DEEP_FORMATS and format is None:
            raise UserError(f"would lose bits: the photo has 16, {name} has 8; ask for {name} to accept that")
        if name in _OPAQUE_FORMATS and not _is_opaque(photo):
            raise UserError(f"would lose its transparency, which {name} cannot hold; write PNG or WebP")
        if max(photo.rgb.shape[:2]) > _LONGEST_SIDE.get(name, math.inf):
            raise UserError(f"is too large for {name}: no side may exceed {_LONGEST_SIDE[name]} pixels")
    return name


def photo_from_pil(image: Image.Image) -> Photo:
    """The photo in a Pillow image, with the metadata Pillow knows of; the image itself stays unchanged.

    16-bit colour files opened by Pillow come with 8 bits: use `read_photo` to keep the 16.
    Raises UserError for pixel kinds that cannot be restored (32-bit, float) and for damaged files.
    """
    with _naming("image"), _silence():
        _refuse_mode(image)
        with _translating("is damaged or incomplete"):
            return _assemble(image, _samples(_plain(image)), _coding(image))


def photo_to_pil(photo: Photo) -> Image.Image:
    """The photo as a Pillow image of mode L, LA, RGB or RGBA, metadata in `info`; 16 bits become 8."""
    image = Image.fromarray(_eight_bit(_luma(photo.rgb) if photo.gray else photo.rgb))
    if photo.alpha is not None:
        image.putalpha(Image.fromarray(_eight_bit(photo.alpha)))
    known = {"exif": photo.exif, "icc_profile": photo.icc, "xmp": photo.xmp, "dpi": photo.dpi}
    image.info.update({key: value for key, value in known.items() if value is not None})
    return image


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """Pixels [H, W, C] of uint8 or uint16 as float32 [C, H, W] in [-1, 1]. Works on any window of a photo."""
    planes = np.moveaxis(pixels, -1, 0).astype(np.float32, order="C")
    return torch.from_numpy(planes).div_(np.iinfo(pixels.dtype).max / 2).sub_(1)


def from_tensor(tensor: torch.Tensor, dtype: np.dtype[Any] | type = np.uint8) -> np.ndarray:
    """A finite tensor [C, H, W] as pixels [H, W, C] of `dtype`; -1 and 1 are the ends of its range.

    Values are rounded to the nearest integer (half to even) and clipped. Undoes `to_tensor` exactly.
    """
    peak = np.iinfo(dtype).max
    # The copy is needed: the caller's tensor must survive the arithmetic in place.
    planes = tensor.detach().to("cpu", torch.float32, copy=True).add_(1).mul_(peak / 2)
    pixels = planes.round_().clamp_(0, peak).numpy().astype(dtype)
    return np.ascontiguousarray(np.moveaxis(pixels, 0, -1))


# ---------------------------------------------------------------------------------------------- errors


@contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Puts the name of the file before the message of a UserError, and makes it one line."""
    try:
        yield
    except UserError as error:
        name = "".join(c if c.isprintable() else repr(c)[1:-1] for c in os.fspath(path))
        raise UserError(" ".join(f"{name}: {error}".split("\n"))) from error.__cause__


@contextmanager
def _translating(verdict: str) -> Iterator[None]:
    """Turns any failure inside into a UserError. Pillow raises every kind of exception on broken files."""
    try:
        yield
    except UserError:
        raise
    except MemoryError as error:
        raise UserError("needs more memory than there is") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{verdict} ({reason})") from error


@contextmanager
def _silence() -> Iterator[None]:
    with _quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# ---------------------------------------------------------------------------------------------- reading


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
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


def _identify(stream: IO[bytes]) -> ImageFile.ImageFile:
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


def _refuse_unsuitable(image: ImageFile.ImageFile, stream: IO[bytes], max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise UserError(f"claims {width} x {height} pixels, above the limit of {max_pixels}")
    # The further pictures of an MPO, a camera's JPEG, are variants of the first one.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        kind = f"has {frames} pages" if image.format == "TIFF" else f"is animated ({frames} frames)"
        raise UserError(f"{kind}; restorevar takes single images")
    _refuse_mode(image)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _refuse_tiff(image)
    if image.format == "AVIF" and _is_deep_avif(stream):
        raise UserError("has more than 8 bits in AVIF, which cannot be kept; convert it to 16-bit PNG")


def _refuse_mode(image: Image.Image) -> None:
    if image.mode not in (*_PLAIN_MODES, *_SIMPLE_CONVERSIONS, "P", "CMYK"):
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


# ---------------------------------------------------------------------------------------------- pixels


def _decode(image: ImageFile.ImageFile, stream: IO[bytes]) -> np.ndarray:
    """All samples of the file as [H, W, C], uint8 or uint16, C from 1 to 4, in the file's orientation."""
    rawmode = _rawmode(image)
    if image.format not in _DEEP_FORMATS or not re.fullmatch(r"(LA|RGB[AX]?);16[BLN]", rawmode):
        return _samples(_plain(image))
    if rawmode == "LA;16B":  # two samples of 16 bits, read as four of 8
        return _samples(_reread(image, "RGBA")).view(">u2").astype(np.uint16)
    native, foreign = ("L", "B") if sys.byteorder == "little" else ("B", "L")
    swapped = {"N": foreign, native: foreign, foreign: native}[rawmode[-1]]
    # Pillow gives the high bytes; those of the samples with their bytes swapped are the low ones.
    deep = _samples(_reread(_identify(stream), rawmode[:-1] + swapped), np.uint16)
    for rows, band in _bands(image):
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


def _plain(image: Image.Image) -> Image.Image:
    """`image` decoded, in one of _PLAIN_MODES, a transparent colour turned into alpha."""
    image.load()
    if image.mode == "CMYK":
        return _cmyk_to_rgb(image)
    has_key = image.has_transparency_data and not image.mode.startswith("I")
    if image.mode == "P":
        return image.convert("RGBA" if has_key else "RGB")
    mode = _SIMPLE_CONVERSIONS.get(image.mode, image.mode)
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


def _bands(image: Image.Image) -> Iterator[tuple[slice, np.ndarray]]:
    """The rows of `image` in bands of [rows, W, C]: a conversion of the whole would need two more copies."""
    step = max(1, _BAND // image.width)
    for top in range(0, image.height, step):
        bottom = min(top + step, image.height)
        band = np.asarray(image.crop((0, top, image.width, bottom)))
        yield slice(top, bottom), band.reshape(bottom - top, image.width, -1)


def _samples(image: Image.Image, dtype: type[np.generic] | None = None) -> np.ndarray:
    """The samples of an image in a plain mode, [H, W, C], in `dtype` or else in uint8 or (I;16) uint16."""
    image.load()  # may turn a TIFF, and so change its size
    is_deep = image.mode.startswith("I")
    shape = image.height, image.width, len(image.getbands())
    samples = np.empty(shape, dtype or (np.uint16 if is_deep else np.uint8))
    for rows, band in _bands(image):
        samples[rows] = band
    # Only here: Pillow itself turns the transparent colour of other modes into alpha.
    return _with_key(samples, image.info.get("transparency") if is_deep else None)


def _with_key(samples: np.ndarray, key: Any) -> np.ndarray:
    """16-bit samples, with an alpha channel that is 0 where the pixel has the colour `key`, if any."""
    if key is None:
        return samples
    opaque = (samples != np.asarray(key, np.uint16)).any(axis=2, keepdims=True)
    return np.concatenate([samples, np.where(opaque, np.uint16(65535), np.uint16(0))], axis=2)


def _upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """A view of the samples turned as the EXIF orientation (1 to 8) says; other values do nothing."""
    turns: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: a.swapaxes(0, 1)[:, ::-1],
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: a.swapaxes(0, 1)[::-1],
    }
    return turns.get(orientation, lambda a: a)(samples)


def _luma(rgb: np.ndarray) -> np.ndarray:
    """[H, W] Rec. 601 luma of [H, W, 3], in the same type; gray pixels keep their value."""
    gray = np.empty(rgb.shape[:2], rgb.dtype)
    for rows in _row_bands(rgb):
        gray[rows] = (rgb[rows] @ np.array([299, 587, 114], np.uint32) + 500) // 1000
    return gray


def _eight_bit(samples: np.ndarray) -> np.ndarray:
    """Samples in 8 bits, rounded to the nearest; those of 8 bits are returned as they are."""
    if samples.dtype == np.uint8:
        return samples
    reduced = np.empty(samples.shape, np.uint8)
    for rows in _row_bands(samples):
        reduced[rows] = (samples[rows].astype(np.uint32) + 128) // 257
    return reduced


def _row_bands(samples: np.ndarray) -> Iterator[slice]:
    height, width = samples.shape[:2]
    step = max(1, _BAND // width)
    return (slice(top, top + step) for top in range(0, height, step))


def _is_opaque(photo: Photo) -> bool:
    return photo.alpha is None or bool(photo.alpha.min() == np.iinfo(photo.alpha.dtype).max)


# ---------------------------------------------------------------------------------------------- metadata


def _assemble(image: Image.Image, samples: np.ndarray, coding: dict[str, Any]) -> Photo:
    """The photo made of decoded samples and of the metadata of the loaded image they came from."""
    orientation, exif = _exif(image)
    samples = _upright(samples, orientation)
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
        xmp=_xmp(image),
        dpi=_dpi(image),
        coding=coding,
    )


def _exif(image: Image.Image) -> tuple[int, bytes | None]:
    """The orientation still to be applied, and the EXIF block to keep: none if it cannot be parsed."""
    orientation = 1
    try:
        parsed = image.getexif()
        if isinstance(image, TiffImagePlugin.TiffImageFile):  # a TIFF is its own EXIF block; Pillow turns it
            kept = Image.Exif()
            kept.update(_descriptive(parsed))
            return 1, _reset_exif(kept.tobytes()) if kept else None
        orientation = parsed.get(_ORIENTATION, 1)
        block = image.info.get("exif") or (parsed.tobytes() if parsed else None)
        return orientation, _reset_exif(block) if block else None
    except Exception:  # metadata in disorder is no reason to refuse the picture
        return orientation, None


def _rewritable(exif: bytes) -> Image.Exif | None:
    """The EXIF parsed, or None if Pillow would fail to write it anew, as TIFF and AVIF need it."""
    parsed = Image.Exif()
    try:
        parsed.load(exif)
        parsed.tobytes()
    except Exception:  # nor is it a reason to lose the restored picture
        return None
    return parsed


def _descriptive(exif: Image.Exif) -> dict[int, Any]:
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


def _xmp(image: Image.Image) -> bytes | None:
    """The XMP packet, orientation reset; none if it points to further pictures, which are not kept."""
    xmp = image.info.get("xmp")
    if not isinstance(xmp, bytes) or not xmp or image.format == "MPO" or b"hdrgm:" in xmp:
        return None
    return re.sub(rb"(tiff:Orientation(?:=[\"']|>)\s*)[2-8]", rb"\g<1>1", xmp)


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    try:
        x, y = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    # Pillow gives 1 for a TIFF that does not tell; NaN is refused too.
    return (x, y) if 1 < x < 65_536 and 1 < y < 65_536 else None


def _coding(image: Image.Image) -> dict[str, Any]:
    """How the source was encoded, as far as the image object tells."""
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        # Ratios that Pillow cannot write come as -1: full resolution keeps them best.
        sampling = max(0, JpegImagePlugin.get_sampling(image))
        tables = [list(image.quantization[key]) for key in sorted(image.quantization)]
        return {"qtables": tables, "subsampling": sampling, "comment": image.info.get("comment")}
    if image.format == "TIFF":
        return {"compression": image.info.get("compression")}
    return {}


def _stream_coding(image: ImageFile.ImageFile, stream: IO[bytes]) -> dict[str, Any]:
    """How the source was encoded, as far as only the file itself tells."""
    if image.format == "WEBP":
        return {"lossless": _is_lossless_webp(stream)}
    if image.format == "PNG":
        stream.seek(8)
        return {"chunks": [(kind, data) for kind, data in _png_chunks(stream) if _is_kept(kind, data)]}
    return {}


def _is_lossless_webp(stream: IO[bytes]) -> bool:
    stream.seek(12)
    while len(head := stream.read(8)) == 8:
        kind, size = struct.unpack("<4sI", head)
        if kind in (b"VP8 ", b"VP8L"):
            return bool(kind == b"VP8L")
        stream.seek(size + size % 2, os.SEEK_CUR)
    return False


def _png_chunks(stream: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Type and data of the chunks from here on."""
    while len(head := stream.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        yield kind, stream.read(size)
        stream.seek(4, os.SEEK_CUR)  # checksum


def _is_kept(kind: bytes, data: bytes) -> bool:
    """Whether a PNG chunk is copied as it is: colour space and texts, but not EXIF and XMP in text form."""
    elsewhere = (_XMP_KEYWORD, b"Raw profile type exif", b"Raw profile type xmp", b"Raw profile type APP1")
    return kind in _PNG_CHUNKS and not data.startswith(elsewhere)


# ---------------------------------------------------------------------------------------------- writing


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


def _encode(photo: Photo, name: str, quality: int | None) -> BytesIO:
    """The complete file. In memory, so that nothing but whole files meets the disk."""
    if name in _OPAQUE_FORMATS:
        photo = replace(photo, alpha=None)
    if photo.format != name:
        photo = replace(photo, coding={})
    stream = BytesIO()
    if name == "TIFF":
        _encode_tiff(photo, stream)
    elif name == "PNG" and photo.rgb.dtype == np.uint16:
        _encode_deep_png(photo, stream)
    else:
        photo_to_pil(photo).save(stream, name, **_save_options(photo, name, quality))
    return stream


def _save_options(photo: Photo, name: str, quality: int | None) -> dict[str, Any]:
    """The keywords for Pillow's `save`: metadata and quality, each as the format wants it."""
    options: dict[str, Any] = {"icc_profile": _fitting_profile(photo, name), "dpi": photo.dpi}
    if photo.exif and (name != "AVIF" or _rewritable(photo.exif)):
        options["exif"] = b"Exif\0\0" + photo.exif
    if name == "PNG":
        options["pnginfo"] = _png_info(photo)
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


def _fitting_profile(photo: Photo, name: str) -> bytes | None:
    """The ICC profile, unless it is one for gray and the format stores gray as colour."""
    for_gray = photo.icc is not None and photo.icc[16:20] == b"GRAY"
    return None if for_gray and (not photo.gray or name in ("WEBP", "AVIF")) else photo.icc


def _png_info(photo: Photo) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    for kind, data in photo.coding.get("chunks", ()):
        info.add(kind, data)
    if photo.xmp:
        info.add(b"iTXt", _XMP_KEYWORD + b"\0\0\0\0" + photo.xmp)
    return info


def _channels(photo: Photo) -> np.ndarray:
    """What is stored of a photo: gray or RGB, with alpha if any, [H, W, C] in the photo's type."""
    color = _luma(photo.rgb)[..., None] if photo.gray else photo.rgb
    return color if photo.alpha is None else np.concatenate([color, photo.alpha[..., None]], axis=2)


def _encode_deep_png(photo: Photo, stream: IO[bytes]) -> None:
    """Writes a 16-bit PNG: the chunks Pillow writes for a 1 x 1 picture, with our own header and pixels."""
    samples = _channels(photo)
    height, width, channels = samples.shape
    model = BytesIO()
    Image.new("L" if photo.gray else "RGB", (1, 1)).save(model, "PNG", **_save_options(photo, "PNG", None))
    stream.write(model.getvalue()[:8])
    model.seek(8)
    for kind, data in _png_chunks(model):
        if kind == b"IHDR":
            color_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
            PngImagePlugin.putchunk(stream, kind, struct.pack(">IIBB3x", width, height, 16, color_type))
        elif kind == b"IDAT":
            for piece in _png_pixels(samples):
                PngImagePlugin.putchunk(stream, kind, piece)
        else:
            PngImagePlugin.putchunk(stream, kind, data)


def _png_pixels(samples: np.ndarray) -> Iterator[bytes]:
    """The compressed pixels of a 16-bit PNG, each byte less the byte of the pixel to its left (filter 1)."""
    packer = zlib.compressobj(4, strategy=zlib.Z_FILTERED)
    step = 2 * samples.shape[2]
    for rows in _row_bands(samples):
        raw = samples[rows].astype(">u2").view(np.uint8).reshape(len(samples[rows]), -1)
        lines = np.empty((raw.shape[0], raw.shape[1] + 1), np.uint8)
        lines[:, 0] = 1
        lines[:, 1 : step + 1] = raw[:, :step]
        np.subtract(raw[:, step:], raw[:, :-step], out=lines[:, step + 1 :])
        yield packer.compress(lines.data)
    yield packer.flush()


def _encode_tiff(photo: Photo, stream: IO[bytes]) -> None:
    """Writes a TIFF of 8 or 16 bits, uncompressed if the source was, else Deflate.

    Pillow's own writer has no 16-bit colour, and fails on EXIF in compressed files.
    """
    samples = _channels(photo)
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
    if photo.exif and (exif := _rewritable(photo.exif)):
        tags |= _descriptive(exif)
    if photo.dpi:
        tags[TiffImagePlugin.RESOLUTION_UNIT] = 2
        tags[TiffImagePlugin.X_RESOLUTION], tags[TiffImagePlugin.Y_RESOLUTION] = photo.dpi
    if profile := _fitting_profile(photo, "TIFF"):
        tags[TiffImagePlugin.ICCPROFILE] = profile
    if photo.xmp:
        tags[TiffImagePlugin.XMP] = photo.xmp
    return tags


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
