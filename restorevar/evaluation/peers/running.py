"""Run: the commands of a job, one after the other, in the peer's environment; it goes on where it was interrupted."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...data.manifest import write_json
from ...errors import UserError
from ...images import is_image_path
from .job import Job
from .peer import Peer, Setup
from .places import commit_of, find_places, weights_sha256
from .process import LOG, execute

Progress = Callable[[int, int], None]

_RECORD = "run.json"


@dataclass(frozen=True)
class Run:
    """What was run.

    checkout   the commit of the checkout, "" if it is no repository
    sha256     of the weights; of several files, of their hashes
    seconds    key -> seconds of the command that made its output, shared among all of that command; starting and
               loading included, so not a benchmark
    ended      seconds since 1970, 0 if that is not known
    """

    checkout: str = ""
    sha256: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    ended: float = 0.0


def run(peer: Peer, job: Job, setup: Setup, progress: Progress = lambda done, total: None) -> Run:
    """Run what is not done yet. Raises UserError, one line that tells the cause and where the log is."""
    places = find_places(peer, job, setup)
    commands = peer.commands(job)
    made_by = {"checkout": commit_of(setup.checkout), "sha256": weights_sha256(peer, job, setup)}
    made_by["python"] = setup.python
    record = _read_record(job)
    same = record["made_by"] == made_by
    if not same or not (record["done"] or peer.resumes):  # some programs stumble over what an earlier run left
        shutil.rmtree(job.out, ignore_errors=True)
        record = {"made_by": made_by, "done": {}, "ended": 0.0}
    job.out.mkdir(parents=True, exist_ok=True)
    write_json(record, job.folder / _RECORD)
    present = set(_claimed(peer, job))
    for number, command in enumerate(commands):
        if str(number) in record["done"] and present.issuperset(command.keys):
            continue
        started = time.monotonic()
        execute(peer, job, command, places, lambda: progress(len(_claimed(peer, job)), len(job.items)))
        if lost := set(command.keys).difference(_claimed(peer, job)):
            first = next(item.image for item in job.items if item.key in lost)
            what = f"left no output for {len(lost)} images, {first} first"
            raise UserError(f"{peer.title} ended well but {what}; all it said is in {job.folder / LOG}")
        record["done"][str(number)] = time.monotonic() - started
        record["ended"] = time.time()
        write_json(record, job.folder / _RECORD)
        progress(sum(len(commands[int(n)].keys) for n in record["done"]), len(job.items))
    return read_run(peer, job)


def read_run(peer: Peer, job: Job) -> Run:
    """What was run in this folder by `run`; nothing is known of what was run by hand."""
    record = _read_record(job)
    seconds = {
        key: record["done"][str(number)] / len(command.keys)
        for number, command in enumerate(peer.commands(job))
        for key in command.keys
        if str(number) in record["done"]
    }
    made_by = record["made_by"]
    return Run(made_by.get("checkout", ""), made_by.get("sha256", ""), seconds, record["ended"])


def run_by_hand(peer: Peer, job: Job, setup: Setup) -> Run:
    """What a user who ran it tells of it. Raises UserError for what is not there."""
    find_places(peer, job, setup)
    return Run(commit_of(setup.checkout), weights_sha256(peer, job, setup))


def image_files(root: Path) -> list[str]:
    """The images below a folder, as paths relative to it; not what links lead to."""
    found = []
    for parent, _, files in os.walk(root):
        found += [Path(parent, name).relative_to(root).as_posix() for name in files if is_image_path(name)]
    return sorted(found)


def _claimed(peer: Peer, job: Job) -> dict[str, list[str]]:
    return peer.claim(job, image_files(job.out))


def _read_record(job: Job) -> dict[str, Any]:
    """What is done, and what by; nothing where there is no record."""
    try:
        record = json.loads((job.folder / _RECORD).read_text(encoding="utf-8"))
        done = {str(number): float(seconds) for number, seconds in record["done"].items()}
        return {"made_by": dict(record["made_by"]), "done": done, "ended": float(record["ended"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {"made_by": {}, "done": {}, "ended": 0.0}
