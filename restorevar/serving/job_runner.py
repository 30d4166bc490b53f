"""Works off the jobs: file after file goes into the engine's queue like anybody's photo, one of them at a time.

So a job takes one place of the queue however many files it has, and those who wait before the page take turns with it.
"""

from __future__ import annotations

import logging
import threading
import time

from ..errors import UserError
from ..images import check_format, photo_from_bytes, photo_to_bytes
from .engine import Engine
from .jobs import JobStore, Task
from .tickets import Busy, Cancelled, Closed, Restored, Ticket, TimedOut

log = logging.getLogger(__name__)

#: Seconds until a full queue is asked again, at most: it says when half of it will be done, and others ask too.
ASK_AGAIN = 1.0
#: Seconds between two looks at what has expired, at most.
LOOK = 60.0


class JobRunner:
    """Two threads: one restores, one removes what has expired. `start` and `close`, or use it in a `with`.

    `seconds` that one file may take, from its place in the queue to its result; files of jobs may be large.
    """

    def __init__(self, engine: Engine, store: JobStore, seconds: float = 3600.0):
        self.engine, self.store, self.seconds = engine, store, seconds
        self._changed = threading.Condition()
        self._closed = False
        self._task: Task | None = None
        self._ticket: Ticket | None = None
        self._threads = [
            threading.Thread(target=self._work, name="restorevar-jobs", daemon=True),
            threading.Thread(target=self._clean, name="restorevar-jobs-expiry", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """There is something to do."""
        with self._changed:
            self._changed.notify_all()

    def share(self, job: str, number: int) -> float:
        """How much of a file is done, 0 to 1, if it is the one that is restored."""
        task, ticket = self._task, self._ticket
        is_it = task is not None and (task.job, task.number) == (job, number)
        return ticket.share if is_it and ticket is not None else 0.0

    def cancel(self, job: str) -> None:
        """Calls off the file of this job that is restored, if one is. After the store was told."""
        task, ticket = self._task, self._ticket
        if task is not None and task.job == job and ticket is not None:
            ticket.cancel()

    def close(self, timeout: float = 10.0) -> None:
        """Begins no more files. The one begun is finished if it can be in `timeout` seconds; else it waits in the
        store, with those that were not begun, for the next start."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._threads[0].join(timeout)
        while self._threads[0].is_alive():
            if (ticket := self._ticket) is not None:
                ticket.cancel()
            self._threads[0].join(0.1)
        self._threads[1].join()

    def __enter__(self) -> JobRunner:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------ in the threads

    def _work(self) -> None:
        unsaved: list[Task] = []  # begun, and the store does not know their end
        while not self._closed:
            try:
                while unsaved:
                    self.store.put_back(unsaved[-1])
                    unsaved.pop()
                if (task := self.store.take()) is not None:
                    unsaved.append(task)
                    self._restore(task)
                    unsaved.pop()
                    continue
            except Exception:  # of the store: its disk is full, say
                log.exception("the jobs cannot go on; trying again")
            with self._changed:
                if not self._closed:
                    self._changed.wait(ASK_AGAIN)

    def _restore(self, task: Task) -> None:
        """One file, from the store to the store. Nothing that is wrong with it stops the others."""
        self._task = task
        try:
            restored = self._restored(task)
            format, data = photo_to_bytes(restored.photo, task.options.format, task.options.quality)
            self.store.finish(task, data, format, round(restored.seconds, 3), _notes(restored))
        except Closed:
            self.store.put_back(task)
        except Exception as error:
            if isinstance(error, Cancelled) and self._closed:
                self.store.put_back(task)
                return
            if not isinstance(error, UserError | TimedOut | Cancelled | MemoryError):
                log.exception("a file of a job failed unexpectedly")
            self.store.fail(task, _cause(error))
        finally:
            self._task = self._ticket = None

    def _restored(self, task: Task) -> Restored:
        """Raises Closed if the end came before its turn."""
        photo = photo_from_bytes(task.source.read_bytes(), self.engine.limits.pixels)
        check_format(photo, task.options.format, task.options.quality)
        while not self._closed:
            try:
                self._ticket = self.engine.submit(photo, task.options, seconds=self.seconds)
            except Closed:
                raise
            except Busy as busy:
                with self._changed:
                    if not self._closed:
                        self._changed.wait(min(busy.retry_after, ASK_AGAIN))
                continue
            del photo  # the engine lets go of it as soon as it can
            return self._ticket.result()
        raise Closed

    def _clean(self) -> None:
        while not self._closed:
            try:
                self.store.expire()
            except Exception:
                log.exception("old jobs cannot be removed; trying again")
            with self._changed:
                until = time.monotonic() + min(LOOK, 3600 * self.store.limits.keep_hours / 10)
                while not self._closed and (left := until - time.monotonic()) > 0:
                    self._changed.wait(left)


def _cause(error: Exception) -> str:
    """One line for people, which tells nothing of this machine: photos are read from memory, so none names a path."""
    if isinstance(error, UserError | TimedOut | Cancelled):
        return str(error).removeprefix("image: ")
    if isinstance(error, MemoryError):
        return "needs more memory than there is"
    if isinstance(error, OSError):
        return f"could not be read or kept ({error.strerror or type(error).__name__})"
    return "failed unexpectedly"


def _notes(restored: Restored) -> dict[str, object]:
    height, width = restored.photo.rgb.shape[:2]
    return {
        "width": width,
        "height": height,
        "untouched": restored.untouched,
        "settings": restored.settings,
        "diagnosis": None if restored.diagnosis is None else restored.diagnosis.as_json(),
    }
