"""Many files: which ones, where to, one after the other. A bad file costs a line, not the rest."""

from __future__ import annotations

import glob
import json
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from PIL import Image

from .errors import UserError
from .images import EXTENSIONS, Photo, check_output, is_image_path, read_photo, write_photo
from .pipeline import Restorer

Status = Literal["restored", "skipped", "failed"]


@dataclass(frozen=True)
class Job:
    """One file to restore, and where the result goes."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Writing:
    """How outputs are written. `format` is a known extension without its dot; None keeps the input's."""

    format: str | None = None
    quality: int | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.format is not None and f".{self.format.lower()}" not in EXTENSIONS:
            known = ", ".join(suffix[1:] for suffix in EXTENSIONS)
            raise UserError(f"unknown format {self.format!r}: one of keep, {known}")

    @property
    def suffix(self) -> str | None:
        return None if self.format is None else f".{self.format.lower()}"


@dataclass
class Record:
    """What became of one file; a line of the JSON log. Sizes are width, height in pixels."""

    input: str
    output: str
    status: Status = "failed"
    size: tuple[int, int] | None = None
    output_size: tuple[int, int] | None = None
    seconds: float = 0.0
    model: str = ""
    sha256: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    def __str__(self) -> str:
        if self.status == "skipped":
            return f"{self.input}: skipped, {self.output} exists (--overwrite replaces it)"
        if self.size is None or self.error is not None:
            return self.error or f"{self.input}: {self.status}"
        return f"{self.input} -> {self.output} ({self.size[0]}x{self.size[1]}, {self.seconds:.1f} s)"


# -------------------------------------------------------------------------------------------- which, where to


def plan_jobs(inputs: Sequence[str], out: str, writing: Writing) -> list[Job]:
    """Jobs for files, folders (recursive; their tree is kept below `out`) and glob patterns.

    A single file goes to `out` itself if that has the suffix of an image; otherwise `out` is a folder.
    Raises UserError if nothing is found, if two inputs have one output, or if an output is an input (unless
    overwriting was asked for).
    """
    folder = Path(out)
    found = list(dict.fromkeys(pair for text in inputs for pair in _expand(text, folder)))
    if not found or not any(source.exists() for source, _ in found):
        raise UserError(f"{inputs[0]}: no such file or folder" if len(inputs) == 1 else "none of the inputs exists")
    if is_image_path(folder) and not folder.is_dir():
        return _check_jobs([Job(_only_file(inputs, found, out), _check_name(folder, writing))], writing)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{out}: is not a folder, and has no suffix of an image")
    suffix = writing.suffix
    jobs = [Job(source, folder / (below if suffix is None else below.with_suffix(suffix))) for source, below in found]
    return _check_jobs(jobs, writing)


def _expand(text: str, out: Path) -> Iterator[tuple[Path, Path]]:
    """(file, its place below the output folder) of one INPUT."""
    path = Path(text)
    if path.is_dir():
        yield from _images_below(path, out)
    elif path.exists() or not glob.has_magic(text):
        yield path, Path(path.name)  # a missing one is reported when its turn comes
    else:  # a pattern that no shell has expanded
        matches = [Path(match) for match in sorted(glob.glob(text, recursive=True))]
        files = [match for match in matches if match.is_file() and is_image_path(match)]
        if not files:
            raise UserError(f"{text}: matches no images")
        yield from ((file, Path(file.name)) for file in files)


def _images_below(folder: Path, out: Path) -> Iterator[tuple[Path, Path]]:
    """The images in a folder and its subfolders, sorted; not those in an output folder that is inside."""
    results = out.resolve() if out.resolve() != folder.resolve() else None
    count = 0
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if Path(parent, name).resolve() != results)
        for file in (Path(parent, name) for name in sorted(files) if is_image_path(name)):
            count += 1
            yield file, file.relative_to(folder)
    if not count:
        raise UserError(f"{folder}: no images in this folder")


def _only_file(inputs: Sequence[str], found: Sequence[tuple[Path, Path]], out: str) -> Path:
    if len(found) > 1 or Path(inputs[0]).is_dir():
        raise UserError(f"{out}: is the name of a single image, but the input is more than one; name a folder")
    return found[0][0]


def _check_name(target: Path, writing: Writing) -> Path:
    suffix = writing.suffix
    if suffix is not None and EXTENSIONS[target.suffix.lower()] != EXTENSIONS[suffix]:
        raise UserError(f"{target}: does not end in {suffix}, the format asked for")
    return target


def _check_jobs(jobs: list[Job], writing: Writing) -> list[Job]:
    """The jobs, if each has an output of its own."""
    taken: dict[Path, Job] = {}
    for job in jobs:
        other = taken.setdefault(job.target.resolve(), job)
        if other is not job:
            raise UserError(f"{other.source} and {job.source}: both would be written to {job.target}")
    sources = {job.source.resolve() for job in jobs}
    for target, job in taken.items():
        if target in sources and not writing.overwrite:
            raise UserError(f"{job.target}: is an input; give another output, or --overwrite to replace it")
    return jobs


def count_pixels(path: Path) -> int:
    """Width times height from the header, for estimates; 0 if it cannot be told."""
    if not path.is_file():
        return 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                return image.width * image.height
    except Exception:  # whatever is wrong with it is told when it is read
        return 0


# ------------------------------------------------------------------------------------------------- one by one


def run(
    jobs: Iterable[Job],
    restorer: Restorer,
    writing: Writing,
    progress: Callable[[Job, float], None] = lambda job, share: None,
) -> Iterator[Record]:
    """Restores job after job and yields what became of each. Nothing but an interrupt stops it.

    Outputs that exist are skipped unless `writing.overwrite`. `progress` is told the share of a job done.
    """
    for job in jobs:
        record = Record(str(job.source), str(job.target), model=restorer.name, sha256=restorer.sha256)
        start = time.perf_counter()
        try:
            _restore(job, restorer, writing, progress, record)
        except UserError as error:
            record.error = str(error)
        except MemoryError:
            record.error = f"{job.source}: needs more memory than there is"
        except Exception as error:  # of whatever kind: the other files are not to suffer
            cause = " ".join(f"{type(error).__name__}: {error}".split())
            record.error = f"{job.source}: failed unexpectedly ({cause})"
        record.settings = restorer.settings  # afterwards, for it may have given way to lack of memory
        record.seconds = round(time.perf_counter() - start, 3)
        yield record


def _restore(
    job: Job,
    restorer: Restorer,
    writing: Writing,
    progress: Callable[[Job, float], None],
    record: Record,
) -> None:
    """One file; `record` is filled in as things come to be known. Raises UserError that names the file."""
    if is_done(job, writing):
        record.status = "skipped"
        return
    photo = read_photo(job.source)
    record.size = _size(photo)
    check_output(job.target, photo, writing.format, writing.quality, writing.overwrite)
    try:
        restored = restorer.restore_photo(photo, lambda share: progress(job, share))
    except UserError as error:
        raise UserError(f"{job.source}: {error}") from None
    write_photo(job.target, restored, writing.format, writing.quality, writing.overwrite)
    record.output_size = _size(restored)
    record.status = "restored"


def _size(photo: Photo) -> tuple[int, int]:
    return photo.rgb.shape[1], photo.rgb.shape[0]


def is_done(job: Job, writing: Writing) -> bool:
    """Whether the job is skipped: its output exists and is not to be replaced."""
    return job.target.exists() and not writing.overwrite


def append_record(log: IO[str] | None, record: Record) -> None:
    """Adds a line of JSON to the log, if there is one, at once: an interrupted run keeps what it did.

    Raises UserError if it cannot be written.
    """
    if log is None:
        return
    try:
        log.write(json.dumps(asdict(record)) + "\n")
        log.flush()
    except OSError as error:
        raise UserError(f"{log.name}: cannot be written ({error.strerror or error})") from None
