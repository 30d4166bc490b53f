"""Charts of lines as SVG, several panels with one legend, written by hand: no plotting library for a few lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 400, 300  # of a panel
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 34, 48
_LEGEND = 22  # height of a line of the legend
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito


@dataclass(frozen=True)
class Line:
    """Points by growing x. Lines of one name share colour and entry in the legend."""

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    title: str
    x: str
    y: str
    lines: Sequence[Line] = field(default_factory=tuple)
    log_x: bool = False
    log_y: bool = False


def draw(panels: Sequence[Panel], columns: int = 2, dashed: str = "") -> str:
    """SVG of the panels, row by row. `dashed` tells in the legend what dashed lines are."""
    names = list(dict.fromkeys(line.name for panel in panels for line in panel.lines))
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    width, height = columns * _WIDTH, rows * _HEIGHT + _LEGEND + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *_legend(names, dashed, rows * _HEIGHT + 4),
    ]
    for i, panel in enumerate(panels):
        place = f"translate({i % columns * _WIDTH} {i // columns * _HEIGHT})"
        parts += [f'<g transform="{place}">', *_panel(panel, names), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


class _Axis:
    """Values to pixels, from one round number to another; logarithms from one power of two, or ten, to another."""

    def __init__(self, values: Sequence[float], first: float, last: float, log: bool = False):
        self.first, self.last, self.log = first, last, log
        self.ticks = (_powers if log else _round_numbers)(min(values), max(values))
        self.low, self.high = self.ticks[0], self.ticks[-1]

    def __call__(self, value: float) -> float:
        low, high, at = (math.log2(v) if self.log else v for v in (self.low, self.high, value))
        return self.first + (at - low) / max(high - low, 1e-12) * (self.last - self.first)


def _round_numbers(low: float, high: float) -> list[float]:
    """Four to eleven multiples of 1, 2 or 5 times a power of ten that enclose the values."""
    span = max(high - low, 1e-9)
    unit = 10.0 ** math.floor(math.log10(span))
    step = next(m * unit for m in (0.1, 0.2, 0.5, 1.0, 2.0) if span / (m * unit) <= 9)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * i for i in range(first, max(last, first + 1) + 1)]


def _powers(low: float, high: float) -> list[float]:
    """At most ten powers of two, or of ten (or hundred, ...) where that would be too many, that enclose the values."""
    base = 2.0
    while high / low > base**8:
        base *= 5 if base == 2 else 10
    first, last = math.floor(math.log(low, base) + 1e-9), math.ceil(math.log(high, base) - 1e-9)
    return [base**power for power in range(first, max(last, first + 1) + 1)]


def _panel(panel: Panel, names: Sequence[str]) -> list[str]:
    every = [point for line in panel.lines for point in line.points]
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    x_axis = _Axis([x for x, _ in every], _LEFT, right, panel.log_x)
    y_axis = _Axis([y for _, y in every], bottom, _TOP, panel.log_y)
    parts = [_text(_WIDTH / 2, 18, panel.title, size=13)]
    for value in x_axis.ticks:
        parts += [_rule(x_axis(value), _TOP, x_axis(value), bottom), _text(x_axis(value), bottom + 16, f"{value:.4g}")]
    for value in y_axis.ticks:
        parts += [_rule(_LEFT, y_axis(value), right, y_axis(value))]
        parts += [_text(_LEFT - 6, y_axis(value) + 4, f"{round(value, 9):.4g}", "end")]
    parts.append(_text((_LEFT + right) / 2, _HEIGHT - 12, panel.x))
    middle = (_TOP + bottom) / 2
    parts.append(_text(14, middle, panel.y, extra=f' transform="rotate(-90 14 {middle:.1f})"'))
    for line in panel.lines:
        colour = _colour(names.index(line.name))
        path = " ".join(f"{x_axis(x):.1f},{y_axis(y):.1f}" for x, y in line.points)
        dashes = ' stroke-dasharray="5 4"' if line.dashed else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>')
        if not line.dashed:
            parts += [
                f'<circle cx="{x_axis(x):.1f}" cy="{y_axis(y):.1f}" r="2.5" fill="{colour}"/>' for x, y in line.points
            ]
    return parts


def _legend(names: Sequence[str], dashed: str, top: float) -> list[str]:
    entries = [(name, _colour(i), "") for i, name in enumerate(names)]
    if dashed:
        entries.append((dashed, "#666", ' stroke-dasharray="5 4"'))
    parts, x, y = [], 16.0, top + _LEGEND / 2
    for text, colour, dashes in entries:
        rule = f'x1="{x:.0f}" y1="{y:.0f}" x2="{x + 20:.0f}" y2="{y:.0f}" stroke="{colour}" stroke-width="2"'
        parts += [f"<line {rule}{dashes}/>", _text(x + 25, y + 4, text, "start")]
        x += 45 + 6.2 * len(text)
    return parts


def _colour(i: int) -> str:
    return _COLOURS[i % len(_COLOURS)]


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'


def _text(x: float, y: float, text: str, anchor: str = "middle", size: int = 11, extra: str = "") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
    return f"<text {place}{extra}>{escape(text)}</text>"
