"""One model for several requests at once: their windows share passes.

    Restorer of a request -> Seat.restore(windows) -> SharedModel: groups what fits together -> one pass -> slices

All passes run in one thread, so the model, and the graphs that CUDA records, see one call after the other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..acceleration import release
from ..models import Model, OnScale, ScaleEvent
from ..pipeline import is_out_of_memory

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Call:
    """Windows of one request, (B, 3, H, W), and what the model is to do with them.

    method    of the model: "restore" or "look"
    options   its arguments that are alike for all windows
    beside    those that are tensors with a row for each window
    """

    method: str
    images_B3HW: Tensor
    check: Callable[[], None]
    options: dict[str, Any] = field(default_factory=dict)
    beside: dict[str, Tensor] = field(default_factory=dict)
    on_scale: OnScale | None = None
    future: Future[Tensor] = field(default_factory=Future)

    @property
    def key(self) -> tuple[Any, ...]:
        """Calls with the same can share a pass."""
        shapes = {name: tuple(rows.shape[1:]) for name, rows in {**self.beside, "": self.images_B3HW}.items()}
        return self.method, tuple(sorted(shapes.items())), tuple(sorted(self.options.items()))

    def tell(self, event: ScaleEvent) -> None:
        """Its watcher, once; one that raises ends this call, and no other."""
        if self.on_scale is None or self.future.done():
            return
        try:
            self.on_scale(event)
        except Exception as error:
            self.future.set_exception(error)

    def is_wanted(self) -> bool:
        if not self.future.done():
            try:
                self.check()
            except Exception as error:
                self.future.set_exception(error)
        return not self.future.done()


class SharedModel:
    """Passes of at most `most` windows. A window waits up to `wait` seconds for others, and only while some of those
    who have a seat may still bring theirs. When memory runs out, `most` is halved for good.

    passes, windows   how many there were
    """

    def __init__(self, model: Model, most: int, wait: float, say: Callable[[str], None] = log.warning):
        self.model, self.most, self.wait, self.say = model, most, wait, say
        self.passes = self.windows = 0
        self._waiting: deque[_Call] = deque()
        self._seats = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="restorevar-model", daemon=True)
        self._thread.start()

    @contextmanager
    def seat(self, check: Callable[[], None]) -> Iterator[Seat]:
        """The model for the Restorer of one request. `check` raises when the request is not wanted any more."""
        with self._changed:
            self._seats += 1
        try:
            yield Seat(self, check)
        finally:
            with self._changed:
                self._seats -= 1
                self._changed.notify_all()  # nobody waits for those who have left

    def run(self, call: _Call) -> Tensor:
        with self._changed:
            if self._closed:
                raise RuntimeError("the model is closed")
            self._waiting.append(call)
            self._changed.notify_all()
        future = call.future
        del call
        try:
            return future.result()
        finally:
            del future  # else an exception, by its frames, would hold itself and the windows

    def close(self) -> None:
        """After the last pass that was asked for."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    # ---------------------------------------------------------------------------------- in the model's thread

    def _work(self) -> None:
        while group := self._gather():
            self._fulfil(group)

    def _gather(self) -> list[_Call]:
        """The call that has waited longest, and those that can share its pass; none at the end."""
        with self._changed:
            while not self._waiting:
                if self._closed:
                    return []
                self._changed.wait()
            latest = time.monotonic() + self.wait
            while True:
                group = self._fitting()
                is_full = sum(len(call.images_B3HW) for call in group) >= self.most
                left = latest - time.monotonic()
                if is_full or self._seats <= len(self._waiting) or left <= 0 or self._closed:
                    break
                self._changed.wait(left)
            for call in group:
                self._waiting.remove(call)
            return group

    def _fitting(self) -> list[_Call]:
        first, rows = self._waiting[0], 0
        group = []
        for call in self._waiting:
            if call.key == first.key and (call is first or rows + len(call.images_B3HW) <= self.most):
                group.append(call)
                rows += len(call.images_B3HW)
        return group

    def _fulfil(self, group: list[_Call]) -> None:
        """A failure is that of a single call: they are tried one by one then."""
        group = [call for call in group if call.is_wanted()]
        if not group:
            return
        try:
            results = self._in_passes(group)
        except Exception as error:
            if len(group) == 1:
                _fail(group[0], error)
                return
        else:
            start = 0
            for call in group:
                end = start + len(call.images_B3HW)
                if not call.future.done():  # its watcher may have ended it
                    call.future.set_result(results[start:end])
                start = end
            return
        for call in group:
            self._fulfil([call])

    def _in_passes(self, group: list[_Call]) -> Tensor:
        """All windows of the group, in as many passes as memory asks for; a lone window without memory fails."""
        method, images = getattr(self.model, group[0].method), _joined([call.images_B3HW for call in group])
        beside = {name: _joined([call.beside[name] for call in group]) for name in group[0].beside}
        parts: list[Tensor] = []
        done = 0
        while done < len(images):
            rows = slice(done, done + self.most)
            part = images[rows]
            options = group[0].options | {name: tensor[rows] for name, tensor in beside.items()}
            if any(call.on_scale is not None for call in group):
                options["on_scale"] = _telling(group, done)
            try:
                parts.append(method(part, **options))
                done += len(part)
                if group[0].method == "restore":
                    self.passes += 1
                    self.windows += len(part)
                continue
            except (RuntimeError, MemoryError) as error:
                if len(part) == 1 or not is_out_of_memory(error):
                    raise
            # Here, not above: while the exception is handled, it keeps the tensors alive.
            self._make_room(len(part))
        return _joined(parts)

    def _make_room(self, rows: int) -> None:
        self.most = max(1, rows // 2)
        release(self.model)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.say(f"out of memory: going on with {self.most} windows per pass")


class Seat:
    """A model as a Restorer sees it, for one request."""

    def __init__(self, shared: SharedModel, check: Callable[[], None]):
        self.config = shared.model.config
        self._shared, self._check = shared, check

    def restore(
        self,
        degraded_B3HW: Tensor,
        fidelity: float | None = None,
        on_scale: OnScale | None = None,
        scales: int | None = None,
        maps_B10hw: Tensor | None = None,
    ) -> Tensor:
        """As the model's, perhaps together with the windows of others. `on_scale` is called in the model's thread."""
        self._check()
        options: dict[str, Any] = {"fidelity": fidelity}
        if scales is not None:
            options["scales"] = scales
        beside = {} if maps_B10hw is None else {"maps_B10hw": maps_B10hw}
        return self._shared.run(_Call("restore", degraded_B3HW, self._check, options, beside, on_scale))

    def look(self, degraded_B3HW: Tensor) -> Tensor:
        """As the model's, in the same way."""
        self._check()
        return self._shared.run(_Call("look", degraded_B3HW, self._check))

    def __getattr__(self, name: str) -> Any:
        """The parts of the model, which previews decode with."""
        return getattr(self._shared.model, name)


def _joined(rows: list[Tensor]) -> Tensor:
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def _telling(group: list[_Call], start: int) -> OnScale:
    """Tells each call of its own windows of a pass that begins with window `start` of the group's."""

    def on_scale(event: ScaleEvent) -> None:
        first = -start
        for call in group:
            rows = slice(max(0, first), max(0, first + len(call.images_B3HW)))
            first += len(call.images_B3HW)
            if len(event.tokens_Bl[rows]):
                own = (tensor[rows] for tensor in (event.tokens_Bl, event.logits_BlV, event.f_hat_BCHW))
                call.tell(ScaleEvent(event.scale, event.scales, *own))
        if all(call.future.done() for call in group):
            raise _NobodyWaits

    return on_scale


class _NobodyWaits(Exception):
    """Every call of a pass has ended before the pass: it need not go on."""


def _fail(call: _Call, error: Exception) -> None:
    """Without the frames where memory ran out: they would hold on to it while the caller tries with less."""
    if not call.future.done():
        call.future.set_exception(error.with_traceback(None) if is_out_of_memory(error) else error)
