"""What rows say together: means of each metric before and after, per task and data set, with their intervals."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.manifest import write_text
from .metrics import Metric
from .rows import Row
from .statistics import Mean, mean_of


@dataclass(frozen=True)
class Summary:
    """Of one metric over the n images of one task and data set; `gain` is restored less input, image by image."""

    metric: Metric
    task: str
    dataset: str
    n: int
    input: Mean
    restored: Mean
    gain: Mean


def summarise(rows: Iterable[Row], metrics: Sequence[Metric]) -> list[Summary]:
    """By metric, then in the order in which tasks and data sets come. Metrics without scores are left out."""
    rows = list(rows)
    summaries = []
    for metric in metrics:
        groups: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for row in rows:
            if metric.name in row.scores and metric.name in row.before:
                pair = (row.before[metric.name], row.scores[metric.name])
                groups.setdefault((row.task, row.dataset), []).append(pair)
        for (task, dataset), pairs in groups.items():
            before, after = zip(*pairs, strict=True)
            gain = mean_of([b - a for a, b in pairs])
            summaries.append(Summary(metric, task, dataset, len(pairs), mean_of(before), mean_of(after), gain))
    return summaries


def table(summaries: Sequence[Summary]) -> list[str]:
    """Lines of plain text, a block for each metric. Means with half their 95 % interval (t)."""
    lines: list[str] = []
    for metric in dict.fromkeys(s.metric for s in summaries):
        of_metric = [s for s in summaries if s.metric == metric]
        width = max(len("task"), *(len(_name(s)) for s in of_metric))
        lines += ["", f"{metric.title} ({metric.better} is better; mean ± 95 % interval; {metric.implementation})"]
        lines.append(f"{'task':<{width}}{'n':>6}{'input':>19}{'restored':>19}{'gain':>20}")
        for s in of_metric:
            figures = (
                f"{_figure(s.input, metric):>19}{_figure(s.restored, metric):>19}{_figure(s.gain, metric, '+'):>20}"
            )
            lines.append(f"{_name(s):<{width}}{s.n:>6}{figures}")
    return lines


def write_csv(rows: Iterable[Row], path: Path) -> None:
    """One line an image; scores under the names of their metrics, those of the input with "before." in front.

    Written whole or not at all; raises UserError.
    """
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row.scores))
    about = ("method", "sha256", "protocol", "dataset", "task", "image", "input", "target", "output", "seconds")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*about, "settings", *names, *(f"before.{name}" for name in names)])
    for row in rows:
        scores = [*(row.scores.get(name, "") for name in names), *(row.before.get(name, "") for name in names)]
        values = ("" if getattr(row, name) is None else getattr(row, name) for name in about)
        writer.writerow([*values, json.dumps(dict(row.settings), sort_keys=True), *scores])
    write_text(stream.getvalue(), path)


def _name(summary: Summary) -> str:
    if summary.dataset.split("/")[-1] == summary.task:
        return summary.dataset
    return f"{summary.task} ({summary.dataset})"


def _figure(mean: Mean, metric: Metric, sign: str = "") -> str:
    text = f"{mean.mean:{sign}.{metric.digits}f}"
    return text if mean.interval is None else f"{text} ± {mean.interval.half:.{metric.digits}f}"
