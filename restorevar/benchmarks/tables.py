"""Tables that read well in a terminal and are Markdown, and how the figures in them are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .timing import Timing

Cell = str | int | float | None


@dataclass
class Table:
    title: str
    headers: Sequence[str]
    rows: list[Sequence[Cell]] = field(default_factory=list)
    note: str = ""

    def markdown(self) -> str:
        cells = [list(self.headers), *[[_text(cell) for cell in row] for row in self.rows]]
        widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(self.headers))]
        lines = [_line(row, widths) for row in cells]
        lines.insert(1, _rule(widths))
        return "\n".join([f"## {self.title}", "", *lines, *(["", self.note] if self.note else []), ""])


def _text(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:.3g}" if isinstance(cell, float) else str(cell).replace("|", "\\|")


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """The first column names things, the others are figures."""
    first, *others = zip(cells, widths, strict=True)
    return "| " + " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]) + " |"


def _rule(widths: Sequence[int]) -> str:
    return "| " + " | ".join(["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]) + " |"


# ---------------------------------------------------------------------------------------------------- figures


def seconds(value: float | Timing | None) -> str | None:
    """Three digits: 12.3 ms below one second, 1.23 s above."""
    if value is None:
        return None
    value = value.median if isinstance(value, Timing) else value
    return f"{value * 1e3:.3g} ms" if value < 0.9995 else f"{value:.4g} s"


def quartiles(timing: Timing | None) -> str | None:
    return None if timing is None else f"{seconds(timing.low)} .. {seconds(timing.high)}"


def flops(value: float | None) -> str | None:
    """Three digits, in tera, giga or mega."""
    return None if value is None else _with_prefix(value, {"T": 1e12, "G": 1e9, "M": 1e6})


def size(value: float | None) -> str | None:
    """Bytes in decimal units."""
    return None if value is None else _with_prefix(value, {"GB": 1e9, "MB": 1e6, "kB": 1e3})


def _with_prefix(value: float, units: dict[str, float]) -> str:
    name, unit = next(((n, u) for n, u in units.items() if abs(value) >= u), list(units.items())[-1])
    return f"{value / unit:.3g} {name}"


def percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.1%}"


def ratio(value: float | None) -> str | None:
    return None if value is None else f"{value:.3g}x"


def millions(count: float | None) -> str | None:
    return None if count is None else f"{count / 1e6:.2f} M"
