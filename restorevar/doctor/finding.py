"""One thing looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

#: "bad": restoring does not work so. "note": worth knowing; something could be better or is left out.
Grade = Literal["good", "note", "bad"]


@dataclass(frozen=True)
class Finding:
    """`text` is for people, a line; `values` for programs, plain JSON types; `help` says what to do about it."""

    name: str
    grade: Grade
    text: str
    help: str = ""
    values: dict[str, Any] = field(default_factory=dict)
