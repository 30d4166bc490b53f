"""Frames as they are stored <-> RGB in 16 bits, by FFmpeg's own conversion, with the tags of the clip."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from av import VideoFormat, VideoFrame
from av.video.reformatter import ColorRange, Colorspace, ColorTrc, Interpolation

#: Exact rather than quick: what the conversion costs is nothing beside the model.
_CAREFUL = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
#: Where no matrix is told, players take clips from this height on for BT.709, smaller ones for BT.601.
_HIGH = 720
_GBR = 0
#: FFmpeg's numbers of matrices -> those its converter takes.
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.SMPTE170M,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}
_HDR = {int(ColorTrc.SMPTE2084): "PQ", int(ColorTrc.ARIB_STD_B67): "HLG"}


@dataclass(frozen=True)
class Colors:
    """FFmpeg's numbers for what the samples mean, as the clip tells them; they are written back unchanged."""

    primaries: int
    trc: int
    matrix: int
    range: int

    @property
    def hdr(self) -> str | None:
        """The name of an HDR curve, or None."""
        return _HDR.get(self.trc)

    def of(self, format: VideoFormat, height: int) -> tuple[Colorspace, ColorRange]:
        """Matrix and range to convert frames of this format with, also where the clip tells none."""
        if format.is_rgb:
            return Colorspace.ITU601, ColorRange.JPEG
        guess = Colorspace.ITU709 if height >= _HIGH else Colorspace.ITU601
        full = self.range == int(ColorRange.JPEG)
        return _MATRICES.get(self.matrix, guess), ColorRange.JPEG if full else ColorRange.MPEG

    def stored_as(self, format: VideoFormat, height: int) -> Colors:
        """The tags for frames of this format: RGB stored as YUV gets the matrix it was converted with."""
        if format.is_rgb or self.matrix != _GBR:
            return self
        high = height >= _HIGH
        return replace(self, matrix=1 if high else 6, range=int(ColorRange.MPEG))


def to_pixels(frame: VideoFrame, colors: Colors, alpha: bool) -> np.ndarray:
    """[H, W, 3], or with alpha [H, W, 4], uint16, full range."""
    matrix, range_ = colors.of(frame.format, frame.height)
    converted = frame.reformat(
        format="rgba64le" if alpha else "rgb48le",
        src_colorspace=matrix,
        src_color_range=range_,
        dst_color_range=ColorRange.JPEG,
        interpolation=_CAREFUL,
    )
    return converted.to_ndarray()


def to_frame(pixels: np.ndarray, colors: Colors, pix_fmt: str) -> VideoFrame:
    """`to_pixels` undone, in the pixel format `pix_fmt`, with the tags of the clip."""
    source = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgba64le" if pixels.shape[2] == 4 else "rgb48le")
    source.color_range = ColorRange.JPEG
    format = VideoFormat(pix_fmt, source.width, source.height)
    tags = colors.stored_as(format, source.height)
    matrix, range_ = tags.of(format, source.height)
    frame = source.reformat(
        format=pix_fmt,
        dst_colorspace=matrix,
        src_color_range=ColorRange.JPEG,
        dst_color_range=range_,
        interpolation=_CAREFUL,
    )
    frame.colorspace, frame.color_range = tags.matrix, tags.range
    frame.color_primaries, frame.color_trc = tags.primaries, tags.trc
    return frame
