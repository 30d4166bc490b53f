"""Process: one command of a job in the peer's environment, ended with us, its failure told in a line."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from ...errors import UserError
from .command import Command, filled
from .job import Job
from .peer import Peer

LOG = "log.txt"
#: Seconds between two looks at how far it is, and those that it is given to end.
_LOOK, _PATIENCE = 1.0, 10.0


def execute(peer: Peer, job: Job, command: Command, places: Mapping[str, str], look: Callable[[], None]) -> None:
    """Run it to its end. `look` is called every second. Raises UserError if it fails."""
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
    with (job.folder / LOG).open("ab") as log:
        log.write(f"\n$ {' '.join(arguments)}\n".encode("utf-8", "surrogateescape"))
        log.flush()
        begin = log.tell()
        folder = filled(command.folder, places)
        code = _wait(arguments, folder, surroundings, log, look)
    if code:
        raise UserError(_failure(peer, job, code, begin))


def _wait(
    arguments: list[str],
    folder: str,
    surroundings: dict[str, str],
    log: IO[bytes],
    look: Callable[[], None],
) -> int:
    """Start it, and end it with all that it started if we are interrupted. Returns its exit code."""
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
                look()
    finally:
        if process.returncode is None:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Politely, then not. On POSIX its whole group: many programs start workers."""
    if not hasattr(os, "killpg"):
        process.kill()
        return
    for number in (signal.SIGTERM, signal.SIGKILL):  # also what stays behind when the first of the group has gone
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)


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
    path = job.folder / LOG
    with path.open("rb") as file:
        file.seek(begin)
        said = file.read().decode("utf-8", "replace")
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "it said nothing")
    hint = next((text for pattern, text in {**peer.hints, **_HINTS}.items() if re.search(pattern, said)), "")
    how = f"was ended by signal {-code}" if code < 0 else f"failed with code {code}"
    return f"{peer.title} {how}: {last[:200]}{f' ({hint})' if hint else ''}; all it said is in {path}"
