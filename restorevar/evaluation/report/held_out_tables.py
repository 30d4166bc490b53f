"""Our held-out sets: what was measured under other protocols or on other data than the paper's, by protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..metrics import Better
from ..protocols import find_protocol
from ..statistics import mean_of
from . import paper
from .measured import INPUT, Measurements, Variant
from .paired_tables import is_clean, paired_table
from .quality_tables import papers_datasets
from .table import EMPTY, Cell, Column, Line, Table, mean_cell

_ABOUT = (
    "Not the paper's protocol or not its data: these figures do not belong beside its columns. Mean ± half of the 95 % "
    "interval (t). The best method of each column is marked."
)


def held_out_tables(measurements: Measurements, reference: Variant | None) -> list[Table]:
    """For each protocol a table per metric, then the paired differences of `reference` to all others."""
    tables: list[Table] = []
    for protocol in measurements.protocols:
        datasets = _not_the_papers(measurements, protocol)
        for metric in measurements.metrics(protocol, datasets):
            tables.append(_table(measurements, protocol, datasets, metric))
        if datasets and reference is not None:
            for each in (False, True):
                table = paired_table(measurements, protocol, datasets, reference, each=each)
                tables += [table] if table else []
    return tables


def _not_the_papers(measurements: Measurements, protocol: str) -> list[str]:
    taken: set[str] = set()
    for quality in (paper.TABLE_1, paper.TABLE_2):
        if quality.protocol == protocol:
            taken |= set(papers_datasets(quality, measurements).values())
    return [dataset for dataset in measurements.datasets(protocol) if dataset not in taken]


def _table(measurements: Measurements, protocol: str, datasets: Sequence[str], metric: str) -> Table:
    info = measurements.info(metric)
    scores = {
        (variant, dataset): measurements.scores(variant, protocol, dataset, metric)
        for variant in measurements.variants
        for dataset in datasets
    }
    shown = [d for d in datasets if any(scores[v, d] for v in measurements.variants)]
    degraded = [d for d in shown if not is_clean(measurements, d)]
    sizes = {d: {len(scores[v, d]) for v in measurements.variants if scores[v, d]} for d in shown}
    columns = [_column(d, sizes[d], info.better) for d in shown]
    several = len(degraded) > 1
    if several:
        columns.append(Column("mean of sets", "", info.better))
    lines = []
    for variant in measurements.variants:
        own = {d: [*scores[variant, d].values()] for d in shown}
        if not any(own.values()):
            continue
        cells = [_cell(own[d], sizes[d], info.digits) for d in shown]
        if several:
            cells.append(_mean(own, degraded, sizes, info.digits))
        lines.append(Line(variant.label, "measured", cells, contest="" if variant.method == INPUT else "methods"))
    notes = ["The mean of sets counts each alike and leaves clean photographs out."] if several else []
    if info.better is None:
        notes.append(f"Which values of {metric} are the better ones the rows do not say: score again, and they will.")
    return Table(
        f"ours, {protocol}, {metric}",
        f"Our held-out sets: {info.title}, {protocol}",
        f"{find_protocol(protocol).text}. {_ABOUT}",
        "method",
        columns,
        lines,
        notes,
    )


def _column(dataset: str, sizes: set[int], better: Better | None) -> Column:
    """Only means over the same images are compared."""
    count = f"n {min(sizes)}" if len(sizes) == 1 else f"n {min(sizes)} to {max(sizes)}"
    return Column(f"{dataset} ({count})", "", better if len(sizes) == 1 else None)


def _cell(values: Sequence[float], sizes: set[int], digits: int) -> Cell:
    if not values:
        return EMPTY
    return mean_cell(mean_of(values), digits, f" (n {len(values)})" if len(sizes) > 1 else "")


def _mean(
    own: Mapping[str, Sequence[float]], datasets: Sequence[str], sizes: Mapping[str, set[int]], digits: int
) -> Cell:
    """Nothing where a set is missing or not the same images for all."""
    if not all(own[d] and len(sizes[d]) == 1 for d in datasets):
        return EMPTY
    return mean_cell(mean_of(*(own[d] for d in datasets)), digits)
