"""Many slots on one machine: a process each, replaced when it dies.

Each process has a pipe to this one and asks for nothing but the next chunk; the ledger lies here. What a dead one had
in its hands goes to the next free one.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, cast

from ..errors import UserError
from .ledger import Book
from .outcomes import Outcome
from .shards import Chunk
from .slot import Settings, Slot

log = logging.getLogger(__name__)

#: Deaths before the model is loaded, one after the other, that are taken for a fault which does not pass.
STILLBORN = 3
#: Seconds in which a process ends by itself once its pipe is closed.
PATIENCE = 10.0


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    place: int  #: which of the slots, and so which GPU
    ready: bool = False
    chunk: Chunk | None = None


@dataclass
class Pool:
    """`workers` processes with a slot each. `gpus`: the numbers of the GPUs they share; none: the CPU.

    `deaths` counts processes that were replaced. `pids` are those of the living, for tests that kill them.
    """

    settings: Settings
    workers: int
    gpus: Sequence[str] = ()
    slot: type[Slot] = Slot
    deaths: int = 0
    _living: list[_Worker] = field(default_factory=list)

    @property
    def pids(self) -> list[int]:
        return [worker.process.pid for worker in self._living if worker.process.pid is not None]

    def outcomes(self, chunks: Iterable[Chunk]) -> Generator[Outcome]:
        """Of all photos, as they end. Chunks are drawn as workers become free.

        Raises UserError if the slots cannot be made.
        """
        book, rest, returned = Book(), iter(chunks), deque[Chunk]()
        stillborn = 0
        try:
            self._living = [self._start(place) for place in range(self.workers)]
            while self._living:
                sources = [worker.pipe for worker in self._living]
                for pipe in wait(sources):
                    worker = next(worker for worker in self._living if worker.pipe is pipe)
                    try:
                        kind, content = worker.pipe.recv()
                    except (EOFError, OSError):
                        self._living.remove(worker)
                        stillborn = 0 if worker.ready else stillborn + 1
                        self._bury(worker, stillborn)
                        if worker.chunk is not None:
                            returned.append(worker.chunk)
                        self._living.append(self._start(worker.place))
                        continue
                    if kind == "outcome":
                        outcome = cast(Outcome, content)
                        book.end(outcome.number, outcome.as_json())
                        yield outcome
                    elif kind == "refused":
                        raise UserError(content)
                    elif kind == "free":
                        stillborn, worker.ready = 0, True
                        if worker.chunk is not None:
                            book.forget(item.number for item in worker.chunk.items)
                        worker.chunk = returned.popleft() if returned else next(rest, None)
                        if worker.chunk is None and self._is_over(returned):
                            return
                        if worker.chunk is not None:
                            _send(worker, worker.chunk)
                    else:  # a question to the ledger
                        _send(worker, getattr(book, kind)(content))
                if returned:
                    self._hand_out(returned)
        finally:
            self._end()

    def _is_over(self, returned: deque[Chunk]) -> bool:
        return not returned and all(worker.chunk is None for worker in self._living)

    def _hand_out(self, returned: deque[Chunk]) -> None:
        """To those who had been told to wait, because nothing was left."""
        for worker in self._living:
            if worker.ready and worker.chunk is None and returned:
                worker.chunk = returned.popleft()
                _send(worker, worker.chunk)

    def _start(self, place: int) -> _Worker:
        # Not forked: threads of torch do not survive it.
        context = multiprocessing.get_context("spawn")
        mine, theirs = context.Pipe()
        gpu = self.gpus[place % len(self.gpus)] if self.gpus else None
        process = context.Process(
            target=_work, args=(theirs, self.slot, self.settings, gpu), name=f"restorevar-slot-{place}", daemon=True
        )
        process.start()
        theirs.close()  # else its end would not be seen here
        return _Worker(process, mine, place)

    def _bury(self, worker: _Worker, stillborn: int) -> None:
        worker.pipe.close()
        worker.process.join()
        self.deaths += 1
        code = worker.process.exitcode or 0
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        if stillborn >= STILLBORN:
            raise UserError(f"worker processes die while they load the model ({cause}); is there memory for so many?")
        log.warning("a worker process died (%s) and is replaced", cause)

    def _end(self) -> None:
        """Those at rest end by themselves; an interrupt does not wait for those at work."""
        for worker in self._living:
            worker.pipe.close()
            if worker.chunk is not None or not worker.ready:
                worker.process.terminate()
        for worker in self._living:
            worker.process.join(PATIENCE)
            if worker.process.exitcode is None:
                worker.process.kill()
                worker.process.join()
        self._living = []


def _send(worker: _Worker, content: Any) -> None:
    """A death in the meantime is noticed when its pipe is next waited for."""
    with suppress(OSError):
        worker.pipe.send(content)


# ------------------------------------------------------------------------------------------- in the worker process


class _AskedLedger:
    """The ledger, at the other end of the pipe. `known`: whose outcomes the other end has from an earlier worker."""

    def __init__(self, pipe: Connection):
        self.pipe = pipe
        self.known: set[int] = set()

    def look(self, numbers: Sequence[int]) -> list[tuple[int, str]]:
        found = cast("list[tuple[int, str]]", self._ask("look", numbers))
        self.known = {number for number, (_, outcome) in zip(numbers, found, strict=True) if outcome}
        return found

    def begin(self, numbers: Sequence[int]) -> None:
        self._ask("begin", numbers)

    def end(self, number: int, outcome: str) -> None:
        """The other end writes it when it receives the outcome."""

    def _ask(self, question: str, numbers: Sequence[int]) -> Any:
        self.pipe.send((question, list(numbers)))
        return self.pipe.recv()


def _work(pipe: Connection, kind: type[Slot], settings: Settings, gpu: str | None) -> None:
    """What a worker process does until its pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the parent ends its workers
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    try:
        slot = kind(settings)
    except UserError as error:
        pipe.send(("refused", str(error)))
        return
    ledger = _AskedLedger(pipe)
    try:
        pipe.send(("free", None))
        while True:
            chunk: Chunk = pipe.recv()
            for outcome in slot.work(chunk, ledger):
                if outcome.number not in ledger.known:
                    pipe.send(("outcome", outcome))
            pipe.send(("free", None))
    except (EOFError, OSError):  # the parent has gone
        pass
    finally:
        slot.close()
