"""Prepare: pairs -> a job folder with images in the size and under the names that a peer can take."""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError, reading, writing
from ...images import read_photo
from ...images.pixels import eight_bit
from ..pairs import Pair
from ..protocols import resized
from .command import PLACES, Command, as_shell
from .fitting import save_png
from .job import Item, Job, has_job, load_job
from .peer import Peer, Setup

#: In a folder whose preparation was interrupted, and may be begun again.
_UNFINISHED = "unfinished"

Tell = Callable[[str], None]
Progress = Callable[[int, int], None]


def prepare(
    peer: Peer,
    pairs: Sequence[Pair],
    folder: Path,
    options: Mapping[str, Any] | None = None,
    square: int | None = None,
    tell: Tell = lambda line: None,
    progress: Progress = lambda done, total: None,
) -> Job:
    """Make the job folder, or find that it holds this very job already.

    square   squash all images to so many pixels a side first, as the protocol restorevar-512 does; outputs stay so

    Images of tasks that the peer does not know are left out, and `tell` hears of it. Raises UserError if none is left,
    an image cannot be read, or the folder holds something else.
    """
    options = peer.parse_options(()) if options is None else options
    pairs = _taken(peer, pairs, options, tell)
    items = tuple(_item(f"{number:06}", pair) for number, pair in enumerate(pairs))
    job = Job(folder, peer.name, dict(options), square, time.time(), items)
    if has_job(folder):
        old = load_job(folder)
        if old.identity != job.identity:
            raise UserError(f"{folder}: holds another job; name another folder, or replace it with --overwrite")
        if all((folder / item.place).is_file() for item in old.items):
            return old
        job = replace(job, prepared=old.prepared)  # its outputs may be there
    elif folder.is_dir() and any(folder.iterdir()) and not (folder / _UNFINISHED).is_file():
        raise UserError(f"{folder}: is not empty, and holds no job of a peer")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _UNFINISHED).touch()
    sized = []
    for item in items:
        image = asked_image(item, square)
        save_png(peer.fit.feed(image), folder / item.place)
        sized.append(replace(item, size=(image.shape[1], image.shape[0])))
        progress(len(sized), len(items))
    job = replace(job, items=tuple(sized))
    peer.write(job)
    job.save()  # last: a folder with it is whole
    (folder / _UNFINISHED).unlink()
    return job


def remove_job(folder: Path) -> None:
    """Remove a job folder. Raises UserError for a folder that is none."""
    load_job(folder)
    shutil.rmtree(folder)


def asked_image(item: Item, square: int | None) -> np.ndarray:
    """[H, W, 3] uint8 of the item's size: what is to be restored. Upright, 8 bits."""
    image = eight_bit(read_photo(item.source).rgb)
    return image if square is None else resized(image, (square, square))


def write_script(peer: Peer, job: Job, setup: Setup) -> Path:
    """JOB/run.sh, which does by hand what `peer run` does in between, here or where the folder is brought to."""
    commands = peer.commands(job)
    path = job.folder / "run.sh"
    with writing(path):
        path.write_text(_script(peer, commands, setup), encoding="utf-8")
        path.chmod(0o755)
    return path


def _script(peer: Peer, commands: Sequence[Command], setup: Setup) -> str:
    """Places that the setup does not tell come from the environment."""
    needed = set().union(*(command.places for command in commands))
    weights = setup.weights_of(peer)
    known = {"checkout": _absolute(setup.checkout), "python": setup.python, "weights": _absolute(weights)}
    lines = ["#!/bin/sh", f"# {peer.title}: {peer.facts.needs}", f"# weights: {peer.facts.weights}", "set -e"]
    lines.append('JOB=$(cd "$(dirname "$0")" && pwd)')
    for name in (name for name in PLACES if name in needed - {"job"}):
        default = shlex.quote(known[name]) if known[name] else ""
        variable = name.upper()
        lines.append(f"{variable}=${{{variable}:-{default}}}" if default else f': "${{{variable}:?}}"')
    lines.append('if [ -e "$JOB/out" ]; then echo "$JOB/out exists: remove it first" >&2; exit 1; fi')
    lines += ['mkdir "$JOB/out"', "export PYTHONDONTWRITEBYTECODE=1", *map(as_shell, commands), ""]
    return "\n".join(lines)


def _absolute(path: Path | None) -> str:
    return "" if path is None else os.path.abspath(path)


def _taken(peer: Peer, pairs: Sequence[Pair], options: Mapping[str, Any], tell: Tell) -> list[Pair]:
    """The pairs of tasks that the peer knows."""
    taken = [pair for pair in pairs if peer.takes(pair.task, options)]
    left = Counter(pair.task for pair in pairs if not peer.takes(pair.task, options))
    told = ", ".join(f"{number} of {task}" for task, number in left.items())
    known = ", ".join(peer.texts or ())
    if not taken:
        raise UserError(f"{peer.name} takes none of these images ({told}): its tasks are {known}; --task says which")
    if left:
        tell(f"{peer.title} knows {known}: left out are {told}")
    return taken


def _item(key: str, pair: Pair) -> Item:
    """Its size is not known yet."""
    from ...checkpoints import file_sha256

    with reading(pair.input):
        digest = file_sha256(pair.input)
    return Item(key, pair.dataset, pair.task, pair.image, os.path.abspath(pair.input), digest, (0, 0))
