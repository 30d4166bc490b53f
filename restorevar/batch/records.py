"""What became of each file: a line on the screen, a line of the JSON log."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import IO, Any, Literal

from ..errors import UserError

Status = Literal["restored", "untouched", "skipped", "failed"]


@dataclass
class Record:
    """What became of one file; a line of the JSON log. Sizes are width, height in pixels. `frames`: of a video.

    `diagnosis` as `Diagnosis.as_json`, where one was asked for. "untouched": it needs nothing, the output is the input.
    `notes`: what else there is to know, a line each.
    `transient`: what failed was the disk or the network, or nobody knows what; another try may mend it.
    """

    input: str
    output: str
    status: Status = "failed"
    size: tuple[int, int] | None = None
    output_size: tuple[int, int] | None = None
    seconds: float = 0.0
    model: str = ""
    sha256: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    transient: bool = False
    diagnosis: dict[str, Any] | None = None
    frames: int | None = None
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        if self.status == "skipped":
            return f"{self.input}: skipped, {self.output} exists (--overwrite replaces it)"
        if self.size is None or self.error is not None:
            return self.error or f"{self.input}: {self.status}"
        if self.status == "untouched":
            return f"{self.input}: needs nothing, left as it is in {self.output}"
        frames = "" if self.frames is None else f"{self.frames} frames, "
        return f"{self.input} -> {self.output} ({self.size[0]}x{self.size[1]}, {frames}{self.seconds:.1f} s)"


def append_record(log: IO[str] | None, record: Record) -> None:
    """Adds a line of JSON to the log, if there is one, at once: an interrupted run keeps what it did.

    Raises UserError if it cannot be written.
    """
    if log is None:
        return
    try:
        log.write(json.dumps(asdict(record)) + "\n")
        log.flush()
    except OSError as error:
        raise UserError(f"{log.name}: cannot be written ({error.strerror or error})") from None
