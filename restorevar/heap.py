"""The C heap: what is freed is kept for the next tensors.

glibc gives large blocks back to the system at once and takes new pages for the next one. Each must be found and cleared
again at its first touch: up to a hundred thousand for a photo of 512x512, a seventh of its time (docs/log.md).
"""

from __future__ import annotations

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
#: Bytes of a block from which on it is given back, the most that glibc takes. Nearly all of a window is less.
#: Kept whatever their size, whole photos would cost memory: blocks of one size do not fit where such a one has been.
LARGE = 1 << 25
#: Freed bytes at the heap's end above which they are given back after all.
KEPT = 1 << 30
#: Where a user sets the same.
_SETTINGS = ("MALLOC_MMAP_", "MALLOC_TRIM_", "MALLOC_TOP_PAD_", "MALLOC_ARENA_")


def keep_freed() -> bool:
    """Set this process's heap so, for good; False where there is no glibc, or where the environment sets it.

    For processes that are ours: a library does not decide this for the program that imports it.
    """
    chosen = any(name.startswith(_SETTINGS) for name in os.environ) or "malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if chosen or not sys.platform.startswith("linux"):
        return False
    try:
        os.confstr("CS_GNU_LIBC_VERSION")
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, ValueError):
        return False
    # One heap for all threads: those of further threads are of 64 MB, too small to keep much.
    wanted = ((_M_MMAP_THRESHOLD, LARGE), (_M_TRIM_THRESHOLD, KEPT), (_M_ARENA_MAX, 1))
    return all([mallopt(*setting) for setting in wanted])  # a list: each is set, whatever the others say
