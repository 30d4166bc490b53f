"""The engine: one model, one bounded queue. Photos go in, tickets come back.

    submit -> queue -> a worker per photo (Restorer, diagnosis) -> windows -> SharedModel -> one pass at a time

Knows nothing of HTTP: the service, the page and the jobs all ask here.
"""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import UserError
from ..glimpse import Glimpse, Watch
from ..images import Photo
from ..pipeline import Progress, Restorer
from .batching import SharedModel
from .limits import Limits
from .tickets import Busy, Cancelled, Closed, Options, Restored, State, Ticket, TimedOut

if TYPE_CHECKING:
    from ..diagnosis import Diagnosis

__all__ = ["Busy", "Cancelled", "Closed", "Engine", "Limits", "Options", "Restored", "Stats", "Ticket", "TimedOut"]

log = logging.getLogger(__name__)

#: What the newest photo counts in the estimate of the pace.
NEWEST = 0.2
#: Seconds that a refused one is asked to wait, at least and at most.
SOONEST, LATEST = 1.0, 120.0
#: Photos worked on at once, where the limits do not say.
LEAST_AT_ONCE, MOST_AT_ONCE = 4, 16


@dataclass(frozen=True)
class Stats:
    """Of the engine: what is now, and what has been since it began."""

    waiting: int
    running: int
    taken: int
    refused: int
    ended: dict[State, int]  #: done, failed, cancelled
    pixels: int  #: restored
    windows: int  #: that went through the model
    passes: int  #: of the model


@dataclass
class _Work:
    """A ticket and those who watch it."""

    ticket: Ticket
    restorer: Restorer
    progress: Progress | None
    watch: Watch | None


class Engine:
    """Restores photos for many at once. `restorer` is not to be used beside it.

    `diagnose` tells what a photo suffers from; it is asked for each, where there is one.
    `on_end` is called with every ticket that ends, in whatever thread that happens; to count them.
    """

    def __init__(
        self,
        restorer: Restorer,
        limits: Limits | None = None,
        diagnose: Callable[[Photo], Diagnosis] | None = None,
    ):
        self.restorer, self.limits, self.diagnose = restorer, limits or Limits(), diagnose
        self.at_once = self.limits.at_once or min(MOST_AT_ONCE, max(LEAST_AT_ONCE, restorer.batch))
        self.on_end: list[Callable[[Ticket], None]] = []
        self.model = SharedModel(restorer.model, restorer.batch, self.limits.gather, restorer.log)
        self._queue: deque[_Work] = deque()
        self._running: set[Ticket] = set()
        self._counts: Counter[str] = Counter()
        self._pace: float | None = None  # seconds per pixel of one worker
        self._closed = False
        self._changed = threading.Condition()
        self._workers = [
            threading.Thread(target=self._work, name=f"restorevar-worker-{i}", daemon=True) for i in range(self.at_once)
        ]
        for worker in self._workers:
            worker.start()

    # ------------------------------------------------------------------------------------------- for everyone

    def submit(
        self,
        photo: Photo,
        options: Options | None = None,
        progress: Progress | None = None,
        watch: Watch | None = None,
        seconds: float | None = None,
    ) -> Ticket:
        """Takes a photo, or raises Busy (Closed at the end), and UserError for impossible options or too many pixels.

        `progress` and `watch` as in `Restorer.restore_pixels`; they are called in threads of the engine, and all wait
        for them. `seconds` until the work is called off; None is that of the limits.
        """
        options = options or Options()
        restorer = self.restorer.at(fidelity=options.fidelity, strength=options.strength, speed=options.speed)
        if options.if_needed and self.diagnose is None:
            raise UserError("if_needed needs the diagnosis, which this service does not have")
        height, width = photo.rgb.shape[:2]
        if height * width > self.limits.pixels:
            raise UserError(f"has {width} x {height} pixels, above the limit of {self.limits.pixels}")
        ticket = Ticket(photo, options, self.limits.seconds if seconds is None else seconds, self._drop)
        with self._changed:
            if self._closed:
                raise Closed
            if self._is_full(ticket.pixels):
                self._counts["refused"] += 1
                raise Busy(self.retry_after)
            self._counts["taken"] += 1
            self._queue.append(_Work(ticket, restorer, progress, watch))
            self._changed.notify_all()
        return ticket

    def count_refused(self) -> None:
        """One was refused for the engine's sake before it came here."""
        with self._changed:
            self._counts["refused"] += 1

    @property
    def is_open(self) -> bool:
        """Whether it takes photos, when there is room."""
        return not self._closed

    @property
    def retry_after(self) -> float:
        """Seconds until half of what waits is done, by the pace so far: when there is room, and nothing idles."""
        with self._changed:
            waiting = sum(work.ticket.pixels for work in self._queue)
            seconds = (self._pace or 0.0) * waiting / len(self._workers) / 2
        return min(max(seconds, SOONEST), LATEST)

    def ahead(self, ticket: Ticket) -> int:
        """How many are before it in the queue; 0 once it runs or has ended."""
        with self._changed:
            return next((i for i, work in enumerate(self._queue) if work.ticket is ticket), 0)

    @property
    def stats(self) -> Stats:
        with self._changed:
            counts = self._counts
            ended: dict[State, int] = {
                "done": counts["done"],
                "failed": counts["failed"],
                "cancelled": counts["cancelled"],
            }
            return Stats(
                waiting=len(self._queue),
                running=len(self._running),
                taken=counts["taken"],
                refused=counts["refused"],
                ended=ended,
                pixels=counts["pixels"],
                windows=self.model.windows,
                passes=self.model.passes,
            )

    def close(self, timeout: float | None = None) -> bool:
        """Takes no more and finishes what it took; what is left after `timeout` seconds is called off.

        Whether all was finished. May be called again.
        """
        until = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            while self._queue or self._running:
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    break
                self._changed.wait(left)
            late = [work.ticket for work in self._queue] + list(self._running)
        for ticket in late:
            ticket.cancel()
        for worker in self._workers:
            worker.join()
        self.model.close()
        return not late

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ----------------------------------------------------------------------------------- in the worker threads

    def _is_full(self, pixels: int) -> bool:
        waiting = sum(work.ticket.pixels for work in self._queue)
        return len(self._queue) >= self.limits.queue or bool(waiting and waiting + pixels > self.limits.queue_pixels)

    def _drop(self, ticket: Ticket) -> None:
        """A cancelled ticket leaves the queue, if it is there."""
        with self._changed:
            work = next((work for work in self._queue if work.ticket is ticket), None)
            if work is None:
                return
            self._queue.remove(work)
            self._changed.notify_all()
        self._end(ticket, Cancelled())

    def _work(self) -> None:
        while (work := self._next()) is not None:
            ticket = work.ticket
            outcome: Restored | BaseException
            try:
                outcome = self._restore(work)
            except BaseException as error:  # whatever it is, the others are not to suffer
                outcome = error
            del work
            self._end(ticket, outcome)
            del ticket, outcome  # not to hold a photo while waiting for the next

    def _next(self) -> _Work | None:
        with self._changed:
            while not self._queue:
                if self._closed:
                    return None
                self._changed.wait()
            work = self._queue.popleft()
            self._running.add(work.ticket)
            return work

    def _restore(self, work: _Work) -> Restored:
        ticket, photo = work.ticket, work.ticket.photo
        ticket.photo = None
        assert photo is not None
        ticket.check()
        ticket.started = start = time.monotonic()
        ticket.state = "running"
        queued = start - ticket.submitted
        diagnosis = None if self.diagnose is None else self.diagnose(photo)
        untouched = ticket.options.if_needed and diagnosis is not None and diagnosis.needs_nothing
        restorer = copy.copy(work.restorer)
        self._teach(restorer)
        if not untouched:
            with self.model.seat(ticket.check) as seat:
                restorer.model = seat  # type: ignore[assignment]
                photo = restorer.restore_photo(photo, _checking(ticket, work.progress), _watching(ticket, work.watch))
            self._learn(restorer)
        ticket.share = 1.0
        return Restored(photo, time.monotonic() - start, queued, diagnosis, untouched, restorer.settings)

    def _teach(self, restorer: Restorer) -> None:
        """What lack of memory has taught since the photo was taken."""
        restorer.batch = min(restorer.batch, self.model.most)
        learned = self.restorer.tile
        if learned is not None and (restorer.tile is None or restorer.tile > learned):
            restorer.tile = learned

    def _learn(self, used: Restorer) -> None:
        """A tile that had to give way to lack of memory stays smaller for those who come."""
        with self._changed:
            if used.tile is not None and (self.restorer.tile is None or used.tile < self.restorer.tile):
                self.restorer.tile = used.tile

    def _end(self, ticket: Ticket, outcome: Restored | BaseException) -> None:
        if isinstance(outcome, Restored):
            ticket.state = "done"
        else:
            ticket.state = "cancelled" if isinstance(outcome, Cancelled | TimedOut) else "failed"
            if not isinstance(outcome, Cancelled | TimedOut | UserError):
                log.error("restoration failed unexpectedly", exc_info=outcome)
            outcome.__context__ = None
            outcome = outcome.with_traceback(None)  # its frames hold photos
        ticket.photo = None
        with self._changed:
            self._running.discard(ticket)
            self._counts[ticket.state] += 1
            if isinstance(outcome, Restored):
                self._counts["pixels"] += ticket.pixels
                newest = outcome.seconds / ticket.pixels
                self._pace = newest if self._pace is None else self._pace + NEWEST * (newest - self._pace)
            self._changed.notify_all()
        if isinstance(outcome, Restored):  # after it was counted: those who wait for it may look
            ticket.future.set_result(outcome)
        else:
            ticket.future.set_exception(outcome)
        for hook in self.on_end:
            try:
                hook(ticket)
            except Exception:
                log.exception("what was to be told of the end of a restoration failed")


def _checking(ticket: Ticket, progress: Progress | None) -> Progress:
    def tell(share: float) -> None:
        ticket.check()
        ticket.share = share
        if progress is not None:
            progress(share)

    return tell


def _watching(ticket: Ticket, watch: Watch | None) -> Watch | None:
    if watch is None:
        return None

    def tell(glimpse: Glimpse) -> None:
        ticket.check()
        watch(glimpse)

    return tell
