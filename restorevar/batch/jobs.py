"""Which files, and where their results go."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from ..errors import UserError
from ..images import EXTENSIONS, is_image_path
from ..video import VideoOptions, is_video_path, written_suffix


@dataclass(frozen=True)
class Job:
    """One file to restore, and where the result goes."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Writing:
    """How outputs are written. `format` is a known extension of photos without its dot; None keeps the input's."""

    format: str | None = None
    quality: int | None = None
    overwrite: bool = False
    video: VideoOptions = field(default_factory=VideoOptions)

    def __post_init__(self) -> None:
        if self.format is not None and f".{self.format.lower()}" not in EXTENSIONS:
            known = ", ".join(suffix[1:] for suffix in EXTENSIONS)
            raise UserError(f"unknown format {self.format!r}: one of keep, {known}")

    @property
    def suffix(self) -> str | None:
        return None if self.format is None else f".{self.format.lower()}"

    def named(self, path: Path) -> Path:
        """The name of the result of a file of this name."""
        if is_video_path(path):
            return path.with_suffix(self.video.container or written_suffix(path.suffix))
        return path if self.suffix is None else path.with_suffix(self.suffix)


def is_media_path(path: str | os.PathLike[str]) -> bool:
    """Whether the name looks like that of a photo or a video."""
    return is_image_path(path) or is_video_path(path)


# -------------------------------------------------------------------------------------------- which, where to


def plan_jobs(inputs: Sequence[str], out: str, writing: Writing) -> list[Job]:
    """Jobs for files, folders (recursive; their tree is kept below `out`) and glob patterns.

    A single file goes to `out` itself if that has the suffix of an image or a video; otherwise `out` is a folder.
    Raises UserError if nothing is found, if two inputs have one output, or if an output is an input (unless
    overwriting was asked for).
    """
    if not out:
        raise UserError("the output is an empty name; this folder is called .")
    folder = Path(out)
    found = list(dict.fromkeys(pair for text in inputs for pair in _expand(text, folder, is_media_path)))
    if not found or not any(source.exists() for source, _ in found):
        raise UserError(f"{inputs[0]}: no such file or folder" if len(inputs) == 1 else "none of the inputs exists")
    if is_media_path(folder) and not folder.is_dir():
        source = _only_file(inputs, found, out)
        return _check_jobs([Job(source, _check_name(folder, source, writing))], writing)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{out}: is not a folder, and has no suffix of an image")
    jobs = [Job(source, folder / writing.named(below)) for source, below in found]
    return _check_jobs(jobs, writing)


def find_inputs(inputs: Sequence[str]) -> list[Path]:
    """The photos that INPUTs mean, as `plan_jobs` finds them. UserError for folders and patterns without images."""
    return list(dict.fromkeys(source for text in inputs for source, _ in _expand(text)))


def _expand(
    text: str, out: Path | None = None, wanted: Callable[[Path], bool] = is_image_path
) -> Iterator[tuple[Path, Path]]:
    """(file, its place below the output folder) of one INPUT."""
    if not text:  # mostly a variable of a shell that is not set; it would mean all that lies here
        raise UserError("an input is an empty name; this folder is called .")
    path = Path(text)
    if path.is_dir():
        yield from _images_below(path, out, wanted)
    elif path.exists() or not glob.has_magic(text):
        yield path, Path(path.name)  # a missing one is reported when its turn comes
    else:  # a pattern that no shell has expanded
        matches = [Path(match) for match in sorted(glob.glob(text, recursive=True))]
        files = [match for match in matches if match.is_file() and wanted(match)]
        if not files:
            raise UserError(f"{text}: matches no images")
        yield from ((file, Path(file.name)) for file in files)


def _images_below(folder: Path, out: Path | None, wanted: Callable[[Path], bool]) -> Iterator[tuple[Path, Path]]:
    """The images in a folder and its subfolders, sorted; not those in an output folder that is inside."""
    results = None if out is None or out.resolve() == folder.resolve() else out.resolve()
    count = 0
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if Path(parent, name).resolve() != results)
        for file in (Path(parent, name) for name in sorted(files) if wanted(Path(name))):
            count += 1
            yield file, file.relative_to(folder)
    if not count:
        raise UserError(f"{folder}: no images in this folder")


def _only_file(inputs: Sequence[str], found: Sequence[tuple[Path, Path]], out: str) -> Path:
    if len(found) > 1 or Path(inputs[0]).is_dir():
        raise UserError(f"{out}: is the name of a single image, but the input is more than one; name a folder")
    return found[0][0]


def _check_name(target: Path, source: Path, writing: Writing) -> Path:
    if is_video_path(target) != is_video_path(source):
        kinds = ("a video", "a photo") if is_video_path(source) else ("a photo", "a video")
        raise UserError(f"{target}: {source} is {kinds[0]}, and this is the name of {kinds[1]}")
    suffix = writing.video.container if is_video_path(source) else writing.suffix
    if is_video_path(source):
        if suffix is not None and target.suffix.lower() != suffix:
            raise UserError(f"{target}: does not end in {suffix}, the format asked for")
        return target
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
    """Width times height from the header, times the frames of a video, for estimates; 0 if it cannot be told."""
    if not path.is_file():
        return 0
    try:
        if is_video_path(path):
            from ..video.reading import claimed_pixels

            return claimed_pixels(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                return image.width * image.height
    except Exception:  # whatever is wrong with it is told when it is read
        return 0


def is_done(job: Job, writing: Writing) -> bool:
    """Whether the job is skipped: its output exists and is not to be replaced."""
    return job.target.exists() and not writing.overwrite
