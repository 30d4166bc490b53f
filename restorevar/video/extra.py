"""PyAV is an extra: whoever restores photos only does without it."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from ..errors import UserError


def check_extra() -> None:
    """Raises UserError, which says what to install, where PyAV is missing."""
    if sys.version_info < (3, 11):
        raise UserError("videos need Python 3.11 or newer, as PyAV does")
    if find_spec("av") is None:
        raise UserError("videos need PyAV: pip install 'restorevar[video]'")
