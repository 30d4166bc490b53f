"""What is left of a large job beside its outputs: a report per shard, the dead letters, a summary.

shards/000012.json    counts, seconds, photos and megapixels per second, failures: once all its photos have ended
dead-letters.jsonl    a line per photo that failed for good: input, name, error, tries; itself a manifest. Until the
                      end dead-letters.partial.jsonl: the source of a job may be the dead letters of the last one
summary.json          the same figures of the whole, and the settings
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ..errors import writing
from . import places
from .outcomes import Outcome

SHARDS, DEAD_LETTERS, SUMMARY = "shards", "dead-letters.jsonl", "summary.json"
PARTIAL = "dead-letters.partial.jsonl"


@dataclass
class Tally:
    """Figures of some photos. Pixels are those of restored photos, seconds of the workers' time on them."""

    counts: Counter[str] = field(default_factory=Counter)
    retried: int = 0
    pixels: int = 0
    slot_seconds: float = 0.0
    began: float = float("inf")
    ended: float = 0.0

    def add(self, outcome: Outcome) -> None:
        record = outcome.record
        self.counts[record.status] += 1
        self.retried += outcome.tries > 1
        self.slot_seconds += record.seconds
        if record.status == "restored" and record.size is not None:
            self.pixels += record.size[0] * record.size[1]
        self.began = min(self.began, outcome.ended - record.seconds)
        self.ended = max(self.ended, outcome.ended)

    @property
    def photos(self) -> int:
        return self.counts.total()

    def as_json(self, seconds: float | None = None) -> dict[str, Any]:
        """`seconds` is the time it took by the clock; from the first begun to the last ended where it is not told."""
        seconds = max(0.0, self.ended - self.began) if seconds is None else seconds
        return {
            "photos": self.photos,
            **{status: self.counts[status] for status in ("restored", "untouched", "skipped", "failed")},
            "retried": self.retried,
            "seconds": round(seconds, 3),
            "slot_seconds": round(self.slot_seconds, 3),
            "photos_per_second": round(self.photos / seconds, 4) if seconds else None,
            "megapixels_per_second": round(self.pixels / 1e6 / seconds, 4) if seconds else None,
        }


@dataclass
class _Shard:
    of: int
    tally: Tally = field(default_factory=Tally)
    failures: list[dict[str, Any]] = field(default_factory=list)


class Reports:
    """Told of every outcome, writes what there is to be read. Raises UserError if it cannot.

    `place`: folder or URL. `tell` hears a line of each finished shard.
    """

    def __init__(self, place: str, tell: Callable[[str], None] = lambda line: None):
        self.place, self.tell = place, tell
        self.total = Tally()
        self._open: dict[int, _Shard] = {}
        self._start = time.monotonic()
        self._letters = self._open_letters()

    def add(self, outcome: Outcome) -> None:
        shard = self._open.setdefault(outcome.shard, _Shard(outcome.of))
        self.total.add(outcome)
        shard.tally.add(outcome)
        if outcome.record.status == "failed":
            letter = {
                "input": outcome.record.input,
                "name": outcome.name,
                "error": outcome.record.error,
                "tries": outcome.tries,
            }
            shard.failures.append(letter)
            with writing(self._letters.name):
                self._letters.write(json.dumps(letter) + "\n")
                self._letters.flush()  # what is interrupted keeps what it has
        if shard.tally.photos == shard.of:
            self._finish(outcome.shard, self._open.pop(outcome.shard))

    def close(self, **facts: Any) -> dict[str, Any]:
        """Writes the summary, with further facts of the run, and gives it back."""
        self._letters.close()
        letters = Path(self._letters.name)
        places.put_text(letters.read_text(encoding="utf-8"), places.join(self.place, DEAD_LETTERS))
        letters.unlink()
        summary = self.total.as_json(time.monotonic() - self._start) | facts
        places.put_text(json.dumps(summary, indent=1) + "\n", places.join(self.place, SUMMARY))
        return summary

    def _finish(self, number: int, shard: _Shard) -> None:
        report = {"shard": number, **shard.tally.as_json(), "failures": shard.failures}
        name = f"{SHARDS}/{number:06}.json"
        places.put_text(json.dumps(report, indent=1) + "\n", places.join(self.place, name))
        counts = ", ".join(f"{report[key]} {key}" for key in shard.tally.counts)
        self.tell(f"shard {number}: {counts}, {report['photos_per_second']} photos/s")

    def _open_letters(self) -> IO[str]:
        """In the place itself, line by line; where that is a URL, at first in a temporary file."""
        path = places.local_path(places.join(self.place, PARTIAL))
        if path is None:
            places.put_text("", places.join(self.place, PARTIAL))  # before long work that may be in vain
            return tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".jsonl", delete=False)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("w", encoding="utf-8")
