"""Failures that another try may mend: of the disk or the network, not of the file."""

from __future__ import annotations

import errno

_NAMES = (
    *("EIO", "EAGAIN", "EBUSY", "EINTR", "ESTALE", "EMFILE", "ENFILE", "ENOBUFS", "EREMOTEIO"),
    *("ETIMEDOUT", "ECONNRESET", "ECONNREFUSED", "ECONNABORTED", "EPIPE", "ENOTCONN", "ESHUTDOWN"),
    *("EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ENETRESET"),
)
_CODES = {getattr(errno, name) for name in _NAMES if hasattr(errno, name)}


def is_transient(error: BaseException | None) -> bool:
    """Whether the error, or one that it came from, is of that kind.

    A full disk is not, and neither is a file that is missing or may not be read: trying again changes nothing.
    """
    while error is not None:
        if isinstance(error, ConnectionError | TimeoutError):
            return True
        if isinstance(error, OSError) and error.errno in _CODES:
            return True
        error = error.__cause__ or error.__context__
    return False
