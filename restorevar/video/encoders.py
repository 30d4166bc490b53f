"""Which encoder, pixel format and options a clip is written with."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import av
from av import VideoFormat

from ..errors import UserError
from .formats import CONTAINERS
from .options import VideoOptions, quality_of

#: Codecs -> their encoders, by preference; which there are depends on how PyAV was built.
ENCODERS = {
    "h264": ("libx264", "libopenh264"),
    "hevc": ("libx265",),
    "av1": ("libsvtav1", "libaom-av1", "librav1e"),
    "vp9": ("libvpx-vp9",),
    "mpeg4": ("mpeg4",),
    "prores": ("prores_ks", "prores"),
    "ffv1": ("ffv1",),
}
#: Cannot hold an odd side where the colour is stored at half of it.
_EVEN_ONLY = ("libx264", "libopenh264", "libx265", "libsvtav1", "prores_ks", "prores")
#: Keep transparency so that others find it again, and know gray as such.
_FAITHFUL = ("ffv1", "prores_ks")
#: Palettes are worked on as the RGB that they stand for.
_PALETTE = {"pal8": "bgra"}


@dataclass(frozen=True)
class Encoding:
    """What frames are encoded with. `losses`: what of the clip it cannot hold, in words; most clips have none."""

    codec: str
    encoder: str
    pix_fmt: str
    options: dict[str, str] = field(default_factory=dict)
    losses: tuple[str, ...] = ()


def choose_encoding(target: Path, pix_fmt: str, size: tuple[int, int], options: VideoOptions) -> Encoding:
    """For frames of `size` (height, width) in `pix_fmt`: the first codec of the container that holds them as they are.

    Else the one that loses least. Raises UserError if none can be written, or if transparency would be lost.
    """
    wanted = (options.codec,) if options.codec else CONTAINERS[target.suffix.lower()]
    holds = _codecs_of(target)
    found = []
    for codec in wanted:
        if holds is not None and codec not in holds:
            continue
        encoder = next((name for name in ENCODERS[codec] if name in av.codecs_available), None)
        if encoder is None:
            continue
        chosen = _pixel_format(encoder, pix_fmt, size)
        if chosen is not None:
            found.append((codec, encoder, *chosen))
    if not found:
        what = f"as {options.codec}" if options.codec else "with what this PyAV can encode"
        raise UserError(f"{target}: {size[1]}x{size[0]} {pix_fmt} frames cannot be written {what}")
    codec, encoder, chosen_format, losses = min(found, key=lambda item: _reluctance(item, pix_fmt))
    if "transparency" in losses:
        raise UserError(f"{target}: would lose its transparency; write a .mkv with --codec ffv1")
    return Encoding(codec, encoder, chosen_format, _options(encoder, quality_of(codec, options.crf)), losses)


def _reluctance(found: tuple[str, str, str, tuple[str, ...]], pix_fmt: str) -> tuple[bool, int, bool, bool]:
    """Least for what loses nothing, then for what players know; among equals the container's order decides."""
    codec, _, chosen, losses = found
    source, offered = VideoFormat(_PALETTE.get(pix_fmt, pix_fmt), 64, 64), VideoFormat(chosen, 64, 64)
    blown_up = codec != "prores" and not source.is_rgb and _chroma(offered) > max(1024, _chroma(source))
    return "transparency" in losses, len(losses), blown_up, codec == "h264" and _bits(offered) > 8


def _codecs_of(target: Path) -> set[str] | None:
    """The codecs that a container takes; None where FFmpeg does not tell."""
    with av.open(os.devnull, "w", format=muxer(target)) as container:
        names = container.supported_codecs
    return {codec for codec, encoders in ENCODERS.items() if names & {codec, *encoders}} or None


def muxer(target: Path) -> str:
    """FFmpeg's name of the container, by suffix."""
    known = {".mkv": "matroska", ".m4v": "mp4", ".ts": "mpegts", ".mts": "mpegts", ".m2ts": "mpegts"}
    suffix = target.suffix.lower()
    return known.get(suffix, suffix[1:])


def _pixel_format(encoder: str, pix_fmt: str, size: tuple[int, int]) -> tuple[str, tuple[str, ...]] | None:
    """The encoder's format nearest to `pix_fmt`, and what is lost by it."""
    source = VideoFormat(_PALETTE.get(pix_fmt, pix_fmt), 64, 64)
    best: tuple[tuple[bool | int, ...], str, tuple[str, ...]] | None = None
    for format in av.Codec(encoder, "w").video_formats or ():
        if not _usable(format, encoder, size):
            continue
        offered = VideoFormat(format.name, 64, 64)
        losses = _losses(source, offered)
        excess = abs(_chroma(offered) - _chroma(source)), abs(_bits(offered) - _bits(source))
        alpha = _has_alpha(offered) != _has_alpha(source)
        cost = (len(losses), offered.is_rgb != source.is_rgb, alpha, *excess, format.name != pix_fmt)
        if best is None or cost < best[0]:
            best = cost, format.name, losses
    return best and (best[1], best[2])


def _usable(format: VideoFormat, encoder: str, size: tuple[int, int]) -> bool:
    if format.name.startswith(("yuvj", "nv", "grayf", "gbrpf", "ya")):
        return False  # doublets of others, and those that the converter does not take
    sparse = VideoFormat(format.name, 64, 64)
    if encoder not in _FAITHFUL and (_has_alpha(sparse) or not _chroma(sparse)):
        return False
    odd = (size[0] % 2 and sparse.chroma_height(64) < 64) or (size[1] % 2 and sparse.chroma_width(64) < 64)
    return not (odd and encoder in _EVEN_ONLY)


def _losses(source: VideoFormat, offered: VideoFormat) -> tuple[str, ...]:
    lost = []
    if _has_alpha(source) and not _has_alpha(offered):
        lost.append("transparency")
    if _bits(offered) < _bits(source):
        lost.append(f"{_bits(source)} bits a sample, written with {_bits(offered)}")
    if _chroma(offered) < _chroma(source):
        lost.append("colour at full size, written at less")
    return tuple(lost)


def _bits(format: VideoFormat) -> int:
    return max(component.bits for component in format.components)


def _has_alpha(format: VideoFormat) -> bool:
    return any(component.is_alpha for component in format.components)


def _chroma(format: VideoFormat) -> int:
    """Colour samples per 4096 pixels; gray has none."""
    if len(format.components) < 3:
        return 0
    return 4096 if format.is_rgb else (format.chroma_width(64) or 64) * (format.chroma_height(64) or 64)


def _options(encoder: str, quality: int | None) -> dict[str, str]:
    """As the encoder names them. Speeds are chosen so that the model, not the encoder, sets the pace."""
    crf = {} if quality is None else {"crf": str(quality)}
    own: dict[str, dict[str, str]] = {
        "libx264": {"preset": "medium"},
        "libx265": {"preset": "medium", "x265-params": "log-level=error"},
        "libsvtav1": {"preset": "6"},
        "libaom-av1": {"cpu-used": "5", "row-mt": "1", "b": "0"},
        "libvpx-vp9": {"deadline": "good", "cpu-used": "3", "row-mt": "1", "b": "0"},
        "ffv1": {"level": "3", "slicecrc": "1"},
        "prores_ks": {"vendor": "apl0"},
    }
    if encoder == "mpeg4":
        return {"qmin": str(quality), "qmax": str(quality)}
    if encoder in ("libopenh264", "librav1e"):
        return {}
    return crf | own.get(encoder, {})
