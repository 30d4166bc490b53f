"""A table before it is Markdown, LaTeX or HTML: cells know their values, to mark the best and to sort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..metrics import Better
from ..statistics import Mean

#: Where the figures of a line are from. "weights" and "unmeasured": nowhere yet, its remedy says how.
Source = Literal["paper", "measured", "weights", "unmeasured", "unknown"]

WORDS: Mapping[Source, str] = {
    "paper": "paper",
    "measured": "measured",
    "weights": "needs weights",
    "unmeasured": "not yet measured",
    "unknown": "not at hand",
}


@dataclass(frozen=True)
class Cell:
    """As printed, and the number behind it if it is one to compare."""

    text: str
    value: float | None = None


EMPTY = Cell("-")


@dataclass(frozen=True)
class Column:
    """`over`: what several neighbours stand below, such as a data set. `better` None: nothing is marked."""

    title: str
    over: str = ""
    better: Better | None = None

    @property
    def heading(self) -> str:
        return self.title + {"higher": " ↑", "lower": " ↓", None: ""}[self.better]


@dataclass(frozen=True)
class Line:
    """One row.

    group     lines of one group stand together under its name
    contest   lines of one contest are compared: the best of each column is marked; "" competes with nobody
    remedy    of lines without figures: the command that would give them, or a sentence
    """

    label: str
    source: Source
    cells: Sequence[Cell] = ()
    group: str = ""
    contest: str = ""
    remedy: str = ""


@dataclass
class Table:
    """`number` as in the paper, with a letter where ours has its shape ("4", "4b"), or words; it is also the anchor.

    across   methods are columns, not lines: which values of a line are the better ones
    """

    number: str
    title: str
    caption: str
    first: str
    columns: Sequence[Column]
    lines: Sequence[Line]
    notes: Sequence[str] = field(default_factory=tuple)
    across: Better | None = None

    @property
    def name(self) -> str:
        return f"Table {self.number}" if self.number[:1].isdigit() else ""

    @property
    def sourced(self) -> bool:
        """Whether it has to be told where each line is from."""
        return any(line.source != "measured" for line in self.lines)

    def best(self) -> set[tuple[int, int]]:
        """(line, column) of the best values of each contest with more than one entrant; equal ones are all best."""
        found = self._best_across(self.across) if self.across else set()
        for contest in {line.contest for line in self.lines if line.contest}:
            for c, column in enumerate(self.columns):
                values = {
                    i: value
                    for i, line in enumerate(self.lines)
                    if line.contest == contest and (value := _value(line, c)) is not None
                }
                found |= {(i, c) for i in _best(values, column.better)}
        return found

    def _best_across(self, better: Better) -> set[tuple[int, int]]:
        found = set()
        for i, line in enumerate(self.lines):
            values = {c: cell.value for c, cell in enumerate(line.cells) if cell.value is not None}
            found |= {(i, c) for c in _best(values, better)}
        return found

    def remedies(self) -> list[str]:
        """Each once, in order: their letters are their places."""
        return list(dict.fromkeys(line.remedy for line in self.lines if line.remedy))

    def groups(self) -> dict[str, list[int]]:
        """Places of the lines of each group, in order."""
        found: dict[str, list[int]] = {}
        for i, line in enumerate(self.lines):
            found.setdefault(line.group, []).append(i)
        return found


def _value(line: Line, column: int) -> float | None:
    return line.cells[column].value if column < len(line.cells) else None


def _best(values: Mapping[int, float], better: Better | None) -> list[int]:
    """Keys of the best of several; of one alone, and where no side is better, none."""
    if better is None or len(values) < 2:
        return []
    top = (max if better == "higher" else min)(values.values())
    return [key for key, value in values.items() if value == top]


def number(value: float | None, digits: int, note: str = "") -> Cell:
    """Rounded as printed, so that what looks equal is equally good."""
    if value is None:
        return EMPTY
    text = f"{value:.{digits}f}"
    return Cell(text + note, float(text))


def mean_cell(mean: Mean | None, digits: int, note: str = "") -> Cell:
    """With half of its interval."""
    if mean is None:
        return EMPTY
    return number(mean.mean, digits, (f" ± {mean.interval.half:.{digits}f}" if mean.interval else "") + note)


def words(text: str | int | None) -> Cell:
    return EMPTY if text is None else Cell(str(text))
