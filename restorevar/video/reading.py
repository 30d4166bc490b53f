"""A clip: what is known of it before its frames, and its frames, one after the other."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.stream import VideoStream

from ..errors import UserError
from .colors import Colors, to_pixels
from .failures import naming_failures

#: Where a file tells no frame rate.
DEFAULT_RATE = Fraction(25)
_MATRIX = struct.Struct("=9i")


@dataclass(eq=False)
class Frame:
    """One frame: its pixels as they are stored (not turned), and when it is shown, in the clip's time base."""

    pixels: np.ndarray  # [H, W, 3 or 4], uint16
    pts: int
    duration: int  # 0: not told


@dataclass
class Clip:
    """An open video, and what its result must have too.

    `frames` is the number the file claims, or an estimate; None where nothing tells. `turns`: quarter turns against
    the clock that set a frame upright. `notes` are lines for the user; reading adds to them.
    """

    path: Path
    container: InputContainer
    stream: VideoStream
    width: int
    height: int
    pix_fmt: str
    alpha: bool
    colors: Colors
    time_base: Fraction
    rate: Fraction
    frames: int | None
    sure: bool  # whether the file itself counts its frames
    aspect: Fraction | None  # of a sample
    matrix: tuple[int, ...] | None  # of the display, in FFmpeg's order
    turns: int
    notes: list[str] = field(default_factory=list)

    def read(self) -> Iterator[Frame]:
        """All frames in the order in which they are shown. What cannot be decoded is passed over, and noted.

        Raises UserError if there are none, or if they change their size.
        """
        last: int | None = None
        count = 0
        for frame in self._decoded():
            if (frame.width, frame.height) != (self.width, self.height):
                size = f"{frame.width}x{frame.height}"
                raise UserError(f"{self.path}: its frames change their size to {size} after {count} frames")
            step = frame.duration or max(1, round(1 / (self.rate * self.time_base)))
            pts = frame.pts if frame.pts is not None else (0 if last is None else last + step)
            if last is not None and pts <= last:  # encoders take rising times only
                pts = last + 1
            last = pts
            count += 1
            yield Frame(to_pixels(frame, self.colors, self.alpha), pts, frame.duration or 0)
        if not count:
            raise UserError(f"{self.path}: holds no frame that can be decoded")
        if self.sure and self.frames and count < self.frames:
            self.notes.append(f"{self.path}: ends early, after {count} of {self.frames} frames")

    def _decoded(self) -> Iterator[av.VideoFrame]:
        packets = self.container.demux(self.stream)
        bad = 0
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError):  # of the file: nothing comes after it
                bad += 1
                packet = None
            try:
                yield from self.stream.decode(packet)
            except av.EOFError:
                pass
            except av.FFmpegError:
                bad += 1
            if packet is None or packet.size == 0:
                break
        if bad:
            self.notes.append(f"{self.path}: is damaged or incomplete; {bad} of its packets could not be decoded")


@contextmanager
def open_clip(path: Path) -> Iterator[Clip]:
    """Raises UserError for what is no video, or none that can be restored."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_dir():
        raise UserError(f"{path}: is a folder")
    if not path.stat().st_size:
        raise UserError(f"{path}: is empty")
    first = _first_frame(path)
    with _opened(path) as container:
        stream = _main_stream(path, container)
        with naming_failures(path, "cannot be decoded"):
            clip = _clip(path, container, stream, first)
        yield clip


def claimed_pixels(path: Path) -> int:
    """Pixels of all frames by what the file tells of itself; 0 if it does not. Raises UserError."""
    with _opened(path) as container:
        stream = _main_stream(path, container)
        return stream.codec_context.width * stream.codec_context.height * (_frames(container, stream) or 0)


def _frames(container: InputContainer, stream: VideoStream) -> int | None:
    """The number of frames that the file claims, or an estimate."""
    if stream.frames:
        return stream.frames
    rate = stream.average_rate or stream.guessed_rate or DEFAULT_RATE
    duration = Fraction(container.duration or 0, av.time_base)
    if stream.duration and stream.time_base:
        duration = stream.duration * stream.time_base
    return round(duration * rate) if duration > 0 else None


def open_container(path: Path) -> InputContainer:
    """Raises UserError. Only this file is read, whatever it names inside."""
    with naming_failures(path, "is not a video that can be read"):
        return av.open(f"file:{path}", "r", metadata_errors="replace", options={"protocol_whitelist": "file"})


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    container = open_container(path)
    try:
        yield container
    finally:
        container.close()


def _main_stream(path: Path, container: InputContainer) -> VideoStream:
    """The first video that is no cover picture."""
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise UserError(f"{path}: has no video stream")
    if streams[0].codec_context is None:
        raise UserError(f"{path}: its video codec is not known to this PyAV")
    return streams[0]


def _clip(path: Path, container: InputContainer, stream: VideoStream, first: av.VideoFrame) -> Clip:
    context = stream.codec_context
    if not context.width or not context.height or not context.pix_fmt:
        raise UserError(f"{path}: is damaged: it does not tell the size and format of its frames")
    stream.thread_type = "AUTO"
    full = context.pix_fmt.startswith("yuvj")  # an old name for full range
    pix_fmt = context.pix_fmt.replace("yuvj", "yuv")
    colors = Colors(
        int(first.color_primaries), int(first.color_trc), int(first.colorspace), 2 if full else int(first.color_range)
    )
    if colors.hdr:
        raise UserError(f"{path}: is HDR ({colors.hdr}), which the model does not know; convert it to SDR first")
    rate = stream.average_rate or stream.guessed_rate or DEFAULT_RATE
    time_base = stream.time_base or 1 / rate
    matrix = first.side_data.get(SideDataType.DISPLAYMATRIX)  # type: ignore[call-overload]
    clip = Clip(
        path,
        container,
        stream,
        first.width,
        first.height,
        pix_fmt,
        any(component.is_alpha for component in first.format.components),
        colors,
        time_base,
        rate,
        _frames(container, stream),
        bool(stream.frames),
        stream.sample_aspect_ratio or None,
        _MATRIX.unpack(bytes(matrix)[: _MATRIX.size]) if matrix else None,
        round(first.rotation / 90) % 4,
    )
    if first.interlaced_frame:
        clip.notes.append(f"{path}: is interlaced; its frames are restored and written whole, so deinterlace it first")
    if stream.metadata.get("alpha_mode") == "1":
        clip.notes.append(f"{path}: its transparency is not kept")
    return clip


def _first_frame(path: Path) -> av.VideoFrame:
    """For what only frames tell. From a container of its own, since not every file can be wound back."""
    with _opened(path) as container:
        stream = _main_stream(path, container)
        with naming_failures(path, "is damaged"):
            for packet in container.demux(stream):
                try:
                    frames = stream.decode(packet)
                except av.FFmpegError:  # the end, too
                    continue
                if frames:
                    return frames[0]
    raise UserError(f"{path}: holds no frame that can be decoded")
