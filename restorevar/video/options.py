"""How videos are restored and written."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UserError
from .formats import CONTAINERS

#: Codecs by name -> their qualities: the best, ours, the worst; None: lossless, or without such a number.
CODECS: dict[str, tuple[int, int, int] | None] = {
    "h264": (0, 17, 51),
    "hevc": (0, 19, 51),
    "av1": (1, 24, 63),
    "vp9": (0, 22, 63),
    "mpeg4": (1, 2, 31),
    "prores": None,
    "ffv1": None,
}
#: How frames are held steady.
TEMPORAL = ("off", "steady", "strong")
#: Frames of a segment: what an interruption costs at most, and how far key frames lie apart.
SEGMENT = 120


@dataclass(frozen=True)
class VideoOptions:
    """Raises UserError for an unknown codec or mode, or a quality that the codec has not.

    container  suffix of the results, one of CONTAINERS; None: as the input, where that can be written
    codec      one of CODECS; None: by the container
    crf        the encoder's constant quality, lower is better; None: ours for the codec
    temporal   "off", "steady" or "strong": how frames are held steady (temporal.py)
    segment    frames a segment
    """

    container: str | None = None
    codec: str | None = None
    crf: int | None = None
    temporal: str = "steady"
    segment: int = SEGMENT

    def __post_init__(self) -> None:
        if self.container is not None and self.container not in CONTAINERS:
            raise UserError(f"unknown kind of video {self.container!r}: one of {', '.join(CONTAINERS)}")
        if self.codec is not None and self.codec not in CODECS:
            raise UserError(f"unknown codec {self.codec!r}: one of {', '.join(CODECS)}")
        if self.codec is not None:
            quality_of(self.codec, self.crf)
        if self.temporal not in TEMPORAL:
            raise UserError(f"unknown mode {self.temporal!r} of --temporal: one of {', '.join(TEMPORAL)}")
        if self.segment < 1:
            raise UserError(f"a segment has at least one frame, not {self.segment}")


def quality_of(codec: str, crf: int | None) -> int | None:
    """The quality for a codec; None if it has none. Raises UserError for one out of its range."""
    known = CODECS[codec]
    if known is None:
        if crf is not None:
            raise UserError(f"{codec} has no quality to choose; leave --crf out")
        return None
    best, ours, worst = known
    if crf is not None and not best <= crf <= worst:
        raise UserError(f"the quality of {codec} goes from {best} (best) to {worst}, not {crf}")
    return ours if crf is None else crf
