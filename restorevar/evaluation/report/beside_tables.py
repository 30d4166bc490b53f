"""The model beside other methods on the same pairs: a table for each metric, the best of each line marked."""

from __future__ import annotations

from collections.abc import Sequence

from ..beside import METRICS, PROTOCOL
from ..statistics import mean_of
from .measured import Measurements, Variant
from .paired_tables import is_clean
from .results_tables import CLEAN, labelled
from .table import EMPTY, Cell, Column, Line, Table, number


def beside_tables(measurements: Measurements) -> list[Table]:
    """Of the rows of the model, which come first, and of the others."""
    known = measurements.metrics(PROTOCOL)
    return [_table(measurements, metric) for metric in METRICS if metric in known]


def _table(measurements: Measurements, metric: str) -> Table:
    info, methods = measurements.info(metric), measurements.methods()
    judged = {row.dataset for row in measurements.rows if row.target is not None}
    datasets = [d for d in measurements.datasets(PROTOCOL) if d in judged]
    groups = {
        "degraded": [d for d in datasets if not is_clean(measurements, d)],
        CLEAN: [d for d in datasets if is_clean(measurements, d)],
    }
    lines = []
    for group, names in groups.items():
        # A clean input is its own truth.
        shown = methods if group == CLEAN and info.needs_reference else [measurements.input(), *methods]
        for label, sets in labelled(names):
            cells = _cells(measurements, shown, sets, metric, info.digits)
            if any(cell.value is not None for cell in cells):
                lines.append(Line(label, "measured", cells, group=group))
    columns = [Column("n"), Column("input"), *(Column(method.label) for method in methods)]
    better = f"The {info.better} the better, the best of each line in bold. " if info.better else ""
    caption = f"{better}{PROTOCOL}, means over the images that all methods of a line were scored on."
    sharp = "Noise, halos and rain streaks are sharp as well: what is sharper than the truth is not better for it."
    notes = [sharp] if metric == "sharpness" else []
    return Table(f"beside-{metric}", info.title, caption, "data set", columns, lines, notes, across=info.better)


def _cells(
    measurements: Measurements, shown: Sequence[Variant], datasets: Sequence[str], metric: str, digits: int
) -> list[Cell]:
    """n, the input, and each method; nothing where one has no scores of all these data sets."""
    scores = {v: [measurements.scores(v, PROTOCOL, d, metric) for d in datasets] for v in shown}
    complete = {v: sets for v, sets in scores.items() if all(sets)}
    common = [set.intersection(*map(set, sets)) for sets in zip(*complete.values(), strict=True)]
    means = {
        v: mean_of(*([values[image] for image in sorted(images)] for values, images in zip(sets, common, strict=True)))
        for v, sets in complete.items()
        if all(common)
    }
    columns = [measurements.input(), *measurements.methods()]
    figures = [number(means[v].mean, digits) if v in means else EMPTY for v in columns]
    return [Cell(str(sum(map(len, common)))), *figures]
