"""A line plot on logarithmic axes as SVG, written by hand: one picture is not worth a plotting library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 640, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 200, 40, 50
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito: told apart by all

Series = Mapping[str, Sequence[tuple[float, float]]]


def log_log(series: Series, title: str, x_label: str, y_label: str) -> str:
    """One line per entry of (x, y), all positive; a name that ends in "(guide)" is dashed."""
    points = [point for line in series.values() for point in line]
    x_axis = _Axis([x for x, _ in points], _LEFT, WIDTH - _RIGHT)
    y_axis = _Axis([y for _, y in points], HEIGHT - _BOTTOM, _TOP)
    parts = [_text(WIDTH / 2, 20, title, "middle", 14), *_frame(x_axis, y_axis, x_label, y_label)]
    for i, (name, line) in enumerate(series.items()):
        parts += _line(name, [(x_axis(x), y_axis(y)) for x, y in line], _COLOURS[i % len(_COLOURS)], i)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>', *parts, "</svg>", ""])


class _Axis:
    """Logarithm of values to pixels, from whole powers of two (if few) or ten to whole ones."""

    def __init__(self, values: Sequence[float], first: float, last: float):
        low, high = min(values), max(values)
        self.base = 2 if high / low < 1000 else 10
        self.powers = (math.floor(math.log(low, self.base) + 1e-9), math.ceil(math.log(high, self.base) - 1e-9))
        self.first, self.last = first, last

    def __call__(self, value: float) -> float:
        low, high = self.powers
        share = (math.log(value, self.base) - low) / max(high - low, 1)
        return self.first + share * (self.last - self.first)

    def ticks(self) -> list[float]:
        low, high = self.powers
        step = max(1, math.ceil((high - low) / 8))
        return [float(self.base) ** power for power in range(low, high + 1, step)]


def _frame(x_axis: _Axis, y_axis: _Axis, x_label: str, y_label: str) -> list[str]:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts = []
    for value in x_axis.ticks():
        parts += [_rule(x_axis(value), _TOP, x_axis(value), bottom), _text(x_axis(value), bottom + 18, f"{value:g}")]
    for value in y_axis.ticks():
        parts += [_rule(_LEFT, y_axis(value), right, y_axis(value))]
        parts += [_text(_LEFT - 6, y_axis(value) + 4, f"{value:.4g}", "end")]
    parts.append(_text((_LEFT + right) / 2, HEIGHT - 10, x_label))
    turned = f'transform="rotate(-90 14 {HEIGHT / 2})"'
    return [*parts, _text(14, HEIGHT / 2, y_label, extra=turned)]


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'


def _text(x: float, y: float, text: str, anchor: str = "middle", size: int = 11, extra: str = "") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
    return f"<text {place} {extra}>{escape(text)}</text>"


def _line(name: str, points: Sequence[tuple[float, float]], colour: str, row: int) -> list[str]:
    guide = name.endswith("(guide)")
    dashes = ' stroke-dasharray="5 4"' if guide else ""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    left, top = WIDTH - _RIGHT + 12, _TOP + 8 + 18 * row
    dots = [] if guide else [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>',
        *dots,
        f'<line x1="{left}" y1="{top}" x2="{left + 20}" y2="{top}" stroke="{colour}" stroke-width="2"{dashes}/>',
        _text(left + 26, top + 4, name.removesuffix(" (guide)"), "start"),
    ]
