"""The rows of the paper's tables 5 and 6: its figures, and ours of the same networks where they can be had.

The paper's seconds are of one 512x512 image on one RTX 4090. A row is "measured" only where this run measured it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .timing import Timing

#: Side in pixels of the images that all rows are about.
SIZE = 512


@dataclass(frozen=True)
class Published:
    """A row as printed in the paper. Table 5 has the generative methods, table 6 the regression methods."""

    table: int
    method: str
    steps: int | None
    seconds: float
    tera_flops: float | None
    millions: float


PAPER_ROWS = (
    Published(5, "Diff-Plugin", 20, 2.04, 16.08, 859.50),
    Published(5, "AutoDIR", 100, 8.477, 67.80, 859.50),
    Published(5, "PixWizard", 60, 8.247, 19.27, 2011.40),
    Published(5, "RestoreVAR", 10, 0.201, 1.05, 296.95),
    Published(6, "PromptIR", None, 0.162, None, 35.59),
    Published(6, "InstructIR", None, 0.023, None, 15.84),
    Published(6, "AWRaCLe", None, 0.188, None, 186.68),
    Published(6, "DCPT", None, 0.024, None, 67.88),
    Published(6, "DFPIR", None, 0.117, None, 182.38),
)


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
    paper: Published | None
    measured: Measured | None

    @property
    def source(self) -> str:
        return "paper" if self.measured is None else f"measured: {self.measured.how}"


def all_rows(measured: Iterable[Measured]) -> list[Row]:
    """Every row of both tables, in the paper's order, then what was measured besides."""
    found = {m.method: m for m in measured}
    rows = [Row(row.method, row, found.pop(row.method, None)) for row in PAPER_ROWS]
    return rows + [Row(method, None, m) for method, m in found.items()]
