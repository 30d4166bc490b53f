"""The one exception a user may see: a sentence that names the file and the cause."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend. The message is one line and needs no traceback.

    The command line prints it and exits; in Python it is an ordinary exception.
    """
