"""The rows of the paper's tables 5 and 6: its figures, and ours of the same networks where they can be had.

The paper's seconds are of one 512x512 image on one RTX 4090. A row is "measured" only where this run measured it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..evaluation.report.paper import SPEED, Speed
from .timing import Timing

#: Side in pixels of the images that all rows are about.
SIZE = 512


@dataclass(frozen=True)
class Measured:
    """What this run found for one method. `how` says in words what was run."""

    method: str
    timing: Timing
    flops: int
    parameters: int
    dtype: str
    how: str


@dataclass(frozen=True)
class Row:
    """One method in the output; `paper` is None for rows that the paper does not have."""

    method: str
    paper: Speed | None
    measured: Measured | None

    @property
    def source(self) -> str:
        return "paper" if self.measured is None else f"measured: {self.measured.how}"


def all_rows(measured: Iterable[Measured]) -> list[Row]:
    """Every row of both tables, in the paper's order, then what was measured besides."""
    found = {m.method: m for m in measured}
    rows = [Row(row.method, row, found.pop(row.method, None)) for row in SPEED]
    return rows + [Row(method, None, m) for method, m in found.items()]
