"""One model, the degraded input and what became of it, the protocols side by side: the tables of docs/results.md."""

from __future__ import annotations

from collections.abc import Sequence

from ..statistics import difference, mean_of
from .comparison import better_in
from .measured import Measurements, MetricInfo, Variant
from .paired_tables import is_clean, paired_table
from .table import EMPTY, Cell, Column, Line, Table, number

ALL = "all, each set counting alike"
CLEAN = "clean photographs as input"
#: What p values are told of; those of all metrics would only thin out each other.
_TESTED = ("psnr", "ssim")

#: Scores of the input and of the result, image by image.
Sets = list[tuple[list[float], list[float]]]


def results_tables(measurements: Measurements) -> list[Table]:
    """A table for each metric, then the tests under each protocol."""
    (method,) = measurements.methods()
    tables = [_table(measurements, method, metric) for metric in _metrics(measurements)]
    for protocol in measurements.protocols:
        for each in (False, True):
            found = paired_table(
                measurements, protocol, measurements.datasets(protocol), method, each=each, metrics=_TESTED
            )
            tables += [found] if found else []
    return tables


def _metrics(measurements: Measurements) -> list[str]:
    return list(dict.fromkeys(name for protocol in measurements.protocols for name in measurements.metrics(protocol)))


def _table(measurements: Measurements, method: Variant, metric: str) -> Table:
    info, protocols = measurements.info(metric), measurements.protocols
    columns = [Column("n")]
    columns += [Column(title, p) for p in protocols for title in ("input", "restored", "gain", "better in")]
    datasets = list(dict.fromkeys(d for protocol in protocols for d in measurements.datasets(protocol)))
    scored = [d for d in datasets if any(_sets(measurements, method, p, [d], metric) for p in protocols)]
    kinds = {
        "degraded": [d for d in scored if not is_clean(measurements, d) and _has_truth(measurements, d)],
        CLEAN: [d for d in scored if is_clean(measurements, d)],
        "real photographs": [d for d in scored if not _has_truth(measurements, d)],
    }
    lines = []
    for group, names in kinds.items():
        for label, sets in labelled(names):
            found = [_sets(measurements, method, p, sets, metric) for p in protocols]
            cells = [c for each in found for c in _cells(each, info, group == CLEAN)]
            lines.append(Line(label, "measured", [_counts(found), *cells], group=group))
    better = f"The {info.better} the better. " if info.better else ""
    caption = f"{better}Gain: restored less input, image by image, with its 95 % interval (t)."
    return Table(f"results-{metric}", f"{info.title}: input and restored", caption, "data set", columns, lines)


def _counts(found: Sequence[Sets]) -> Cell:
    """Images under each protocol; one number where they are as many."""
    sizes = dict.fromkeys(sum(len(after) for _, after in sets) for sets in found)
    return Cell(", ".join(map(str, sizes)))


def _has_truth(measurements: Measurements, dataset: str) -> bool:
    return any(row.target is not None for row in measurements.rows if row.dataset == dataset)


def labelled(names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Each data set, then all of them together, by what a line calls them."""
    return [(name, [name]) for name in names] + ([(ALL, [*names])] if len(names) > 1 else [])


def _sets(measurements: Measurements, method: Variant, protocol: str, datasets: Sequence[str], metric: str) -> Sets:
    sets = []
    for dataset in datasets:
        before = measurements.scores(measurements.input(), protocol, dataset, metric)
        after = measurements.scores(method, protocol, dataset, metric)
        if both := [image for image in after if image in before]:
            sets.append(([before[image] for image in both], [after[image] for image in both]))
    return sets


def _cells(sets: Sets, info: MetricInfo, clean: bool) -> list[Cell]:
    """Input, restored, gain, share that gained. A clean input is its own truth: there is nothing to gain."""
    if not sets:
        return [EMPTY] * 4
    before, after = (mean_of(*values).mean for values in zip(*sets, strict=True))
    if clean and info.needs_reference:
        return [EMPTY, number(after, info.digits), EMPTY, EMPTY]
    found = difference(*((after, before) for before, after in sets))
    interval = f" ({found.t.low:+.{info.digits}f} to {found.t.high:+.{info.digits}f})" if found.t else ""
    return [
        number(before, info.digits),
        number(after, info.digits),
        Cell(f"{found.mean:+.{info.digits}f}{interval}", found.mean),
        better_in(found, info.better),
    ]
