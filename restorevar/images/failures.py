"""Whatever goes wrong with a file becomes one line for the user; warnings of Pillow become none."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import UserError


class NotAnImage(UserError):
    """The content is of no format that restorevar reads, whatever the name says."""


class TooLarge(UserError):
    """More pixels than may be."""


# Warnings can be silenced only for the whole process: the first thread that needs it does, the last one undoes it.
_lock = threading.Lock()
_silenced = 0
_filters = warnings.catch_warnings()


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Puts the name of the file before the message of a UserError, and makes it one line."""
    try:
        yield
    except UserError as error:
        name = "".join(c if c.isprintable() else repr(c)[1:-1] for c in os.fspath(path))
        raise type(error)(" ".join(f"{name}: {error}".split("\n"))) from error.__cause__


@contextmanager
def translating(verdict: str) -> Iterator[None]:
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
def silence() -> Iterator[None]:
    global _silenced, _filters
    with _lock:
        if not _silenced:
            _filters = warnings.catch_warnings()
            _filters.__enter__()
            warnings.simplefilter("ignore")
        _silenced += 1
    try:
        yield
    finally:
        with _lock:
            _silenced -= 1
            if not _silenced:
                _filters.__exit__(None, None, None)
