"""Image files: what goes in comes out, and every refusal names the file in one line."""

from __future__ import annotations

import errno
import io
import os
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from restorevar.errors import UserError
from restorevar.images import (
    NotAnImage,
    Photo,
    TooLarge,
    check_output,
    from_tensor,
    is_image_path,
    photo_from_bytes,
    photo_from_pil,
    photo_to_bytes,
    photo_to_pil,
    read_photo,
    to_tensor,
    write_photo,
)

tifffile = pytest.importorskip("tifffile")

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
LOSSLESS = ("PNG", "TIFF", "BMP")


def noise(*shape: int, dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    peak = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, peak, shape, dtype, endpoint=True)


def smooth(height: int = 24, width: int = 40) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([4 * x, 6 * y, 2 * x + 3 * y], 2).clip(0, 255).astype(np.uint8)


def exif_block(orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif[0x0112] = orientation
    exif.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    exif.get_ifd(0x8769)[0x927C] = b"maker's note"
    exif.get_ifd(0x8825)[1] = "N"
    return exif.tobytes()


def deep_png(samples: np.ndarray, color_type: int, extra: bytes = b"", filter_type: int = 0) -> bytes:
    """A 16-bit PNG [H, W, C] written independently of the module, each row with the same filter."""
    height, width, channels = samples.shape
    rows = samples.astype(">u2").view(np.uint8).reshape(height, -1).astype(int)
    left, above, corner = (np.zeros_like(rows) for _ in range(3))
    left[:, 2 * channels :] = rows[:, : -2 * channels]
    above[1:] = rows[:-1]
    corner[1:] = left[:-1]
    guess = left + above - corner
    near = [abs(guess - other) for other in (left, above, corner)]
    first, second = (near[0] <= near[1]) & (near[0] <= near[2]), near[1] <= near[2]
    paeth = np.where(first, left, np.where(second, above, corner))
    predicted = [0 * rows, left, above, (left + above) // 2, paeth][filter_type]
    lines = b"".join(bytes([filter_type]) + bytes(line) for line in ((rows - predicted) % 256).astype(np.uint8))
    header = struct.pack(">IIBB3x", width, height, 16, color_type)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND")


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def round_trip(path: Path, **options: Any) -> tuple[Photo, Path]:
    photo = read_photo(path)
    target = path.with_name("out" + path.suffix)
    write_photo(target, photo, overwrite=True, **options)
    return photo, target


def refusal(path: Path, act: Callable[[], Any], pattern: str) -> None:
    """`act` raises a UserError of one line that begins with the name of the file and fits the pattern."""
    with pytest.raises(UserError) as caught:
        act()
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"{path}: "), message
    assert re.search(pattern, message), message


# ------------------------------------------------------------------------------------------ pixels, 8 bits


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
@pytest.mark.parametrize("mode", ["L", "RGB", "LA", "RGBA"])
def test_lossless_formats_keep_every_sample(tmp_path: Path, mode: str, suffix: str) -> None:
    if suffix == ".bmp" and "A" in mode:
        pytest.skip("BMP holds no alpha")
    source = Image.merge(mode, [Image.fromarray(noise(7, 9, seed=i)) for i in range(len(mode))])
    photo, out = round_trip(save(tmp_path / f"a{suffix}", source))
    with Image.open(out) as written:
        assert (written.mode, written.size, written.format) == (mode, (9, 7), photo.format)
        assert np.array_equal(np.asarray(written), np.asarray(source))
    assert photo.gray == mode.startswith("L") and (photo.alpha is not None) == mode.endswith("A")


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_lossy_formats_come_back_close(tmp_path: Path, mode: str, suffix: str) -> None:
    if suffix == ".jpg" and mode == "RGBA":
        pytest.skip("JPEG holds no alpha")
    source = Image.fromarray(smooth()).convert(mode)
    photo, out = round_trip(save(tmp_path / f"a{suffix}", source, quality=90))
    with Image.open(out) as written:
        assert (written.size, written.format) == (source.size, photo.format)
        if suffix == ".jpg":
            assert written.mode == mode
        assert np.abs(np.asarray(written.convert("RGB"), int) - photo.rgb).mean() < 4


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp", ".bmp", ".avif"])
def test_every_mode_of_every_format_is_read_as_pillow_reads_it(tmp_path: Path, mode: str, suffix: str) -> None:
    try:
        path = save(tmp_path / f"a{suffix}", Image.fromarray(smooth()).convert(mode))
    except OSError:
        pytest.skip("no such mode in this format")
    photo = read_photo(path)
    with Image.open(path) as image:
        assert np.array_equal(photo.rgb, np.asarray(image.convert("RGB")))


def test_palette_becomes_colour(tmp_path: Path) -> None:
    palette = Image.fromarray(smooth()).quantize(16)
    photo, out = round_trip(save(tmp_path / "a.png", palette))
    with Image.open(out) as written:
        assert written.mode == "RGB" and photo.alpha is None
        assert np.array_equal(np.asarray(written), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("transparency", [3, bytes(range(0, 160, 10))])
def test_palette_with_transparency_becomes_colour_with_alpha(tmp_path: Path, transparency: Any) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(smooth()).quantize(16), transparency=transparency)
    photo, out = round_trip(path)
    with Image.open(path) as image, Image.open(out) as written:
        assert photo.alpha is not None and written.mode == "RGBA"
        assert np.array_equal(np.asarray(written), np.asarray(image.convert("RGBA")))


@pytest.mark.parametrize(("mode", "key"), [("L", 5), ("RGB", (5, 5, 5)), ("1", 255)])
def test_transparent_colour_becomes_alpha(tmp_path: Path, mode: str, key: Any) -> None:
    grid = (np.indices((4, 4)).sum(0) % 2 * 250 + 5).astype(np.uint8)
    photo = read_photo(save(tmp_path / "a.png", Image.fromarray(grid).convert(mode), transparency=key))
    assert photo.alpha is not None and photo.gray == (mode != "RGB")
    assert sorted(np.unique(photo.alpha)) == [0, 255]


def test_one_bit_becomes_gray(tmp_path: Path) -> None:
    photo, out = round_trip(save(tmp_path / "a.png", Image.fromarray(noise(5, 5) > 99)))
    with Image.open(out) as written:
        assert written.mode == "L" and set(np.unique(photo.rgb)) == {0, 255}


def test_gray_is_the_luma_of_the_restored_channels(tmp_path: Path) -> None:
    photo = read_photo(save(tmp_path / "a.png", Image.new("L", (2, 2), 9)))
    write_photo(tmp_path / "b.png", photo.replaced(np.full((2, 2, 3), (255, 0, 100), np.uint8)))
    assert read_photo(tmp_path / "b.png").rgb[0, 0].tolist() == [round(0.299 * 255 + 0.114 * 100)] * 3


def test_cmyk_jpeg_becomes_rgb_jpeg(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", Image.new("CMYK", (16, 16), (0, 200, 200, 0)), quality=95)
    assert b"Adobe" in path.read_bytes()  # the kind with inverted values
    photo, out = round_trip(path)
    assert np.abs(photo.rgb[8, 8].astype(int) - (255, 55, 55)).max() < 12
    with Image.open(out) as written:
        assert (written.mode, written.format) == ("RGB", "JPEG")
        assert np.abs(np.asarray(written)[8, 8].astype(int) - (255, 55, 55)).max() < 12


def test_cmyk_profile_is_applied_or_at_least_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.jpg", Image.new("CMYK", (8, 8), (9, 9, 9, 9)), icc_profile=SRGB)
    assert read_photo(path).icc is None  # a profile that is not for CMYK: plain conversion
    blue = Image.new("RGB", (8, 8), (0, 0, 255))
    monkeypatch.setattr(ImageCms, "profileToProfile", lambda *_, **__: blue)
    photo = read_photo(path)
    assert photo.icc is None and photo.rgb[0, 0].tolist() == [0, 0, 255]


# ------------------------------------------------------------------------------------------ pixels, 16 bits


@pytest.mark.parametrize("filter_type", range(5))
@pytest.mark.parametrize(("channels", "color_type"), [(1, 0), (2, 4), (3, 2), (4, 6)])
def test_png_of_16_bits_keeps_every_bit(tmp_path: Path, channels: int, color_type: int, filter_type: int) -> None:
    samples = noise(11, 6, channels, dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(deep_png(samples, color_type, filter_type=filter_type))
    photo, out = round_trip(tmp_path / "a.png")
    assert photo.rgb.dtype == np.uint16 and photo.gray == (channels < 3)
    assert np.array_equal(photo.rgb[..., : channels if channels > 2 else 1], samples[..., : 3 if channels > 2 else 1])
    if photo.alpha is not None:
        assert np.array_equal(photo.alpha, samples[..., -1])
    assert deep_pixels(out).tobytes() == samples.astype(">u2").tobytes()


def test_interlaced_png_of_16_bits(tmp_path: Path) -> None:
    samples = noise(9, 11, 3, dtype=np.uint16)
    passes = [
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ]
    parts = [samples[top::down, left::right].astype(">u2") for top, left, down, right in passes]
    lines = b"".join(b"\0" + row.tobytes() for part in parts for row in part)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 11, 9, 16, 2, 0, 0, 1))
    body = header + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    assert np.array_equal(read_photo(tmp_path / "a.png").rgb, samples)


def deep_pixels(path: Path) -> np.ndarray:
    """The bytes of a 16-bit PNG whose rows all have filter 1, as this module writes them."""
    data = path.read_bytes()
    width, height, depth, color_type = struct.unpack_from(">IIBB", data, 16)
    assert depth == 16
    packed = b"".join(
        data[match.end() : match.end() + struct.unpack_from(">I", data, match.start() - 4)[0]]
        for match in re.finditer(b"IDAT", data)
    )
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[color_type]
    lines = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, -1)
    assert (lines[:, 0] == 1).all()
    return lines[:, 1:].reshape(height, width, 2 * channels).cumsum(axis=1, dtype=np.uint8)


@pytest.mark.parametrize(("color_type", "key"), [(0, (777,)), (2, (777, 65535, 3))])
def test_transparent_colour_of_16_bits_is_compared_in_16_bits(tmp_path: Path, color_type: int, key: Any) -> None:
    samples = np.zeros((2, 3, len(key)), np.uint16) + np.array(key, np.uint16)
    samples[0, 0, 0] += 1  # same high byte
    extra = chunk(b"tRNS", struct.pack(f">{len(key)}H", *key))
    (tmp_path / "a.png").write_bytes(deep_png(samples, color_type, extra))
    alpha = read_photo(tmp_path / "a.png").alpha
    assert alpha is not None and alpha.tolist() == [[65535, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"compression": "zlib"}, {"tile": (16, 16)}])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_tiff_of_16_bits_keeps_every_bit(tmp_path: Path, channels: int, options: dict[str, Any]) -> None:
    samples = noise(21, 18, channels, dtype=np.uint16)
    array = samples[..., 0] if channels == 1 else samples
    kind = "minisblack" if channels == 1 else "rgb"
    more = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    tifffile.imwrite(tmp_path / "a.tif", array, photometric=kind, **more, **options)
    photo, out = round_trip(tmp_path / "a.tif")
    assert np.array_equal(photo.rgb, np.broadcast_to(samples[..., :3], photo.rgb.shape))
    if channels == 4:
        assert photo.alpha is not None and np.array_equal(photo.alpha, samples[..., 3])
    again = read_photo(out)
    assert again.rgb.dtype == np.uint16 and np.array_equal(again.rgb, photo.rgb) and again.gray == photo.gray
    if photo.coding["compression"] == "raw":
        assert np.array_equal(tifffile.imread(out), array)


def test_16_bit_gray_with_alpha_goes_to_tiff_as_rgba(tmp_path: Path) -> None:
    gray = np.repeat(noise(4, 5, 1, dtype=np.uint16), 3, axis=2)
    alpha = noise(4, 5, dtype=np.uint16, seed=1)
    write_photo(tmp_path / "a.tif", Photo(gray, alpha, gray=True))
    again = read_photo(tmp_path / "a.tif")
    assert np.array_equal(again.rgb, gray) and again.alpha is not None and np.array_equal(again.alpha, alpha)


@pytest.mark.parametrize("shape", [(21, 18, 3), (300, 7, 4), (1, 1, 1)])
@pytest.mark.parametrize("source", ["raw", "packed"])
def test_tiff_in_many_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: Any, source: str) -> None:
    samples = noise(*shape)
    photo = Photo(
        np.ascontiguousarray(np.broadcast_to(samples[..., :3], (*shape[:2], 3))),
        samples[..., 3] if shape[2] == 4 else None,
        gray=shape[2] == 1,
        format="TIFF",
        coding={"compression": source},
    )
    write_photo(tmp_path / "a.tif", photo)
    with Image.open(tmp_path / "a.tif") as image:
        assert np.array_equal(np.asarray(image).reshape(shape), samples)


def test_16_bits_are_reduced_to_8_only_when_asked(tmp_path: Path) -> None:
    photo = Photo(np.array([[[0, 128, 129], [257, 65406, 65407]]], np.uint16))
    out = tmp_path / "a.bmp"
    refusal(out, lambda: write_photo(out, photo), "would lose bits.*BMP")
    assert not out.exists()
    write_photo(out, photo, format="bmp")
    assert read_photo(out).rgb.tolist() == [[[0, 0, 1], [1, 254, 255]]]
    assert np.array_equal(np.asarray(photo_to_pil(photo)), read_photo(out).rgb)


def test_large_images_are_handled_in_bands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restorevar.images.pixels._BAND", 50)
    samples = noise(17, 13, 4, dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(deep_png(samples, 6, filter_type=4))
    photo, out = round_trip(tmp_path / "a.png")
    assert np.array_equal(photo.rgb, samples[..., :3])
    assert deep_pixels(out).tobytes() == samples.astype(">u2").tobytes()
    assert np.array_equal(np.asarray(photo_to_pil(photo))[..., :3], np.rint(photo.rgb / 257))


# ------------------------------------------------------------------------------------------ metadata


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_metadata_is_kept(tmp_path: Path, suffix: str) -> None:
    options: dict[str, Any] = {"exif": exif_block(), "icc_profile": SRGB, "dpi": (300, 300)}
    if suffix != ".png":
        options["xmp"] = XMP
    if suffix == ".tif":
        options = {**options, "compression": "raw"}
        del options["xmp"]
    path = save(tmp_path / f"a{suffix}", Image.fromarray(smooth()), **options)
    photo, out = round_trip(path)
    with Image.open(out) as written:
        exif = written.getexif()
        assert exif[0x010F] == "Maker" and exif.get(0x0112, 1) == 1
        assert exif.get_ifd(0x8769)[0x9003] == "2024:05:06 07:08:09"
        assert exif.get_ifd(0x8769)[0x927C] == b"maker's note"
        assert exif.get_ifd(0x8825)[1] == "N"
        assert written.info["icc_profile"] == SRGB == photo.icc
        if suffix not in (".webp", ".avif"):
            assert written.info["dpi"] == pytest.approx((300, 300), abs=0.01)
        if "xmp" in options:
            assert written.info["xmp"] == XMP.replace(b"6", b"1")


@pytest.mark.parametrize("source", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("target", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_metadata_survives_a_change_of_format(tmp_path: Path, source: str, target: str) -> None:
    path = tmp_path / f"a{source}"
    Image.fromarray(smooth()).save(path, exif=exif_block(), icc_profile=SRGB)
    photo = read_photo(path)
    photo.xmp = XMP
    write_photo(tmp_path / f"b{target}", photo)
    again = read_photo(tmp_path / f"b{target}")
    assert again.icc == SRGB and again.xmp is not None and b'Orientation="6"' not in again.xmp
    assert again.exif is not None and b"Maker" in again.exif and b"2024:05:06" in again.exif


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".avif"])
def test_orientation_is_applied_once(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = save(tmp_path / f"a{suffix}", Image.fromarray(smooth()), exif=exif_block(orientation))
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    photo, out = round_trip(path)
    assert np.array_equal(photo.rgb, expected)
    with Image.open(out) as written:
        assert written.getexif().get(0x0112, 1) == 1
        assert written.size == (expected.shape[1], expected.shape[0])


@pytest.mark.parametrize("orientation", [3, 6])
def test_orientation_of_16_bit_files(tmp_path: Path, orientation: int) -> None:
    samples = noise(3, 5, 3, dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(deep_png(samples, 2, chunk(b"eXIf", exif_block(orientation)[6:])))
    tags = [(0x0112, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", extratags=tags)
    expected = samples[::-1, ::-1] if orientation == 3 else np.rot90(samples, -1)
    for name in ("a.png", "a.tif"):
        photo, out = round_trip(tmp_path / name)
        assert np.array_equal(photo.rgb, expected)
        assert np.array_equal(read_photo(out).rgb, expected)


def test_exif_thumbnail_is_unlinked_and_the_rest_untouched(tmp_path: Path) -> None:
    exif = bytearray(exif_block(6))
    end = 6 + 8 + 2 + 12 * struct.unpack_from(">H", exif, 14)[0]
    struct.pack_into(">I", exif, end, len(exif) - 6)
    exif += struct.pack(">HHHII", 1, 0x0201, 4, 1, 0) + bytes(4)
    photo = read_photo(save(tmp_path / "a.jpg", Image.fromarray(smooth()), exif=bytes(exif)))
    assert photo.exif is not None and len(photo.exif) == len(exif) - 6
    assert sum(a != b for a, b in zip(photo.exif, exif[6:], strict=True)) <= 5
    parsed = Image.Exif()
    parsed.load(photo.exif)
    assert not parsed.get_ifd(1) and parsed[0x0112] == 1


@pytest.mark.parametrize("junk", [b"Exif\0\0junk", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff"])
def test_broken_exif_does_no_harm(tmp_path: Path, junk: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        photo, out = round_trip(save(tmp_path / "a.jpg", Image.fromarray(smooth()), exif=junk))
        for name in ("b.tif", "b.avif", "b.png"):
            write_photo(tmp_path / name, photo)
    assert photo.rgb.shape == (24, 40, 3) and out.exists()


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg_keeps_tables_subsampling_and_comment(tmp_path: Path, mode: str, subsampling: int) -> None:
    image = Image.fromarray(smooth()).convert(mode)
    path = save(tmp_path / "a.jpg", image, quality=67, subsampling=subsampling, comment=b"hello")
    _, out = round_trip(path)
    with Image.open(path) as source, Image.open(out) as written:
        assert written.quantization == source.quantization
        if mode == "RGB":
            assert [part[:3] for part in written.layer] == [part[:3] for part in source.layer]
        assert written.info["comment"] == b"hello"
    _, out = round_trip(path, quality=30)
    with Image.open(path) as source, Image.open(out) as written:
        assert written.quantization[0][0] > source.quantization[0][0]


def test_jpeg_from_elsewhere_has_quality_95_and_full_colour(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.jpg", Photo(smooth()))
    Image.fromarray(smooth()).save(tmp_path / "b.jpg", quality=95, subsampling=0)
    with Image.open(tmp_path / "a.jpg") as a, Image.open(tmp_path / "b.jpg") as b:
        assert a.quantization == b.quantization and a.layer == b.layer


def test_jpeg_with_the_finest_tables_holds_noise(tmp_path: Path) -> None:
    photo = Photo(noise(400, 400, 3), format="JPEG", coding={"qtables": [[1] * 64] * 2, "subsampling": 0})
    write_photo(tmp_path / "a.jpg", photo)
    assert np.abs(read_photo(tmp_path / "a.jpg").rgb.astype(int) - photo.rgb).mean() < 2


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("extended", [True, False])
def test_webp_stays_lossless_or_lossy(tmp_path: Path, lossless: bool, extended: bool) -> None:
    options = {"icc_profile": SRGB} if extended else {}
    image = Image.fromarray(noise(9, 9, 4))
    photo, out = round_trip(save(tmp_path / "a.webp", image, lossless=lossless, **options))
    again = read_photo(out)
    assert photo.coding == again.coding == {"lossless": lossless}
    if lossless:
        assert np.array_equal(again.rgb, photo.rgb)
        assert read_photo(round_trip(tmp_path / "a.webp", quality=50)[1]).coding == {"lossless": False}


@pytest.mark.parametrize("deep", [False, True])
def test_png_colour_chunks_and_texts_are_kept(tmp_path: Path, deep: bool) -> None:
    extra = chunk(b"gAMA", struct.pack(">I", 100000)) + chunk(b"tEXt", b"Author\0Ann")
    extra += chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP) + chunk(b"pHYs", struct.pack(">IIB", 3937, 3937, 1))
    data = deep_png(noise(3, 3, 3, dtype=np.uint16), 2, extra)
    if not deep:
        plain = io.BytesIO()
        Image.new("RGB", (3, 3)).save(plain, "PNG")
        data = plain.getvalue()[:33] + extra + plain.getvalue()[33:]
    (tmp_path / "a.png").write_bytes(data)
    photo, out = round_trip(tmp_path / "a.png")
    with Image.open(out) as written:
        assert isinstance(written, PngImagePlugin.PngImageFile)
        assert written.info["gamma"] == 1 and written.text["Author"] == "Ann"
        assert written.info["xmp"] == photo.xmp == XMP.replace(b"6", b"1")
        assert written.info["dpi"] == pytest.approx((100, 100), abs=0.01)
    assert out.read_bytes().count(b"adobe.xmp") == 1


def test_gray_profile_is_left_out_where_gray_is_stored_as_colour(tmp_path: Path) -> None:
    profile = SRGB[:16] + b"GRAY" + SRGB[20:]
    photo = Photo(np.full((4, 4, 3), 9, np.uint8), gray=True, icc=profile)
    for name, kept in {"a.png": True, "a.jpg": True, "a.tif": True, "a.webp": False}.items():
        write_photo(tmp_path / name, photo)
        assert (read_photo(tmp_path / name).icc is not None) == kept


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_tiff_compressions(tmp_path: Path, compression: str) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(smooth()), compression=compression)
    photo, out = round_trip(path)
    with Image.open(out) as written:
        assert written.info["compression"] == ("raw" if compression == "raw" else "tiff_adobe_deflate")
    assert np.array_equal(read_photo(out).rgb, photo.rgb)


def test_camera_jpeg_with_a_second_picture_is_a_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    first, second = Image.fromarray(smooth()), Image.new("RGB", (8, 8))
    first.save(path, "MPO", save_all=True, append_images=[second])
    photo, out = round_trip(path)
    assert photo.format == "JPEG" and photo.rgb.shape == (24, 40, 3)
    with Image.open(out) as written:
        assert written.format == "JPEG"


# ------------------------------------------------------------------------------------------ refusals, reading


def test_refuses_what_is_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "notes.png").write_text("some text, and no image")
    cases = {
        "missing.png": "No such file",
        "empty.png": "is empty",
        "notes.png": "not an image",
        "nul\0name.png": "cannot be read",
    }
    for name, pattern in cases.items():
        shown = Path(str(tmp_path / name).replace("\0", r"\x00"))
        refusal(shown, lambda name=name: read_photo(tmp_path / name), pattern)
    refusal(tmp_path, lambda: read_photo(tmp_path), "is a folder")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_refuses_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    refusal(tmp_path / "pipe.png", lambda: read_photo(tmp_path / "pipe.png"), "not a regular file")


def test_refuses_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.png", Image.new("L", (2, 2)))
    denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    monkeypatch.setattr(Path, "open", lambda *_, **__: (_ for _ in ()).throw(denied))
    refusal(path, lambda: read_photo(path), "Permission denied")


def test_message_is_one_line_even_if_the_name_is_not(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"two\\nlines\.png: ") as caught:
        read_photo(tmp_path / "two\nlines.png")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp", ".avif"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_refuses_truncated_files(tmp_path: Path, suffix: str, share: float) -> None:
    path = save(tmp_path / f"a{suffix}", Image.fromarray(noise(64, 64, 3)))
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    refusal(path, lambda: read_photo(path), "is damaged")


def test_refuses_truncated_16_bit_files(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(deep_png(noise(64, 64, 3, dtype=np.uint16), 2)[:9000])
    refusal(path, lambda: read_photo(path), "is damaged")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_gets_past_as_anything_but_a_user_error(tmp_path: Path, data: st.DataObject) -> None:
    suffix = data.draw(st.sampled_from([".png", ".jpg", ".webp", ".tif", ".bmp", ".avif"]))
    path = save(tmp_path / f"a{suffix}", Image.fromarray(smooth()), exif=exif_block(6))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        photo = read_photo(path, max_pixels=100_000)
    except UserError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    else:
        assert photo.rgb.ndim == 3


def test_refuses_a_bomb_from_its_header(tmp_path: Path) -> None:
    header = struct.pack(">IIBB3x", 100_000, 100_000, 8, 2)
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", bytes(9)) + chunk(b"IEND"))
    refusal(path, lambda: read_photo(path), "claims 100000 x 100000 pixels, above the limit of 200000000")
    small = save(tmp_path / "a.png", Image.new("L", (4, 3)))
    assert read_photo(small, max_pixels=12).rgb.shape == (3, 4, 3)
    refusal(small, lambda: read_photo(small, max_pixels=11), "claims 4 x 3")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".avif", ".tif"])
def test_pillows_own_pixel_limit_neither_warns_nor_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = save(tmp_path / f"a{suffix}", Image.new("RGB", (40, 40)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        round_trip(path)
    assert Image.MAX_IMAGE_PIXELS == 1000


@pytest.mark.parametrize("suffix", [".png", ".webp", ".avif", ".tif"])
def test_refuses_animations_and_pages(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), (i * 40, 0, 0)) for i in range(5)]
    path = tmp_path / f"a{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    kind = "has 5 pages" if suffix == ".tif" else r"is animated \(5 frames\)"
    refusal(path, lambda: read_photo(path), f"{kind}; restorevar takes single images")


def test_refuses_files_made_to_cost_hours(tmp_path: Path) -> None:
    """A chain of a million pages, which Pillow would count one by one; a JPEG of thousands of scans."""
    pages = save(tmp_path / "a.tif", Image.new("RGB", (8, 8)))
    data = bytearray(pages.read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    end, count = len(data), 1_000_000
    struct.pack_into("<I", data, first + 2 + 12 * entries, end)
    chain = np.zeros((count, 6), np.uint8)  # no entries, and where the next page is
    chain[:, 2:] = (end + 6 * np.arange(1, count + 1, dtype="<u4")).view(np.uint8).reshape(-1, 4)
    pages.write_bytes(bytes(data) + chain.tobytes())
    refusal(pages, lambda: read_photo(pages), "has [0-9]+( or more)? pages")

    scans = tmp_path / "a.jpg"
    Image.fromarray(noise(64, 64, 3)).save(scans, progressive=True)
    data = bytearray(scans.read_bytes())
    assert photo_from_bytes(bytes(data)).rgb.shape == (64, 64, 3)  # an ordinary progressive one has ten
    last = data.rindex(b"\xff\xda")
    scans.write_bytes(data[:-2] + bytes(data[last:-2]) * 1000 + data[-2:])
    refusal(scans, lambda: read_photo(scans), "JPEG of more than 200 scans")


def test_bytes_as_files(tmp_path: Path) -> None:
    """In memory, a photo is read and written as on disk."""
    path = save(tmp_path / "a.jpg", Image.fromarray(noise(20, 30, 3)), quality=90)
    photo = photo_from_bytes(path.read_bytes())
    write_photo(tmp_path / "b.jpg", photo)
    assert photo_to_bytes(photo) == ("JPEG", (tmp_path / "b.jpg").read_bytes())
    assert photo_to_bytes(photo, "png")[0] == "PNG"
    with pytest.raises(UserError, match="image: has an unknown output format"):
        photo_to_bytes(photo, "gif")
    with pytest.raises(NotAnImage, match="image: is not an image"):
        photo_from_bytes(b"PK\x03\x04 a zip")
    with pytest.raises(TooLarge, match="image: claims 30 x 20 pixels"):
        photo_from_bytes(path.read_bytes(), max_pixels=599)
    with pytest.raises(UserError, match="image: is empty"):
        photo_from_bytes(b"")


@pytest.mark.parametrize(("mode", "kind"), [("F", "floating-point"), ("I", "32-bit"), ("LAB", "LAB")])
def test_refuses_other_pixels(tmp_path: Path, mode: str, kind: str) -> None:
    image = Image.new(mode, (4, 4))
    path = save(tmp_path / "a.tif", image)
    refusal(path, lambda: read_photo(path), f"{kind}.* pixels")
    refusal(Path("image"), lambda: photo_from_pil(image), f"{kind}.* pixels")


@pytest.mark.parametrize(
    "options",
    [
        {"photometric": "rgb", "planarconfig": "separate", "shape": (3, 4, 4)},
        {"photometric": "separated", "shape": (4, 4, 4)},
        {"photometric": "miniswhite", "shape": (4, 4)},
        {"photometric": "rgb", "extrasamples": ["assocalpha"], "shape": (4, 4, 4)},
        {
            "photometric": "minisblack",
            "extrasamples": ["unassalpha"],
            "planarconfig": "contig",
            "shape": (4, 4, 2),
        },
    ],
)
def test_refuses_16_bit_tiffs_it_would_spoil(tmp_path: Path, options: dict[str, Any]) -> None:
    array = noise(*options.pop("shape"), dtype=np.uint16)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, array, **options)
    refusal(path, lambda: read_photo(path), "16-bit TIFF|not supported")


def test_refuses_avif_of_10_bits(tmp_path: Path) -> None:
    path = save(tmp_path / "a.avif", Image.fromarray(smooth()))
    data = bytearray(path.read_bytes())
    data[data.index(b"av1C") + 6] |= 0x40
    pixi = data.index(b"pixi")
    data[pixi + 9 : pixi + 12] = bytes([10, 10, 10])
    path.write_bytes(data)
    refusal(path, lambda: read_photo(path), "more than 8 bits")


# ------------------------------------------------------------------------------------------ refusals, writing


def test_refuses_outputs_it_must_not_or_cannot_write(tmp_path: Path) -> None:
    photo = Photo(smooth())
    taken = save(tmp_path / "taken.png", Image.new("L", (1, 1)))
    before = taken.read_bytes()
    (tmp_path / "folder.png").mkdir()
    refusal(taken, lambda: write_photo(taken, photo), "exists already")
    assert taken.read_bytes() == before
    for name, pattern in {
        "folder.png": "is a folder",
        "a.xyz": r"unknown output format \(xyz\)",
        "taken.png/a.png": "not a folder",
    }.items():
        refusal(tmp_path / name, lambda name=name: write_photo(tmp_path / name, photo), pattern)
    refusal(tmp_path / "a", lambda: write_photo(tmp_path / "a", photo, format="gif"), "unknown output format")
    refusal(tmp_path / "a.jpg", lambda: write_photo(tmp_path / "a.jpg", photo, quality=0), "quality 0")
    wide = Photo(np.zeros((1, 16384, 3), np.uint8))
    refusal(tmp_path / "a.webp", lambda: write_photo(tmp_path / "a.webp", wide), "too large for WEBP")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.png", "taken.png"]


@pytest.mark.parametrize("name", ["a.jpg", "a.bmp"])
def test_alpha_is_dropped_only_where_it_says_nothing(tmp_path: Path, name: str) -> None:
    alpha = np.full((24, 40), 255, np.uint8)
    write_photo(tmp_path / name, Photo(smooth(), alpha))
    assert read_photo(tmp_path / name).alpha is None
    alpha[3, 3] = 254
    out = tmp_path / ("b" + name)
    refusal(out, lambda: write_photo(out, Photo(smooth(), alpha)), "transparency")


def test_unwritable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    refusal(tmp_path / "a.png", lambda: check_output(tmp_path / "a.png", Photo(smooth())), "cannot be written")


def test_format_is_that_asked_for_or_of_the_name_or_of_the_photo(tmp_path: Path) -> None:
    photo = Photo(smooth(), format="WEBP")
    for name, format, expected in [
        ("a.jpg", None, "JPEG"),
        ("b.jpg", "tif", "TIFF"),
        ("c", None, "WEBP"),
        ("d.xyz", "AVIF", "AVIF"),
    ]:
        assert check_output(tmp_path / name, photo, format) == expected
        write_photo(tmp_path / name, photo, format)
        with Image.open(tmp_path / name) as written:
            assert written.format == expected


def test_folder_is_made_and_no_other_file_stays(tmp_path: Path) -> None:
    write_photo(tmp_path / "x" / "y" / "a.png", Photo(smooth()))
    assert [p.name for p in (tmp_path / "x" / "y").iterdir()] == ["a.png"]


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["write", "replace"])
def test_a_failing_save_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, step: str
) -> None:
    out = save(tmp_path / "a.png", Image.new("L", (1, 1)))
    before = out.read_bytes()

    def fail(*_: Any) -> None:
        raise failure

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            super().write(data[:10])
            raise failure

    if step == "replace":
        monkeypatch.setattr(os, "replace", fail)
    else:
        monkeypatch.setattr(Path, "open", lambda path, _mode: Full(path, "x"))
    if isinstance(failure, OSError):
        refusal(out, lambda: write_photo(out, Photo(smooth()), overwrite=True), "No space left on device")
    else:
        with pytest.raises(KeyboardInterrupt):
            write_photo(out, Photo(smooth()), overwrite=True)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"] and out.read_bytes() == before


def test_a_failing_encoder_names_the_file(tmp_path: Path) -> None:
    out = tmp_path / "a.jpg"
    photo = Photo(smooth(), exif=b"II*\0" + bytes(70_000))
    refusal(out, lambda: write_photo(out, photo), "cannot be written as JPEG.*EXIF")
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------ the rest


def test_source_can_be_overwritten_in_place(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(smooth()))
    write_photo(path, read_photo(path).replaced(255 - smooth()), overwrite=True)
    assert np.array_equal(read_photo(path).rgb, 255 - smooth())


def test_replaced_checks_shape_and_type() -> None:
    photo = Photo(smooth(), np.zeros((24, 40), np.uint8), dpi=(1, 1))
    assert photo.replaced(smooth()).dpi == (1, 1)
    for pixels in (smooth()[1:], smooth().astype(np.uint16)):
        with pytest.raises(ValueError, match="the photo has"):
            photo.replaced(pixels)


def test_is_image_path() -> None:
    assert all(is_image_path(f"x/a{suffix}") for suffix in (".png", ".JPG", ".tiff", ".WebP", ".avif", ".bmp"))
    assert not any(is_image_path(name) for name in ("a.txt", "png", ".png", "._a.jpg", "a.png.part"))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_pillow_images_in_memory(mode: str) -> None:
    image = Image.fromarray(smooth()).convert("L" if mode == "I;16" else mode).convert(mode)
    photo = photo_from_pil(image)
    assert photo.format == "PNG" and photo.rgb.shape == (24, 40, 3)
    if mode == "I;16":
        assert photo.rgb.dtype == np.uint16
    else:
        again = photo_to_pil(photo)
        assert np.array_equal(np.asarray(again.convert("RGBA")), np.asarray(image.convert("RGBA")))


def test_opened_pillow_images_bring_their_metadata(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", Image.fromarray(smooth()), exif=exif_block(6), icc_profile=SRGB, quality=61)
    with Image.open(path) as image:
        photo = photo_from_pil(image)
    expected = read_photo(path)
    assert np.array_equal(photo.rgb, expected.rgb)
    assert (photo.exif, photo.icc, photo.coding) == (expected.exif, expected.icc, expected.coding)
    info = photo_to_pil(photo).info
    assert info["exif"] == photo.exif and info["icc_profile"] == SRGB


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tensors_hold_every_value(dtype: Any) -> None:
    peak = np.iinfo(dtype).max
    pixels = np.arange(peak + 1, dtype=dtype).reshape(-1, 16, 1).repeat(3, axis=2)
    tensor = to_tensor(pixels)
    assert tensor.shape == (3, *pixels.shape[:2]) and tensor.dtype == torch.float32 and tensor.is_contiguous()
    assert tensor.min() == -1 and tensor.max() == 1
    before = tensor.clone()
    assert np.array_equal(from_tensor(tensor, dtype), pixels)
    assert torch.equal(tensor, before)


def test_tensors_of_windows_and_rounding() -> None:
    pixels = noise(9, 9, 3)
    assert np.array_equal(from_tensor(to_tensor(pixels[2:5, 3:])), pixels[2:5, 3:])
    values = torch.tensor([-7.0, -1.0, -1 + 3.1 / 255, 0.0, 1.0, 7.0]).view(1, 1, 6)
    assert from_tensor(values).ravel().tolist() == [0, 0, 2, 128, 255, 255]  # 0 is 127.5: half to even
    assert from_tensor(values, np.uint16)[0, 3, 0] == 32768
    assert from_tensor(values.bfloat16()).dtype == np.uint8


def test_threads_can_read_and_write(tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for _ in range(5):
                path = tmp_path / f"{seed}.png"
                write_photo(path, Photo(noise(8, 8, 3, seed=seed)), overwrite=True)
                assert np.array_equal(read_photo(path).rgb, noise(8, 8, 3, seed=seed))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    deep=st.booleans(),
    gray=st.booleans(),
    alpha=st.booleans(),
    suffix=st.sampled_from([".png", ".tif", ".jpg", ".webp", ".avif", ".bmp"]),
)
def test_any_size_and_kind_comes_back(
    tmp_path: Path, height: int, width: int, deep: bool, gray: bool, alpha: bool, suffix: str
) -> None:
    dtype: Any = np.uint16 if deep and suffix in (".png", ".tif") else np.uint8
    rgb = noise(height, width, 3, dtype=dtype)
    if gray:
        rgb[:] = rgb[..., :1]
    plane = noise(height, width, dtype=dtype, seed=1) if alpha and suffix not in (".jpg", ".bmp") else None
    photo = Photo(rgb, plane, gray, exif=exif_block()[6:], icc=SRGB, dpi=(72, 72))
    path = tmp_path / f"a{suffix}"
    write_photo(path, photo, overwrite=True)
    again = read_photo(path)
    assert again.rgb.shape == rgb.shape and again.rgb.dtype == dtype
    if again.format in LOSSLESS:
        assert np.array_equal(again.rgb, rgb) and (again.alpha is None) == (plane is None)
        assert plane is None or (again.alpha is not None and np.array_equal(again.alpha, plane))
    first = path.read_bytes()
    write_photo(path, again, overwrite=True)
    assert suffix in (".jpg", ".webp", ".avif") or path.read_bytes() == first
