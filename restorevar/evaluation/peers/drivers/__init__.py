"""Programs of ours that run in a peer's environment: loops over the networks of peers without a script for a folder.

They are copied into the job and know neither this package nor what is newer than Python 3.8.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from ....errors import writing
from ..job import Job

_HERE = Path(__file__).parent
_SHARED = "peer_loop.py"


def copy_driver(name: str, job: Job) -> None:
    """Put a driver and what it shares with the others into JOB/driver. Raises UserError."""
    folder = job.folder / "driver"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for file in (_SHARED, name):
            shutil.copyfile(_HERE / file, folder / file)
