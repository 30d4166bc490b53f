"""The three steps in one: prepare, run, collect."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..methods import FolderMethod
from ..pairs import Pair
from .checks import check_out
from .collecting import MARK, collect, is_collected, method_of
from .job import has_job
from .peer import Peer, Setup
from .preparing import prepare, remove_job
from .running import run

#: What is being done, how many of how many images.
Progress = Callable[[str, int, int], None]


def run_peer(
    peer: Peer,
    pairs: Sequence[Pair],
    setup: Setup,
    out: Path,
    options: Mapping[str, Any] | None = None,
    square: int | None = None,
    folder: Path | None = None,
    overwrite: bool = False,
    tell: Callable[[str], None] = lambda line: None,
    progress: Progress = lambda step, done, total: None,
) -> FolderMethod:
    """What the peer makes of the pairs' inputs, in OUT/<dataset>/<image>.png. What is done already is not done again.

    square      squash all images to so many pixels a side first: 512 for the protocols restorevar-512*, else None
    folder      of the job; default: OUT.job beside OUT
    overwrite   put an end to another job in that folder
    tell        hears of images that are left out because the peer knows no such task

    Raises UserError, one line, for whatever goes wrong.
    """
    folder = job_folder(out) if folder is None else folder
    check_out(out, MARK)
    if overwrite and has_job(folder):
        remove_job(folder)
    job = prepare(peer, pairs, folder, options, square, tell, _named("preparing", progress))
    made_by = run(peer, job, setup, _named(peer.title, progress))
    if is_collected(out, job, made_by):
        return method_of(out)
    return collect(peer, job, out, progress=_named("collecting", progress))


def job_folder(out: Path) -> Path:
    """Beside OUT: in it, its images would be taken for outputs."""
    return out.with_name(f"{out.name}.job")


def _named(step: str, progress: Progress) -> Callable[[int, int], None]:
    return lambda done, total: progress(step, done, total)
