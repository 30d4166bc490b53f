"""Job: a folder with images made ready for one peer, and what it takes to bring the outputs back.

JOB/job.json                 what was prepared; the rest follows from it
JOB/input/<task>/<key>.png   images in the size that the peer takes, under names that no program stumbles over
JOB/out/                     what the peer writes
JOB/log.txt, JOB/run.json    what it said, what is done
JOB/run.sh                   the same by hand, on any machine that the folder is brought to
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...data.manifest import write_json
from ...errors import UserError

_FORMAT = 1
_FILE = "job.json"


@dataclass(frozen=True)
class Item:
    """One image of a job.

    key                     its name in the job: six digits
    dataset, task, image    as in its Pair
    source, sha256          its file, and the hash of that file
    size                    (width, height) of the result: its own size, or the square that was asked for
    """

    key: str
    dataset: str
    task: str
    image: str
    source: str
    sha256: str
    size: tuple[int, int]

    @property
    def place(self) -> str:
        """Where it lies below the job, and with which name."""
        return f"input/{slug(self.task)}/{self.key}.png"


@dataclass(frozen=True)
class Job:
    """What was prepared. `square`: images were squashed to that side first, and results stay so.

    `prepared` (seconds since 1970): outputs that are older cannot belong to it.
    """

    folder: Path
    peer: str
    options: Mapping[str, Any]
    square: int | None
    prepared: float
    items: tuple[Item, ...]

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def identity(self) -> str:
        """The same for jobs that would give the same outputs."""
        items = [(i.key, i.dataset, i.task, i.image, i.sha256) for i in self.items]
        text = json.dumps([self.peer, dict(self.options), self.square, items], sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    def by_task(self) -> dict[str, list[Item]]:
        """The images, task by task, in their order."""
        tasks: dict[str, list[Item]] = {}
        for item in self.items:
            tasks.setdefault(item.task, []).append(item)
        return tasks

    def save(self) -> None:
        """Raises UserError if it cannot be written."""
        values = asdict(self) | {"folder": None, "format": _FORMAT, "identity": self.identity}
        write_json(values, self.folder / _FILE)


def load_job(folder: Path) -> Job:
    """Raises UserError, one line, where there is none or it is damaged."""
    path = folder / _FILE
    if not path.is_file():
        raise UserError(f"{folder}: no job of a peer there (no {_FILE})")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != _FORMAT:
            raise UserError(f"{path}: written by another version")
        items = tuple(Item(**item | {"size": tuple(item["size"])}) for item in values["items"])
        job = Job(folder, values["peer"], values["options"], values["square"], values["prepared"], items)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a job of a peer ({type(error).__name__}: {error})") from None
    if job.identity != values.get("identity"):
        raise UserError(f"{path}: was changed since it was prepared")
    return job


def has_job(folder: Path) -> bool:
    return (folder / _FILE).is_file()


def slug(task: str) -> str:
    """A task as the name of a folder: "haze+rain" is haze-rain."""
    return re.sub(r"[^a-z0-9]+", "-", task.lower()).strip("-") or "other"
