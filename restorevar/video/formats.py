"""Which files are videos, and which codecs each kind of file gets. Light: imports nothing that is heavy."""

from __future__ import annotations

import os
from pathlib import Path

#: Containers that are written -> codecs by preference; the first that holds the frames as they are is taken.
CONTAINERS = {
    ".mp4": ("h264", "hevc", "vp9", "av1"),
    ".m4v": ("h264", "hevc"),
    ".mov": ("h264", "hevc", "prores"),
    ".mkv": ("h264", "hevc", "vp9", "ffv1"),
    ".webm": ("vp9", "av1"),
    ".avi": ("mpeg4", "ffv1"),
    ".ts": ("h264", "hevc"),
    ".mts": ("h264", "hevc"),
    ".m2ts": ("h264", "hevc"),
}
#: Tell the player to turn the picture.
HOLD_ROTATION = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
#: Read only; their results are Matroska, which holds almost any stream.
READ_ONLY = (".wmv", ".asf", ".flv", ".3gp", ".3g2", ".mpg", ".mpeg", ".m2v", ".vob", ".ogv")
INSTEAD = ".mkv"

VIDEO_EXTENSIONS = (*CONTAINERS, *READ_ONLY)


def is_video_path(path: str | os.PathLike[str]) -> bool:
    """Whether the name looks like a video: a known extension, and not a hidden file."""
    path = Path(path)
    return path.suffix.lower() in VIDEO_EXTENSIONS and not path.name.startswith(".")


def written_suffix(suffix: str) -> str:
    """The suffix of the result of a video with this one."""
    return INSTEAD if suffix.lower() in READ_ONLY else suffix
