"""Frames into the file of a segment.

There they are numbered, not timed: their times are kept beside, exact, and given to them when the segments are joined.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream

from .colors import Colors, to_frame
from .encoders import Encoding
from .failures import naming_failures


@dataclass(frozen=True)
class Look:
    """How frames are meant to be seen. `aspect`: of a sample, if told."""

    width: int
    height: int
    rate: Fraction
    colors: Colors
    aspect: Fraction | None = None


class SegmentWriter:
    """Encodes frames [H, W, 3 or 4] of uint16 into a Matroska file, a closed group of pictures of its own.

    Raises UserError for what the encoder or the disk refuse.
    """

    def __init__(self, path: Path, encoding: Encoding, look: Look):
        self._path, self._encoding, self._colors = path, encoding, look.colors
        self.times: list[tuple[int, int]] = []
        os.environ.setdefault("SVT_LOG", "1")  # of SVT-AV1, which talks on stderr otherwise: errors only
        with self._naming():
            self._container = av.open(f"file:{path}", "w", format="matroska")
            stream = self._container.add_stream(encoding.encoder, rate=look.rate, options=dict(encoding.options))
            assert isinstance(stream, VideoStream)
            self._stream = stream
            context = self._stream.codec_context
            context.height, context.width = look.height, look.width
            context.pix_fmt = encoding.pix_fmt
            context.time_base = 1 / look.rate
            if look.aspect:
                context.sample_aspect_ratio = look.aspect
            tags = look.colors.stored_as(av.VideoFormat(encoding.pix_fmt), look.height)
            context.color_primaries, context.color_trc = tags.primaries, tags.trc
            context.colorspace, context.color_range = tags.matrix, tags.range

    def write(self, pixels: np.ndarray, pts: int, duration: int) -> None:
        with self._naming():
            frame = to_frame(pixels, self._colors, self._encoding.pix_fmt)
            frame.time_base = self._stream.codec_context.time_base
            frame.pts = len(self.times)
            self._container.mux(self._stream.encode(frame))
        self.times.append((pts, duration))

    def close(self) -> None:
        """Writes what the encoder still holds."""
        with self._naming():
            self._container.mux(self._stream.encode(None))
            self._container.close()

    def discard(self) -> None:
        """Ends without writing more; whatever comes of it."""
        with suppress(av.FFmpegError, OSError, ValueError):
            self._container.close()

    def _naming(self) -> AbstractContextManager[None]:
        return naming_failures(self._path, f"cannot be encoded as {self._encoding.codec}")
