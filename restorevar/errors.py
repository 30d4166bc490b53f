"""The one exception a user may see: a sentence that names the file and the cause."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager


class UserError(Exception):
    """Something the user can mend. The message is one line and needs no traceback.

    The command line prints it and exits; in Python it is an ordinary exception.
    """


def first_line(error: BaseException) -> str:
    """What an exception of a library says, for a message of one line; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def writing(path: str | os.PathLike[str]) -> AbstractContextManager[None]:
    """What the file system refuses inside becomes a UserError that names the file."""
    return _accessing(path, "written")


def reading(path: str | os.PathLike[str]) -> AbstractContextManager[None]:
    """As `writing`."""
    return _accessing(path, "read")


@contextmanager
def _accessing(path: str | os.PathLike[str], how: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name, text that is not UTF-8
        raise UserError(f"{path}: cannot be {how} ({getattr(error, 'strerror', None) or error})") from None
