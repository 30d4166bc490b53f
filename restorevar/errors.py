"""The one exception a user may see: a sentence that names the file and the cause."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend. The message is one line and needs no traceback.

    The command line prints it and exits; in Python it is an ordinary exception.
    """


def first_line(error: BaseException) -> str:
    """What an exception of a library says, for a message of one line; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
