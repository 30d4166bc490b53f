"""Workers of a run end by the word of the process that trains, and of nobody else.

`timeout` and job schedulers send SIGTERM to every process of a run at once. The one that trains then finishes its step
and saves (trainer.py), for which it needs its workers; where one dies, torch raises a RuntimeError in the midst of it.
Linux alone tells who sent a signal: elsewhere workers end by any.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def holding_signals() -> Iterator[None]:
    """Processes born inside hold SIGTERM back, so that none ends before `obey_the_parent_alone`."""
    if sys.platform != "linux":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def obey_the_parent_alone(worker: int) -> None:
    """The `worker_init_fn` of a DataLoader. Ignoring the signal would not do: its parent ends a stuck worker by it."""
    if sys.platform == "linux":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # where processes are not forked, they hold nothing
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    if sys.platform == "linux":
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
            pass
        os._exit(0)
