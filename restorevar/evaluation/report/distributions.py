"""Image by image: what every method gained on every image, as dots and boxes in SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from .measured import INPUT, Measurements, Variant
from .paired_tables import is_clean

#: Colours that all can tell apart (Okabe and Ito), those of them that are seen on white and on black.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#3a9bd0")
_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 190, 20, 34, 44
_ROW, _GAP = 26, 10
#: More metrics than this are in the tables only, but every data set is in a plot.
_METRICS = 2

#: (data set, method) -> (image, value)
Values = Mapping[tuple[str, str], Sequence[tuple[str, float]]]


def distributions(measurements: Measurements) -> list[str]:
    """A plot for each protocol and each of its first metrics. Clean photographs have nothing to gain."""
    plots = []
    for protocol in measurements.protocols:
        datasets = [d for d in measurements.datasets(protocol) if not is_clean(measurements, d)]
        plotted: set[str] = set()
        for place, metric in enumerate(measurements.metrics(protocol)):
            values = _values(measurements, protocol, datasets, metric)
            shown = {dataset for dataset, _ in values}
            if place >= _METRICS and shown <= plotted:
                continue
            plotted |= shown
            if values:
                info = measurements.info(metric)
                methods = list(dict.fromkeys(method for _, method in values))
                title = f"{info.title}, {protocol}" + (f" (the {info.better} the better)" if info.better else "")
                plots.append(plot(title, f"{info.title}, difference to the degraded input", values, methods))
    return plots


def _values(measurements: Measurements, protocol: str, datasets: Sequence[str], metric: str) -> Values:
    found = {}
    for dataset in datasets:
        for variant in measurements.methods():
            pairs = _gains(measurements, variant, protocol, dataset, metric)
            if pairs:
                found[dataset, variant.label] = pairs
    return found


def _gains(
    measurements: Measurements, variant: Variant, protocol: str, dataset: str, metric: str
) -> list[tuple[str, float]]:
    before = measurements.scores(measurements.input(), protocol, dataset, metric)
    after = measurements.scores(variant, protocol, dataset, metric)
    if variant.method == INPUT or not before:
        return []
    gains = [(image, after[image] - before[image]) for image in after if image in before]
    return [(image, value) for image, value in gains if math.isfinite(value)]


def plot(
    title: str,
    axis_title: str,
    values: Values,
    methods: Sequence[str],
    named: bool = True,
    from_zero: bool = True,
) -> str:
    """SVG, a row for each data set and method, a colour for each method.

    named       a legend tells the methods; not needed where the rows already do
    from_zero   the axis holds zero, from which differences are read, and values are told with their sign
    """
    every = [value for pairs in values.values() for _, value in pairs]
    origin = [0.0] if from_zero else []
    axis = _Axis(min([*origin, *every]), max([*origin, *every]))
    sign = "+" if from_zero else ""
    legend = 22 if named and len(methods) > 1 else 0
    parts, y, last = [], float(_TOP + legend), ""
    for (dataset, method), pairs in values.items():
        if dataset != last:
            y += _GAP if last else 0
            parts.append(_text(_LEFT - 8, y + _ROW / 2 + 4, _shortened(dataset), "end"))
            last = dataset
        parts += _row(pairs, axis, y + _ROW / 2, COLOURS[methods.index(method) % len(COLOURS)], sign)
        y += _ROW
    height = y + _BOTTOM
    frame = [_text(_LEFT, 20, title, "start", "font-weight='bold'"), *_legend(methods if legend else [], _TOP + 6)]
    for tick in axis.ticks():
        strong = ' stroke-width="1.5" stroke-opacity="0.9"' if tick == 0 else ' stroke-opacity="0.2"'
        ends = f'x1="{axis(tick):.1f}" y1="{_TOP + legend}" x2="{axis(tick):.1f}" y2="{y:.0f}"'
        frame.append(f'<line {ends} stroke="currentColor"{strong}/>')
        frame.append(_text(axis(tick), y + 16, f"{round(tick, 9):g}"))
    frame.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, y + 36, axis_title))
    head = (
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}" font-size="12">'
    )
    return "\n".join([head, *frame, *parts, "</svg>"])


class _Axis:
    """Values to pixels, with round ticks."""

    def __init__(self, low: float, high: float):
        span = (high - low) or 1.0
        self.low, self.high = low - 0.03 * span, high + 0.03 * span
        unit = 10 ** math.floor(math.log10(span))
        self.step = next(unit * m for m in (0.1, 0.2, 0.5, 1, 2, 5) if span / (unit * m) <= 8)

    def __call__(self, value: float) -> float:
        return _LEFT + (value - self.low) / (self.high - self.low) * (_WIDTH - _LEFT - _RIGHT)

    def ticks(self) -> list[float]:
        first, last = math.ceil(self.low / self.step), math.floor(self.high / self.step)
        return [i * self.step for i in range(first, last + 1)]


def _row(pairs: Sequence[tuple[str, float]], axis: _Axis, middle: float, colour: str, sign: str) -> list[str]:
    """Dots at heights that follow from their order, so that the same results give the same picture."""
    low, median, high = (axis(float(q)) for q in np.quantile([value for _, value in pairs], (0.25, 0.5, 0.75)))
    parts = [
        f'<rect x="{low:.1f}" y="{middle - 8:.1f}" width="{max(high - low, 1):.1f}" height="16" fill="{colour}" '
        f'fill-opacity="0.18" stroke="{colour}"/>'
    ]
    for i, (image, value) in enumerate(pairs):
        y = middle + ((i * 0.618034) % 1 - 0.5) * 13
        dot = f'<circle cx="{axis(value):.1f}" cy="{y:.1f}" r="2.6" fill="{colour}" fill-opacity="0.75">'
        parts.append(f"{dot}<title>{escape(image)}: {value:{sign}.3g}</title></circle>")
    line = f'x1="{median:.1f}" y1="{middle - 10:.1f}" x2="{median:.1f}" y2="{middle + 10:.1f}"'
    return [*parts, f'<line {line} stroke="{colour}" stroke-width="3"/>']


def _legend(methods: Sequence[str], y: float) -> list[str]:
    parts, x = [], float(_LEFT)
    for i, method in enumerate(methods):
        parts.append(f'<circle cx="{x + 5:.0f}" cy="{y:.0f}" r="5" fill="{COLOURS[i % len(COLOURS)]}"/>')
        parts.append(_text(x + 15, y + 4, method, "start"))
        x += 30 + 6.5 * len(method)
    return parts


def _text(x: float, y: float, text: str, anchor: str = "middle", extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="currentColor" {extra}>{escape(text)}</text>'


def _shortened(text: str, length: int = 27) -> str:
    return text if len(text) <= length else "…" + text[1 - length :]
