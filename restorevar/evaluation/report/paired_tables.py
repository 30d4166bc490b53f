"""Table 8, the paper's MUSIQ and CLIPIQA image by image, and the same of whatever was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..protocols import find_protocol
from ..statistics import difference
from . import comparison, paper, remedies
from .comparison import Compared
from .measured import INPUT, Measurements, Variant
from .quality_tables import papers_datasets
from .table import Line, Table

_TITLE = "Paired differences on MUSIQ and CLIPIQA"


def table_8(measurements: Measurements) -> Table:
    """RestoreVAR less each other method on the data sets of table 2."""
    quality = paper.TABLE_2
    datasets = [*papers_datasets(quality, measurements).values()]
    ours = _named(measurements, "RestoreVAR")
    compared, missing = [], []
    for method in (m for m in paper.METHODS if m != "RestoreVAR"):
        other = _named(measurements, method)
        found = _all(measurements, quality.protocol, datasets, quality.metrics, ours, other) if ours and other else []
        compared += found
        if not found:
            remedy = remedies.quality(method, quality.protocol, quality.metrics)
            remedy += "" if ours else "  (and the same of RestoreVAR: table 2)"
            missing.append(Line(f"RestoreVAR - {method}", "weights", remedy=remedy))
    lines = [*comparison.lines(compared, "RestoreVAR"), *missing, Line("the paper's figures", "unknown")]
    caption = f"RestoreVAR less the other. {find_protocol(quality.protocol).text}. {comparison.ABOUT}"
    return Table("8", _TITLE, caption, "comparison", comparison.COLUMNS, lines)


def paired_table(
    measurements: Measurements,
    protocol: str,
    datasets: Sequence[str],
    reference: Variant,
    *,
    each: bool = False,
    metrics: Sequence[str] | None = None,
) -> Table | None:
    """`reference` less every other method and the degraded input, all data sets together or each by itself.

    Clean photographs are left out where the input is the other: there is nothing to gain. None without a comparison.
    """
    known = measurements.metrics(protocol, datasets)
    chosen = known if metrics is None else [name for name in metrics if name in known]
    compared: list[Compared] = []
    for other in measurements.variants:
        if other == reference:
            continue
        against = [d for d in datasets if other.method != INPUT or not is_clean(measurements, d)]
        for names in [[d] for d in against] if each else [against]:
            group = names[0] if each else ""
            compared += _all(measurements, protocol, names, chosen, reference, other, group)
    if not compared:
        return None
    number = f"ours, {protocol}, " + ("each" if each else "all")
    title = f"Our held-out sets: paired differences, {protocol}, " + ("each set" if each else "all sets together")
    caption = (
        f"{reference.label} less the other. {find_protocol(protocol).text}. {comparison.ABOUT} "
        "Clean photographs as input are left out where the other is the degraded input."
    )
    lines = comparison.lines(compared, reference.label)
    return Table(number, title, caption, "comparison", comparison.COLUMNS, lines)


def is_clean(measurements: Measurements, dataset: str) -> bool:
    return any(row.task == "clean" for row in measurements.rows if row.dataset == dataset)


def _named(measurements: Measurements, method: str) -> Variant | None:
    return next((v for v in measurements.methods() if v.is_called(method)), None)


def _all(
    measurements: Measurements,
    protocol: str,
    datasets: Iterable[str],
    metrics: Iterable[str],
    ours: Variant,
    other: Variant,
    group: str = "",
) -> list[Compared]:
    """One comparison per metric, on the images that both were scored on."""
    datasets, found = list(datasets), []
    for metric in metrics:
        sets = []
        for dataset in datasets:
            a = measurements.scores(ours, protocol, dataset, metric)
            b = measurements.scores(other, protocol, dataset, metric)
            if both := [image for image in a if image in b]:
                sets.append(([a[i] for i in both], [b[i] for i in both]))
        if sets:
            info = measurements.info(metric)
            label = f"{info.title}: {ours.label} - {other.label}"
            digits = max(2, info.digits)
            found.append(Compared(label, other.label, difference(*sets), info.better, digits, group))
    return found
