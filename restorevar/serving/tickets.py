"""What the engine is given and gives: options, a ticket for a photo on its way, the restored photo."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Unfinished
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..images import Photo

if TYPE_CHECKING:
    from ..diagnosis import Diagnosis

State = Literal["waiting", "running", "done", "failed", "cancelled"]


class Busy(Exception):
    """The queue is full. `retry_after`: seconds after which it is worth to ask again, by estimate."""

    def __init__(self, retry_after: float, message: str = "too many photos are waiting; try again later"):
        super().__init__(message)
        self.retry_after = retry_after


class Closed(Busy):
    """The engine takes nothing more: it is about to end."""

    def __init__(self) -> None:
        super().__init__(5.0, "the service is about to end and takes nothing more")


class Cancelled(Exception):
    """The work was called off, by `Ticket.cancel` or by the end of the engine."""

    def __init__(self, message: str = "the restoration was called off"):
        super().__init__(message)


class TimedOut(Exception):
    """The work took longer than it may, and was called off."""

    def __init__(self, seconds: float):
        super().__init__(f"took longer than {seconds:g} seconds and was called off")


@dataclass(frozen=True)
class Options:
    """What a request may choose; None keeps what the engine's Restorer has.

    if_needed   a photo in which the diagnosis finds nothing to restore comes back as it is
    """

    fidelity: float | None = None
    strength: float | None = None
    speed: str | None = None
    if_needed: bool = False


@dataclass(frozen=True, eq=False)
class Restored:
    """What became of a photo.

    seconds     of work, others' passes in between included
    queued      seconds that it waited before
    diagnosis   what the photo suffered from; None where the engine has no diagnosis
    untouched   nothing was to restore, and `if_needed` was asked for: the photo is the one that came
    settings    what the result depends on, beside model and photo; plain JSON types
    """

    photo: Photo
    seconds: float
    queued: float
    diagnosis: Diagnosis | None
    untouched: bool
    settings: dict[str, Any]


class Ticket:
    """A photo on its way through the engine. Made by `Engine.submit`; all of it may be used from any thread.

    state    waiting, running, done, failed or cancelled
    share    of the work done, 0 to 1
    future   of the Restored; ends with what went wrong otherwise: UserError, Cancelled, TimedOut or a fault
    """

    def __init__(self, photo: Photo, options: Options, seconds: float, drop: Callable[[Ticket], None]):
        self.id = uuid.uuid4().hex
        self.options = options
        self.seconds = seconds
        self.pixels: int = photo.rgb.shape[0] * photo.rgb.shape[1]
        self.state: State = "waiting"
        self.share = 0.0
        self.submitted = time.monotonic()
        self.started: float | None = None
        self.future: Future[Restored] = Future()
        self.future.set_running_or_notify_cancel()  # `cancel` below is the way to call it off, not the future's
        self.photo: Photo | None = photo  #: until the work begins
        self._drop = drop
        self._cancelled = False

    @property
    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self.future.done()

    @property
    def left(self) -> float:
        """Seconds until it is called off."""
        return self.submitted + self.seconds - time.monotonic()

    def result(self, timeout: float | None = None) -> Restored:
        """Waits for the result, and raises what went wrong. TimeoutError after `timeout` seconds; the work goes on."""
        most = max(0.0, self.left)
        try:
            return self.future.result(most if timeout is None else min(timeout, most))
        except Unfinished:
            if self.left > 0:
                raise TimeoutError(f"no result within {timeout} seconds") from None
        self.cancel()
        raise TimedOut(self.seconds)

    def cancel(self) -> None:
        """Calls the work off: at once if it waits, else after the windows that are in the model now."""
        self._cancelled = True
        self._drop(self)

    def check(self) -> None:
        """Raises Cancelled or TimedOut if the work is not to go on."""
        if self._cancelled:
            raise Cancelled
        if self.left <= 0:
            raise TimedOut(self.seconds)
