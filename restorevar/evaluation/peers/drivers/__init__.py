"""Programs of ours that run in a peer's environment: loops over the networks of peers without a script for a folder.

They are copied into the job and know neither this package nor what is newer than Python 3.8. `DrivenPeer` is the
adapter of a peer that is run so.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ....data.manifest import write_json
from ....errors import writing
from ..command import Command
from ..fitting import Fit
from ..job import Job
from ..peer import Peer, keys

_HERE = Path(__file__).parent
_SHARED = "peer_loop.py"


class DrivenPeer(Peer):
    """A peer that runs through drivers/<name>.py."""

    fit = Fit(multiple=16)
    resumes = True
    options: ClassVar[Mapping[str, Any]] = {"prompt": "", "device": "auto"}

    def write(self, job: Job) -> None:
        """JOB/driver, and JOB/list.json: key, file, text of each image. Raises UserError."""
        folder = job.folder / "driver"
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for file in (_SHARED, f"{self.name}.py"):
                shutil.copyfile(_HERE / file, folder / file)
        rows = [{"key": item.key, "input": item.place, "text": self.text(item.task, job.options)} for item in job.items]
        write_json(rows, job.folder / "list.json")

    def commands(self, job: Job) -> list[Command]:
        arguments = ("{python}", f"{{job}}/driver/{self.name}.py", "--checkout", "{checkout}", "--weights", "{weights}")
        places = ("--list", "{job}/list.json", "--out", "{job}/out", "--device", str(job.options["device"]))
        return [Command((*arguments, *places), keys(job.items))]
