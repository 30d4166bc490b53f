"""Other people's checkouts, each in a process of its own: their packages are called `models`, `utils`, `net`.

A task is a function of ours, "module:function", that takes (job, folder) and returns what is plain JSON. It runs with
the checkout first on the module path; tensors go through files in `folder`. Nothing is written to the checkout.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from .. import heap
from ..errors import UserError

_JOB, _RESULT = "job.json", "result.json"


def call(task: str, checkout: Path, folder: Path, device: torch.device, **job: Any) -> dict[str, Any]:
    """Run a task on this device, with as many threads as here. Raises UserError, one line that names the checkout."""
    if not checkout.is_dir():
        raise UserError(f"{checkout}: no such folder")
    job |= {"task": task, "checkout": str(checkout.resolve()), "device": str(device)}
    job["threads"] = torch.get_num_threads()
    (folder / _JOB).write_text(json.dumps(job))
    (folder / _RESULT).unlink(missing_ok=True)
    command = [sys.executable, "-m", f"{__package__}.worker", str(folder)]
    done = subprocess.run(command, cwd=folder, env=_surroundings(device), capture_output=True, text=True)
    if not (folder / _RESULT).is_file():
        last = (done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"])[-1]
        raise UserError(f"{checkout}: could not be run ({last})")
    result = json.loads((folder / _RESULT).read_text())
    if "error" in result:
        raise UserError(f"{checkout}: {result['error']}")
    return result


def _surroundings(device: torch.device) -> dict[str, str]:
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, os.environ.get("PYTHONPATH", "")]
    surroundings = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONDONTWRITEBYTECODE": "1"}
    if device.type == "cpu":
        surroundings["CUDA_VISIBLE_DEVICES"] = ""  # much code takes a GPU wherever it sees one
    return surroundings


# ------------------------------------------------------------------------------------------ in the other process


class Unexpected(Exception):
    """The checkout is not what the task was written for; one line."""


def import_from(checkout: str, name: str) -> ModuleType:
    """A module of the checkout, not an installed one of the same name. Raises Unexpected."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name.split(".")[0] or error.name == name:
            raise Unexpected(f"has no module {name}; is it the right checkout?") from None
        raise Unexpected(f"needs the Python package {error.name}, which is not installed") from None
    if not Path(module.__file__ or "").resolve().is_relative_to(checkout):
        raise Unexpected(f"has no module {name}; is it the right checkout?")
    return module


def attribute_of(module: ModuleType, name: str) -> Any:
    if not hasattr(module, name):
        raise Unexpected(f"module {module.__name__} has no {name}; is it the right checkout?")
    return getattr(module, name)


def serve(folder: Path) -> None:
    """Run the task that waits in `folder`; the result, or one line of what went wrong, appears beside it."""
    (folder / _RESULT).write_text(json.dumps(_run(folder)))


def _run(folder: Path) -> dict[str, Any]:
    job = json.loads((folder / _JOB).read_text())
    module, function = job["task"].split(":")
    task = getattr(importlib.import_module(module), function)
    torch.set_num_threads(job["threads"])
    heap.keep_freed()
    sys.path.insert(0, job["checkout"])
    try:
        return task(job, folder)
    except Unexpected as error:
        return {"error": str(error)}
    except Exception as error:  # whatever their code raises
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        return {"error": f"failed ({cause[:300]})"}
