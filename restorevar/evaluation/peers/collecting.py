"""Collect: outputs of a peer, checked, brought back to the names and sizes of the inputs."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...data.manifest import write_json
from ...errors import UserError, writing
from ...images import read_photo
from ...images.pixels import eight_bit
from ..methods import FolderMethod
from .checks import Comparison, check_files, check_out, check_size, target_names
from .fitting import save_png
from .job import Item, Job
from .peer import Peer, Setup
from .running import Run, image_files, read_run, run_by_hand

Progress = Callable[[int, int], None]

#: What a folder of collected outputs says of itself.
MARK = "peer.json"


def collect(
    peer: Peer,
    job: Job,
    out: Path,
    outputs: Path | None = None,
    setup: Setup | None = None,
    progress: Progress = lambda done, total: None,
) -> FolderMethod:
    """OUT/<dataset>/<image>.png for every image of the job, and OUT/peer.json; whole or not at all.

    outputs   what the peer wrote, if it lies elsewhere than in JOB/out
    setup     what made them, if that was not `run`: its commit and the hash of its weights are kept

    Raises UserError for outputs that are missing, too many, older than the job, of another size, unchanged, equal to
    each other, in each other's place, or unlike their inputs.
    """
    root = job.out if outputs is None else outputs
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; run the peer first ({job.folder / 'run.sh'})")
    check_out(out, MARK)
    found = check_files(peer, job, root, image_files(root))
    names = target_names(job.items)
    made_by = read_run(peer, job) if setup is None else run_by_hand(peer, job, setup)
    part = Path(os.path.abspath(out))
    part = part.with_name(f".{part.name}.{uuid.uuid4().hex}.part")
    try:
        comparison = Comparison(peer, job)
        for done, item in enumerate(job.items, start=1):
            _bring_back(peer, job, item, found[item.key], part / names[item.key], comparison)
            progress(done, len(job.items))
        comparison.check()
        write_json(_description(peer, job, made_by), part / MARK)
        _replace(out, part)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return method_of(out)


def method_of(out: Path) -> FolderMethod:
    """A folder that `collect` wrote, as a method to be scored. Raises UserError."""
    values = _read_mark(out)
    if values is None:
        raise UserError(f"{out / MARK}: not the description of a peer's outputs")
    # Without weights to hash the outputs are hashed themselves.
    return FolderMethod(out, values["method"], values["sha256"] or None, values["settings"])


def is_collected(out: Path, job: Job, made_by: Run) -> bool:
    """Whether OUT has the outputs of this very run of this very job."""
    values = _read_mark(out)
    return values is not None and (values["job"], values["ended"]) == (job.identity, made_by.ended)


def _read_mark(out: Path) -> dict[str, Any] | None:
    try:
        values = json.loads((out / MARK).read_text(encoding="utf-8"))
        kinds = {"method": str, "sha256": str, "settings": dict, "job": str, "ended": float}
        return values if all(isinstance(values[name], kind) for name, kind in kinds.items()) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _description(peer: Peer, job: Job, made_by: Run) -> dict[str, Any]:
    """What OUT/peer.json says. `settings` go into every row of scores."""
    texts = {task: text for task in job.by_task() if (text := peer.text(task, job.options))}
    settings = {"checkout": made_by.checkout, "square": job.square, "options": dict(job.options), "texts": texts}
    settings = {name: value for name, value in settings.items() if value} | peer.settings(job)
    seconds = {
        f"{i.dataset}/{i.image}": round(made_by.seconds[i.key], 3) for i in job.items if i.key in made_by.seconds
    }
    return {
        "method": peer.title,
        "peer": peer.name,
        "source": peer.facts.source,
        "licence": peer.facts.licence,
        "sha256": made_by.sha256,
        "settings": settings,
        "job": job.identity,
        "ended": made_by.ended,
        "seconds_with_loading": seconds,
    }


def _bring_back(peer: Peer, job: Job, item: Item, source: Path, target: Path, comparison: Comparison) -> None:
    fed = eight_bit(read_photo(job.folder / item.place).rgb)
    output = eight_bit(read_photo(source).rgb)
    size = fed.shape[1], fed.shape[0]
    check_size(peer, source, size, (output.shape[1], output.shape[0]))
    restored = peer.extract(output, size)
    comparison.see(item, fed, restored)
    save_png(peer.fit.back(restored, item.size), target)


def _replace(out: Path, part: Path) -> None:
    """Move the new folder to the place of the old one, which `check_out` has looked at."""
    with writing(out):
        if out.is_dir():
            shutil.rmtree(out)
        os.replace(part, out)
