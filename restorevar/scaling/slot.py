"""One model at work: what a process of a pool and an actor of Ray Data do alike.

    chunk -> (fetch) -> batch.run: read, restore, write -> (put) -> outcomes

Local files are read and written where they are; what is named by URLs passes through a folder of its own. The next
ones are fetched and the last ones put while the model works.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from .. import heap
from ..batch import Job, Record, Writing, run
from ..errors import UserError
from . import places
from .items import Item
from .ledger import Ledger
from .outcomes import Outcome
from .shards import Chunk

#: Photos fetched before their turn, and restored ones that wait to be put.
AHEAD = 4
#: Seconds before a second try; each further one waits twice as long, up to the longest.
PAUSE, LONGEST_PAUSE = 0.5, 30.0


@dataclass(frozen=True)
class Settings:
    """What every slot is told. Goes to other processes and machines.

    destination     folder or URL of the outputs
    model ... speed as `Restorer.from_pretrained`
    if_needed       photos that need nothing are copied
    retries         further tries of a photo after a failure that may pass, or after it alone killed its worker
    threads         of the arithmetic, on a CPU
    """

    destination: str
    model: str = "compact"
    device: str = "auto"
    dtype: str = "auto"
    fidelity: float | None = None
    strength: float = 1.0
    speed: str = "auto"
    writing: Writing = field(default_factory=Writing)
    if_needed: bool = False
    retries: int = 3
    threads: int = 1


@dataclass
class _Piece:
    """A photo on its way through a slot; with a record once it has ended. Staged files are removed behind it."""

    item: Item
    output: str  #: path or URL
    source: Path
    target: Path
    record: Record | None = None
    staged: list[tuple[Path, str]] = field(default_factory=list)  #: local file, URL


class Slot:
    """A model in memory, loaded once. Raises UserError if it cannot be, or the settings are impossible."""

    def __init__(self, settings: Settings):
        import torch

        from ..pipeline import Restorer

        heap.keep_freed()
        torch.set_num_threads(settings.threads)
        self.settings = settings
        self.restorer = Restorer.from_pretrained(
            settings.model,
            settings.device,
            settings.dtype,
            fidelity=settings.fidelity,
            strength=settings.strength,
            speed=settings.speed,
        )
        self.look = None
        if settings.if_needed:
            from ..diagnosis import diagnose

            self.look = diagnose
        self._making = threading.Lock()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.fetching, self.putting = ThreadPoolExecutor(2), ThreadPoolExecutor(2)

    def work(self, chunk: Chunk, ledger: Ledger) -> Iterator[Outcome]:
        """The outcomes of all photos of a chunk, in any order; also of those that an earlier, killed worker ended."""
        fresh: list[Item] = []
        suspects: list[tuple[Item, int]] = []
        for item, (begun, outcome) in zip(chunk.items, ledger.look([i.number for i in chunk.items]), strict=True):
            if outcome:
                yield Outcome.from_json(outcome)
            elif begun:
                suspects.append((item, begun))
            else:
                fresh.append(item)
        ledger.begin([item.number for item in fresh])
        yield from self._note(chunk, ledger, self.restore(fresh), 0)
        for item, begun in suspects:
            yield from self._note(chunk, ledger, self._alone(item, begun, ledger), begun)

    def restore(self, items: Sequence[Item]) -> Iterator[tuple[Item, Record, int]]:
        """What became of each, and at which try; those whose failure may pass are tried again."""
        tries = 0
        while items:
            tries += 1
            again: list[Item] = []
            for item, record in self._try(items):
                if record.status == "failed" and record.transient and tries <= self.settings.retries:
                    again.append(item)
                else:
                    yield item, record, tries
            items = again
            if items:
                time.sleep(min(PAUSE * 2 ** (tries - 1), LONGEST_PAUSE))

    def close(self) -> None:
        self.fetching.shutdown(cancel_futures=True)
        self.putting.shutdown()
        if self._folder is not None:
            self._folder.cleanup()

    # ---------------------------------------------------------------------------------------- killed and replaced

    def _alone(self, item: Item, begun: int, ledger: Ledger) -> Iterator[tuple[Item, Record, int]]:
        """A photo that was in the hands of a worker that died; with nothing beside it that could be the cause."""
        if begun > self.settings.retries + 1:  # the first time it had company, which may have been the cause
            record = self._record(item)
            record.error = f"{item.source}: killed its worker, or was in its hands, {begun} times"
            yield item, record, 0
            return
        ledger.begin([item.number])
        yield from self.restore([item])

    def _note(
        self, chunk: Chunk, ledger: Ledger, ended: Iterable[tuple[Item, Record, int]], begun: int
    ) -> Iterator[Outcome]:
        for item, record, tries in ended:
            outcome = Outcome(item.number, item.name, chunk.shard, chunk.of, record, begun + tries, time.time())
            ledger.end(item.number, outcome.as_json())
            yield outcome
            if "CUDA error" in (record.error or ""):  # this process can compute nothing more on its GPU
                os._exit(70)

    # ---------------------------------------------------------------------------------------------- one try

    def _try(self, items: Sequence[Item]) -> Iterator[tuple[Item, Record]]:
        working: deque[_Piece] = deque()
        ended: list[_Piece] = []

        def jobs() -> Iterator[Job]:
            for piece in self._staged(items):
                if piece.record is None:
                    working.append(piece)
                    yield Job(piece.source, piece.target)
                else:
                    ended.append(piece)

        leaving: deque[Future[tuple[Item, Record]]] = deque()
        for record in run(jobs(), self.restorer, self.settings.writing, look=self.look):
            leaving.append(self.putting.submit(self._deliver, working.popleft(), record))
            while leaving and (leaving[0].done() or len(leaving) > AHEAD):
                yield leaving.popleft().result()
        while leaving:
            yield leaving.popleft().result()
        yield from ((piece.item, piece.record) for piece in ended if piece.record is not None)

    def _staged(self, items: Sequence[Item]) -> Iterator[_Piece]:
        """The photos as local files, in their order, some fetched ahead."""
        ahead: deque[Future[_Piece]] = deque()
        for item in items:
            ahead.append(self.fetching.submit(self._stage, item))
            if len(ahead) > AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    def _stage(self, item: Item) -> _Piece:
        output = places.join(self.settings.destination, self._name(item))
        source, target = places.local_path(item.source), places.local_path(output)
        piece = _Piece(
            item,
            output,
            source or self._passing(item, "in", item.source),
            target or self._passing(item, "out", output),
        )
        if target is None:
            piece.staged.append((piece.target, output))
        try:
            if item.flaw:
                raise UserError(f"{item.source}: {item.flaw}")
            if target is None and not self.settings.writing.overwrite and places.exists(output):
                piece.record = self._record(item, status="skipped")
            elif source is None and not self._is_there(target):
                piece.staged.append((piece.source, item.source))
                places.fetch(item.source, piece.source)
        except UserError as error:
            piece.record = self._failed(item, error)
            _remove(piece)
        return piece

    def _passing(self, item: Item, way: str, url: str) -> Path:
        """Where the file of a URL lies for a while, with its suffix."""
        with self._making:
            self._folder = self._folder or tempfile.TemporaryDirectory(prefix="restorevar-")
        return Path(self._folder.name) / f"{item.number}-{way}-{uuid.uuid4().hex}{PurePosixPath(url).suffix}"

    def _is_there(self, target: Path | None) -> bool:
        """A local output that will be skipped: its source need not be fetched."""
        return target is not None and target.exists() and not self.settings.writing.overwrite

    def _deliver(self, piece: _Piece, record: Record) -> tuple[Item, Record]:
        """The output where it belongs, and the record in the user's names."""
        try:
            done = record.status in ("restored", "untouched")
            if done and places.local_path(piece.output) is None:
                places.put(piece.target.read_bytes(), piece.output)
            if record.status == "failed" and self._is_there(places.local_path(piece.output)):
                # A worker that was taken for dead has written it meanwhile: the same bytes.
                record.status, record.error, record.transient = "skipped", None, False
        except UserError as error:
            failed = self._failed(piece.item, error)
            record.status, record.error, record.transient = "failed", failed.error, failed.transient
        finally:
            _remove(piece)
        record.input, record.output = piece.item.source, piece.output
        for path, url in piece.staged:
            record.error = record.error and record.error.replace(str(path), url)
        return piece.item, record

    def _name(self, item: Item) -> str:
        suffix = self.settings.writing.suffix
        return item.name if suffix is None else str(PurePosixPath(item.name).with_suffix(suffix))

    def _record(self, item: Item, **state: object) -> Record:
        output = places.join(self.settings.destination, self._name(item))
        record = Record(item.source, output, model=self.restorer.name, sha256=self.restorer.sha256)
        for key, value in state.items():
            setattr(record, key, value)
        return record

    def _failed(self, item: Item, error: UserError) -> Record:
        from ..batch.transient import is_transient

        return self._record(item, error=str(error), transient=is_transient(error))


def _remove(piece: _Piece) -> None:
    for path, _ in piece.staged:
        path.unlink(missing_ok=True)
