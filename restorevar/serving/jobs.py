"""Jobs that outlive the process: what was asked for, how far it is, and the files, in one private folder.

    DIR/jobs.sqlite3         the jobs and their files, a row each
    DIR/files/<id>/<n>.in    what was sent
    DIR/files/<id>/<n>       its result, until the job expires

A job is promised once its row is committed, after its files are on the disk; what a crash leaves half made has no row
and is removed at the next start. A file is restored at least once: when the process dies in between, it is done again,
and the result, moved into place whole, is the same.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import UserError
from .archives import TooMuch
from .names import shown_name
from .tickets import Busy, Options

State = Literal["queued", "running", "done", "failed", "cancelled", "expired"]
FileState = Literal["queued", "running", "done", "failed", "cancelled"]

#: Times that a file is begun. One that takes the process down with it is not to do so for ever.
MAX_ATTEMPTS = 3
#: Files over whose times the mean is taken, for telling when to ask again.
RECENT = 50

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, state TEXT NOT NULL, created REAL NOT NULL, finished REAL,
    turn INTEGER NOT NULL, options TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS files (
    job TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, number INTEGER NOT NULL, name TEXT NOT NULL,
    state TEXT NOT NULL, bytes INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, result_bytes INTEGER,
    format TEXT, seconds REAL, error TEXT, notes TEXT, PRIMARY KEY (job, number)
);
CREATE INDEX IF NOT EXISTS files_by_state ON files (state);
"""
_VERSION = 1


class NoRoom(Exception):
    """The folder of the jobs holds as much as it may."""


class UnknownJob(Exception):
    """There is no such job, or it is another's: which of both is not told."""


@dataclass(frozen=True)
class JobLimits:
    """How much the jobs may take.

    files        of one job
    file_bytes   of one file
    job_bytes    of the files of one job, unpacked
    store_bytes  of all files of all jobs, results included; one that is not there yet counts as its input
    waiting      files that wait, of all jobs
    keep_hours   after its end a job's results stay this long; that there was one is known as long again
    """

    files: int = 500
    file_bytes: int = 256 << 20
    job_bytes: int = 1 << 30
    store_bytes: int = 20 << 30
    waiting: int = 5000
    keep_hours: float = 24.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < float("inf"):
                raise UserError(f"the limit {name} of jobs is a number above 0, not {value!r}")


@dataclass(frozen=True)
class JobOptions(Options):
    """As a request's, and how the results are written: in another format than their photos', at this quality."""

    format: str | None = None
    quality: int | None = None


@dataclass(frozen=True)
class JobFile:
    """One file of a job. `notes`: what else is told of it (size, diagnosis, settings); plain JSON types."""

    number: int
    name: str
    state: FileState
    bytes: int
    result_bytes: int | None
    format: str | None
    seconds: float | None
    error: str | None
    notes: dict[str, Any]


@dataclass(frozen=True)
class Job:
    """A job as it stood when it was asked for. Times are seconds since 1970."""

    id: str
    state: State
    created: float
    finished: float | None
    expires: float | None
    options: JobOptions
    files: tuple[JobFile, ...]


@dataclass(frozen=True)
class Task:
    """A file whose turn it is: from `source` to `target`, neither of which has a name that a stranger chose."""

    job: str
    number: int
    name: str
    source: Path
    target: Path
    options: JobOptions


class JobStore:
    """The jobs in `folder`, made if need be. One process at a time holds it; all methods are for any thread.

    Raises UserError if the folder cannot be used, holds something else, or is held by another process.
    """

    def __init__(self, folder: str | os.PathLike[str], limits: JobLimits | None = None):
        self.limits = limits or JobLimits()
        self.folder = Path(folder).absolute()
        self._files = self.folder / "files"
        self._lock = threading.RLock()
        self._arriving: dict[str, int] = {}  #: bytes of jobs that are being taken in
        try:
            _make_private(self.folder)
            self._database = _open(self.folder / "jobs.sqlite3")
            self._files.mkdir(mode=0o700, exist_ok=True)
        except (OSError, sqlite3.Error) as error:
            cause = getattr(error, "strerror", None) or error
            if "locked" in str(cause):
                cause = "another process has it open"
            raise UserError(f"{folder}: cannot hold jobs ({cause})") from None
        self._recover()

    def close(self) -> None:
        """What is queued or running stays so, and is taken up by whoever opens the folder next."""
        with self._lock:
            self._database.close()

    # ------------------------------------------------------------------------------------------- taking in

    @contextmanager
    def arriving(self, owner: str, options: JobOptions) -> Iterator[Arrival]:
        """A new job: `add` its files to what this gives; it is there when the block ends, or not at all.

        Raises Busy when too many files wait, NoRoom when the folder is full, UserError for a job without files.
        """
        arrival = Arrival(self, secrets.token_hex(16))
        with self._lock:
            self._arriving[arrival.id] = 0
        try:
            arrival.folder.mkdir(mode=0o700)
            yield arrival
            if not arrival.files:
                raise UserError("there is no file in the job")
            _sync_folder(arrival.folder)
            with self._transaction():
                self._check_waiting(len(arrival.files))
                self._insert(arrival, owner, options)
        except BaseException:
            shutil.rmtree(arrival.folder, ignore_errors=True)
            raise
        finally:
            with self._lock:
                del self._arriving[arrival.id]

    def check_open(self) -> None:
        """Before a body is read: raises Busy or NoRoom if nothing more would be taken."""
        with self._lock:
            self._check_waiting(1)
            self._check_room(0)

    def _insert(self, arrival: Arrival, owner: str, options: JobOptions) -> None:
        ended = all(error for _, _, error in arrival.files)
        now = time.time()
        self._database.execute(
            "INSERT INTO jobs VALUES (?, ?, ?, ?, ?, (SELECT coalesce(max(turn), 0) FROM jobs), ?)",
            (
                arrival.id,
                owner,
                "failed" if ended else "queued",
                now,
                now if ended else None,
                json.dumps(vars(options)),
            ),
        )
        self._database.executemany(
            "INSERT INTO files (job, number, name, state, bytes, error) VALUES (?, ?, ?, ?, ?, ?)",
            [
                (arrival.id, number, name, "failed" if error else "queued", size, error)
                for number, (name, size, error) in enumerate(arrival.files)
            ],
        )

    def _check_waiting(self, more: int) -> None:
        waiting = self._value("SELECT count(*) FROM files WHERE state IN ('queued', 'running')")
        if waiting + more > self.limits.waiting:
            mean = self._value(
                "SELECT avg(seconds) FROM (SELECT seconds FROM files WHERE state = 'done' ORDER BY rowid DESC LIMIT ?)",
                RECENT,
            )
            raise Busy(min(3600.0, max(1.0, more * (mean or 1.0))), "too many files are waiting; try again later")

    def _check_room(self, more: int) -> None:
        if self.used_bytes() + more > self.limits.store_bytes:
            raise NoRoom("there is no room for more jobs; try again when older ones have expired")

    def used_bytes(self) -> int:
        """Of all files, those included that are coming in."""
        with self._lock:
            kept = self._value(
                "SELECT sum(CASE state WHEN 'done' THEN result_bytes ELSE 2 * bytes END) FROM files"
                " WHERE state IN ('queued', 'running', 'done') AND job IN"
                " (SELECT id FROM jobs WHERE state NOT IN ('cancelled', 'expired'))"
            )
            return int(kept or 0) + 2 * sum(self._arriving.values())

    def _arrived(self, id: str, count: int) -> None:
        with self._lock:
            self._check_room(2 * count)
            self._arriving[id] += count

    # ------------------------------------------------------------------------------------------ working off

    def take(self) -> Task | None:
        """The file whose turn it is, now running. Jobs take turns, file by file, so that none waits for a large one."""
        with self._transaction():
            row = self._database.execute(
                "SELECT f.job, f.number, f.name, j.options FROM files f JOIN jobs j ON j.id = f.job"
                " WHERE f.state = 'queued' AND j.state IN ('queued', 'running')"
                " ORDER BY j.turn, j.created, f.number LIMIT 1"
            ).fetchone()
            if row is None:
                return None
            job, number, name, options = row
            self._database.execute(
                "UPDATE files SET state = 'running', attempts = attempts + 1 WHERE job = ? AND number = ?",
                (job, number),
            )
            self._database.execute(
                "UPDATE jobs SET state = 'running', turn = (SELECT max(turn) + 1 FROM jobs) WHERE id = ?", (job,)
            )
        return Task(job, number, name, self._input(job, number), self._result(job, number), _options(options))

    def finish(self, task: Task, data: bytes, format: str, seconds: float, notes: dict[str, Any]) -> None:
        """`data`: the file of the result. That of a job that was called off meanwhile is not kept.

        Raises OSError if the disk does not take it; the file is still running then.
        """
        if task.target.parent.is_dir():
            _write_whole(task.target, data)
        columns = {"format": format, "seconds": seconds, "notes": json.dumps(notes), "result_bytes": len(data)}
        self._end(task, "done", columns)

    def fail(self, task: Task, error: str) -> None:
        """`error`: a line for people, without paths."""
        task.target.unlink(missing_ok=True)
        self._end(task, "failed", {"error": error})

    def put_back(self, task: Task) -> None:
        """For later, as if it had not been begun."""
        with self._transaction():
            self._database.execute(
                "UPDATE files SET state = 'queued', attempts = attempts - 1"
                " WHERE job = ? AND number = ? AND state = 'running'",
                (task.job, task.number),
            )

    def _end(self, task: Task, state: FileState, columns: dict[str, Any]) -> None:
        """A file that was called off meanwhile stays so, and leaves nothing."""
        with self._transaction():
            names = "".join(f", {name} = ?" for name in columns)
            self._database.execute(
                f"UPDATE files SET state = ?{names} WHERE job = ? AND number = ? AND state = 'running'",
                (state, *columns.values(), task.job, task.number),
            )
            self._end_job(task.job)
        task.source.unlink(missing_ok=True)
        self._remove_if_ended(task.job)

    def _end_job(self, job: str) -> None:
        """Done when no file waits any more and one is restored; failed if none is."""
        states = {row[0] for row in self._database.execute("SELECT state FROM files WHERE job = ?", (job,))}
        if not states & {"queued", "running"}:
            self._database.execute(
                "UPDATE jobs SET state = ?, finished = ? WHERE id = ? AND state IN ('queued', 'running')",
                ("done" if "done" in states else "failed", time.time(), job),
            )

    # ------------------------------------------------------------------------------------- asking and ending

    def job(self, id: str, owner: str) -> Job:
        """Raises UnknownJob."""
        with self._lock:
            row = self._database.execute(
                "SELECT id, state, created, finished, options FROM jobs WHERE id = ? AND owner = ?", (id, owner)
            ).fetchone()
            if row is None:
                raise UnknownJob
            files = self._database.execute(
                "SELECT number, name, state, bytes, result_bytes, format, seconds, error, notes FROM files"
                " WHERE job = ? ORDER BY number",
                (id,),
            ).fetchall()
        expires = None if row[3] is None else row[3] + 3600 * self.limits.keep_hours
        return Job(row[0], row[1], row[2], row[3], expires, _options(row[4]), tuple(_file(*file) for file in files))

    def result(self, job: Job, number: int) -> Path:
        """Where the result of a file of this job lies. It may have been removed since the job was asked for."""
        return self._result(job.id, number)

    def drop(self, id: str, owner: str) -> Job:
        """Calls the job off, or removes its results if it has ended; again is no fault. Raises UnknownJob."""
        with self._transaction():
            state = self.job(id, owner).state
            if state in ("queued", "running"):
                self._database.execute(
                    "UPDATE files SET state = 'cancelled' WHERE job = ? AND state IN ('queued', 'running')", (id,)
                )
                self._database.execute(
                    "UPDATE jobs SET state = 'cancelled', finished = ? WHERE id = ?", (time.time(), id)
                )
            elif state in ("done", "failed"):
                self._database.execute("UPDATE jobs SET state = 'expired' WHERE id = ?", (id,))
        self._remove_if_ended(id)
        return self.job(id, owner)

    def expire(self, now: float | None = None) -> int:
        """Removes the results of jobs that ended `keep_hours` ago, and forgets them after as long again.

        `now`: seconds since 1970, for tests. Returns how many jobs expired.
        """
        keep = 3600 * self.limits.keep_hours
        oldest = (time.time() if now is None else now) - keep
        with self._transaction():
            old = [
                row[0]
                for row in self._database.execute(
                    "SELECT id FROM jobs WHERE state IN ('done', 'failed') AND finished < ?", (oldest,)
                )
            ]
            self._database.executemany("UPDATE jobs SET state = 'expired' WHERE id = ?", [(id,) for id in old])
            self._database.execute(
                "DELETE FROM jobs WHERE state IN ('expired', 'cancelled') AND finished < ?", (oldest - keep,)
            )
        for id in old:
            self._remove_if_ended(id)
        return len(old)

    def counts(self) -> dict[str, int]:
        """How many files are in which state, for figures about the service."""
        with self._lock:
            return dict(self._database.execute("SELECT state, count(*) FROM files GROUP BY state").fetchall())

    # ------------------------------------------------------------------------------------------------ inside

    def _recover(self) -> None:
        """After whatever ended the process before: begun files wait again, files without a job are removed."""
        with self._transaction():
            self._database.execute(
                "UPDATE files SET state = 'failed', error = ? WHERE state = 'running' AND attempts >= ?",
                ("was given up: the service ended while it was restored, each time", MAX_ATTEMPTS),
            )
            self._database.execute("UPDATE files SET state = 'queued' WHERE state = 'running'")
            for (id,) in self._database.execute("SELECT id FROM jobs WHERE state IN ('queued', 'running')").fetchall():
                self._end_job(id)
            known = {
                row[0]
                for row in self._database.execute("SELECT id FROM jobs WHERE state NOT IN ('cancelled', 'expired')")
            }
        for folder in self._files.iterdir():
            if folder.name not in known and re.fullmatch("[0-9a-f]{32}", folder.name):
                shutil.rmtree(folder, ignore_errors=True)

    def _remove_if_ended(self, id: str) -> None:
        with self._lock:
            state = self._value("SELECT state FROM jobs WHERE id = ?", id)
        if state in (None, "cancelled", "expired"):  # from which there is no way back
            shutil.rmtree(self._files / id, ignore_errors=True)

    def _input(self, id: str, number: int) -> Path:
        return self._files / id / f"{number}.in"

    def _result(self, id: str, number: int) -> Path:
        return self._files / id / str(number)

    def _value(self, query: str, *values: Any) -> Any:
        row = self._database.execute(query, values).fetchone()
        return None if row is None else row[0]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it or nothing, and nobody else meanwhile."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")


class Arrival:
    """A job that is coming in. `files`: (name, bytes, error or None) of those that are here."""

    def __init__(self, store: JobStore, id: str):
        self.id, self.files = id, list[tuple[str, int, str | None]]()
        self.folder = store._files / id
        self._store, self._bytes = store, 0

    def add(
        self, name: str, pieces: Iterable[bytes], check: Callable[[Path], None] | None = None, tree: bool = False
    ) -> None:
        """One more file. What `check`, given where it lies, raises as a UserError is the file's fault alone.

        Raises TooMuch for too many files or bytes, NoRoom.
        """
        limits, number = self._store.limits, len(self.files)
        if number >= limits.files:
            raise TooMuch(f"a job has {limits.files} files at most")
        path = self._store._input(self.id, number)
        size = 0
        try:
            with path.open("xb") as stream:
                for piece in pieces:
                    size += len(piece)
                    self._bytes += len(piece)
                    if size > limits.file_bytes:
                        raise TooMuch(f"{shown_name(name)}: has more than {limits.file_bytes} bytes")
                    if self._bytes > limits.job_bytes:
                        raise TooMuch(f"a job has {limits.job_bytes} bytes at most")
                    self._store._arrived(self.id, len(piece))
                    stream.write(piece)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:  # a full disk
            raise NoRoom(f"the files cannot be kept ({error.strerror or type(error).__name__})") from None
        self.files.append((shown_name(name, tree), size, _verdict(check, path)))


def _verdict(check: Callable[[Path], None] | None, path: Path) -> str | None:
    """What is wrong with a file, which is then not kept."""
    try:
        if check is not None:
            check(path)
    except UserError as error:
        path.unlink(missing_ok=True)
        return str(error)
    return None


def _write_whole(path: Path, data: bytes) -> None:
    """On the disk, complete or not at all; again over what a process that died had written."""
    temporary = path.with_suffix(".part")  # one thread at a time writes it
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _make_private(folder: Path) -> None:
    """For nobody else's eyes. Raises UserError for a folder in which something else is."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ours = ("jobs.sqlite3", "files", "lost+found", ".")  # beginnings; what is hidden harms nobody, and is left alone
    others = [path.name for path in folder.iterdir() if not path.name.startswith(ours)]
    if others:
        raise UserError(f"{folder}: is no folder of jobs: it holds {others[0]!r}; name an empty one")
    folder.chmod(0o700)


def _open(path: Path) -> sqlite3.Connection:
    """One connection, which holds the file for itself: two services would take up each other's jobs."""
    database = sqlite3.connect(path, timeout=1.0, check_same_thread=False, isolation_level=None)
    try:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA foreign_keys = ON")
        if database.execute("PRAGMA user_version").fetchone()[0] not in (0, _VERSION):
            raise UserError(f"{path.parent}: was made by another version of restorevar; name an empty folder")
        database.executescript(_SCHEMA)
        database.execute(f"PRAGMA user_version = {_VERSION}")
        path.chmod(0o600)
    except BaseException:
        database.close()
        raise
    return database


def _file(*columns: Any) -> JobFile:
    return JobFile(*columns[:-1], json.loads(columns[-1] or "{}"))  # type: ignore[call-arg]


def _options(text: str) -> JobOptions:
    return JobOptions(**json.loads(text))


def _sync_folder(folder: Path) -> None:
    """So that the names of the files survive a loss of power too; Windows knows no such thing."""
    if os.name == "posix":
        for place in (folder, folder.parent):
            handle = os.open(place, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
