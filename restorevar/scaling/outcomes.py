"""What became of one photo of a large job."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from ..batch.records import Record


@dataclass(frozen=True)
class Outcome:
    """One photo has ended.

    number, name    of its item
    shard, of       the shard it belongs to, and how many photos that has
    record          as `restorevar restore --json` writes it; with the source and the output that were asked for
    tries           how often it was begun
    ended           by the clock of the worker, in seconds
    """

    number: int
    name: str
    shard: int
    of: int
    record: Record
    tries: int
    ended: float

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        row = json.loads(text)
        return cls(**{**row, "record": Record(**row["record"])})
