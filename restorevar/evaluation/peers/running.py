"""Run: the commands of a job, one after the other, in the peer's environment; it goes on where it was interrupted."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ...data.manifest import write_json
from ...errors import UserError
from ...images import is_image_path
from .command import Command, filled
from .job import Job
from .peer import ITSELF, Peer, Setup

Progress = Callable[[int, int], None]

_RECORD, _LOG = "run.json", "log.txt"
#: Seconds between two looks at how far it is.
_LOOK = 1.0


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
    record = _read_record(job, made_by | {"python": setup.python})
    if not record["done"]:  # some programs stumble over what an earlier run left
        shutil.rmtree(job.out, ignore_errors=True)
    job.out.mkdir(parents=True, exist_ok=True)
    for number, command in enumerate(commands):
        if str(number) in record["done"] and not missing(peer, job, command.keys):
            continue
        started = time.monotonic()
        _execute(peer, job, command, places, progress)
        if lost := missing(peer, job, command.keys):
            what = f"left no output for {len(lost)} images, {lost[0]} first"
            raise UserError(f"{peer.title} ended well but {what}; all it said is in {job.folder / _LOG}")
        record["done"][str(number)] = time.monotonic() - started
        record["ended"] = time.time()
        write_json(record, job.folder / _RECORD)
    return read_run(peer, job)


def read_run(peer: Peer, job: Job) -> Run:
    """What was run in this folder by `run`; nothing is known of what was run by hand."""
    record = _read_record(job, None)
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


def missing(peer: Peer, job: Job, keys: tuple[str, ...]) -> list[str]:
    """Names of the images of these keys that have no output."""
    found = peer.claim(job, image_files(job.out))
    names = {item.key: item.image for item in job.items}
    return [names[key] for key in keys if key not in found]


# ------------------------------------------------------------------------------------------------------ the places


def find_places(peer: Peer, job: Job, setup: Setup) -> dict[str, str]:
    """Absolute paths of what the commands need. Raises UserError for what is missing or is something else."""
    places = {"job": os.path.abspath(job.folder), "python": _interpreter(setup.python)}
    if peer.files:
        places["checkout"] = _checkout(peer, setup.checkout)
    weights = setup.weights_of(peer)
    if names := peer.weight_files(job):
        if weights is None:
            raise UserError(f"{peer.name} needs --weights: {peer.facts.weights}")
        for name in names:
            path = weights if name == ITSELF else weights / name
            if not path.is_file():
                raise UserError(f"{path}: no such file; weights of {peer.title}: {peer.facts.weights}")
        peer.check_weights(job, weights)
        places["weights"] = os.path.abspath(weights)
    return places


def _interpreter(python: str) -> str:
    """Not resolved: the interpreter of a virtual environment is a link that has to stay one."""
    found = shutil.which(os.path.expanduser(python))
    if found is None:
        raise UserError(f"--python {python}: no such program")
    return os.path.abspath(found)


def _checkout(peer: Peer, checkout: Path | None) -> str:
    if checkout is None:
        raise UserError(f"{peer.name} needs --checkout: git clone {peer.facts.source}")
    if not checkout.is_dir():
        raise UserError(f"{checkout}: no such folder")
    for name in peer.files:
        if not (checkout / name).exists():
            raise UserError(f"{checkout}: has no {name}; is it a checkout of {peer.facts.source}?")
    return os.path.abspath(checkout)


def commit_of(checkout: Path | None) -> str:
    """The commit of a repository, with "-dirty" if files were changed; "" if that cannot be told."""
    if checkout is None or not (checkout / ".git").exists():
        return ""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def weights_sha256(peer: Peer, job: Job, setup: Setup) -> str:
    """Of the one file, or of the hashes of all that the job needs; "" if it needs none."""
    import hashlib

    from ...checkpoints import file_sha256

    weights, names = setup.weights_of(peer), peer.weight_files(job)
    if weights is None or not names:
        return ""
    digests = [file_sha256(weights if name == ITSELF else weights / name) for name in names]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


# ------------------------------------------------------------------------------------------------------ one command


def _execute(peer: Peer, job: Job, command: Command, places: Mapping[str, str], progress: Progress) -> None:
    for folder in command.folders:
        Path(filled(folder, places)).mkdir(parents=True, exist_ok=True)
    for link, target in command.links.items():
        path = Path(filled(link, places))
        path.unlink(missing_ok=True)
        path.symlink_to(filled(target, places))
    arguments = [filled(text, places) for text in command.arguments]
    surroundings = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    surroundings |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
    if paths := [filled(text, places) for text in command.python]:
        surroundings["PYTHONPATH"] = os.pathsep.join(paths)
    with (job.folder / _LOG).open("ab") as log:
        log.write(f"\n$ {' '.join(arguments)}\n".encode("utf-8", "surrogateescape"))
        log.flush()
        begin = log.tell()
        folder = filled(command.folder, places)
        code = _wait(peer, job, arguments, folder, surroundings, log, progress)
    if code:
        raise UserError(_failure(peer, job, code, begin))


def _wait(
    peer: Peer,
    job: Job,
    arguments: list[str],
    folder: str,
    surroundings: dict[str, str],
    log: IO[bytes],
    progress: Progress,
) -> int:
    """Start it, tell how many outputs there are while it runs, and end it with all it started if we are ended."""
    try:
        process = subprocess.Popen(
            arguments,
            cwd=folder,
            env=surroundings,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise UserError(f"{arguments[0]}: cannot be run ({error.strerror or error})") from None
    try:
        while True:
            try:
                return process.wait(_LOOK)
            except subprocess.TimeoutExpired:
                progress(len(peer.claim(job, image_files(job.out))), len(job.items))
    finally:
        if process.returncode is None:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Politely, then not. On POSIX its whole group: many programs start workers."""
    for number in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, number)
        else:
            process.terminate()
        try:
            process.wait(10)
            return
        except subprocess.TimeoutExpired:
            continue


#: In the log of any peer -> what to do.
_HINTS = {
    r"No module named ['\"]?torchvision\.transforms\.functional_tensor": "its environment wants torchvision below 0.17",
    r"No module named": "--python should be the interpreter of its environment, with all that its README installs",
    r"CUDA out of memory|OutOfMemoryError": "smaller images: --square 512",
    r"Torch not compiled with CUDA|Found no NVIDIA|No CUDA GPUs": "it needs a CUDA GPU",
    r"weights_only": "its PyTorch is newer than the one that wrote the weights: take the version of its README",
}


def _failure(peer: Peer, job: Job, code: int, begin: int) -> str:
    """One line: how it ended, the last it said, and what may help."""
    path = job.folder / _LOG
    with path.open("rb") as file:
        file.seek(begin)
        said = file.read().decode("utf-8", "replace")
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "it said nothing")
    hint = next((text for pattern, text in {**peer.hints, **_HINTS}.items() if re.search(pattern, said)), "")
    how = f"was ended by signal {-code}" if code < 0 else f"failed with code {code}"
    return f"{peer.title} {how}: {last[:200]}{f' ({hint})' if hint else ''}; all it said is in {path}"


# ------------------------------------------------------------------------------------------------------ the record


def _read_record(job: Job, made_by: dict[str, str] | None) -> dict[str, Any]:
    """What is done. If `made_by` is given and something else was run before, nothing is."""
    try:
        record = json.loads((job.folder / _RECORD).read_text(encoding="utf-8"))
        done = {str(number): float(seconds) for number, seconds in record["done"].items()}
        known = {"made_by": dict(record["made_by"]), "done": done, "ended": float(record["ended"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        known = {"made_by": {}, "done": {}, "ended": 0.0}
    if made_by is not None and known["made_by"] != made_by:
        known = {"made_by": made_by, "done": {}, "ended": 0.0}
    return known
