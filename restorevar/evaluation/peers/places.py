"""Places: where the user has a peer, looked at before anything is started."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from ...errors import UserError
from .job import Job
from .peer import ITSELF, Peer, Setup


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
    from ...checkpoints import file_sha256

    weights, names = setup.weights_of(peer), peer.weight_files(job)
    if weights is None or not names:
        return ""
    digests = [file_sha256(weights if name == ITSELF else weights / name) for name in names]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
