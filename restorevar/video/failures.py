"""What FFmpeg says, as one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av

from ..errors import UserError, first_line


@contextmanager
def naming_failures(path: Path, verdict: str) -> Iterator[None]:
    """Turns failures of FFmpeg and of the disk inside into a UserError: the file, the verdict, the cause."""
    try:
        yield
    except (av.FFmpegError, OSError, ValueError) as error:
        raise UserError(f"{path}: {verdict} ({reason(error)})") from error


def reason(error: BaseException) -> str:
    """FFmpeg's own words without the number and the file name around them."""
    return " ".join((getattr(error, "strerror", None) or first_line(error)).split())
