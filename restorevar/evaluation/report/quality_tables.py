"""Tables 1 and 2: the paper's figures, and ours where protocol and data are the paper's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..metrics import METRICS
from ..peers.catalogue import plain
from ..protocols import find_protocol
from ..statistics import mean_of
from . import paper, remedies
from .measured import INPUT, Measurements, Variant
from .table import EMPTY, Cell, Column, Line, Table, number

AVERAGE = "average"
#: Other names of the paper's data sets. Its CDD is the part with haze and rain.
_ALIASES = {"cdd": ("cddhazerain",)}
#: Words in a path that say that the images are another part of the data set than the paper's.
_OTHER_PARTS = {"reside": "indoor"}

_WHAT_COUNTS = (
    "Measured lines are rows of this protocol whose data set has the paper's name; their numbers of images are below. "
    "The best of each column is marked among the regression methods and among the generative ones."
)


def papers_datasets(quality: paper.Quality, measurements: Measurements) -> dict[str, str]:
    """The paper's data set -> the name that it has in the rows of this protocol."""
    found: dict[str, str] = {}
    for dataset in measurements.datasets(quality.protocol):
        for known in quality.datasets:
            names = (plain(known), *_ALIASES.get(plain(known), ()))
            if plain(dataset) in names and not _is_other_part(known, dataset, quality.protocol, measurements):
                found.setdefault(known, dataset)
    return found


def _is_other_part(known: str, dataset: str, protocol: str, measurements: Measurements) -> bool:
    word = _OTHER_PARTS.get(plain(known))
    rows = (row for row in measurements.rows if row.protocol == protocol and row.dataset == dataset)
    return word is not None and any(word in row.input.lower() for row in rows)


def quality_table(quality: paper.Quality, measurements: Measurements) -> Table:
    """A line of the paper and one of ours for each of its methods, then what else was measured."""
    datasets = papers_datasets(quality, measurements)
    average = quality.number == "2"
    shown = [*quality.datasets, *([AVERAGE] if average else [])]
    metrics = [METRICS[name] for name in quality.metrics]
    columns = [Column(metric.title, over, metric.better) for over in shown for metric in metrics]
    variants = [v for v in measurements.variants if _is_scored(v, measurements, quality, datasets)]
    lines, notes = [], []
    for group, methods in (("regression", paper.REGRESSION), ("generative", paper.GENERATIVE)):
        for method in methods:
            cells = _paper_cells(quality, method, average)
            lines.append(Line(method, "paper", cells, group=group, contest=group))
            own = [variant for variant in variants if variant.is_called(method)]
            variants = [variant for variant in variants if variant not in own]
            lines += [_measured(quality, measurements, v, datasets, average, group) for v in own]
            notes += [_count(quality, measurements, v, datasets) for v in own]
            if not own:
                remedy = remedies.quality(method, quality.protocol, quality.metrics)
                lines.append(Line(method, "weights", group=group, remedy=remedy))
    for variant in variants:
        group = "measured besides"
        lines.append(_measured(quality, measurements, variant, datasets, average, group))
        notes.append(_count(quality, measurements, variant, datasets))
    if average:
        wrong = ", ".join(f"{method} {mean:.3f}" for method, mean in paper.wrong_averages().items())
        notes.append(f"The paper's averages of MUSIQ are as printed; the means of its columns would be {wrong}.")
    caption = f"{find_protocol(quality.protocol).text}. {_WHAT_COUNTS}"
    return Table(quality.number, quality.title, caption, "method", columns, lines, notes)


def _is_scored(
    variant: Variant, measurements: Measurements, quality: paper.Quality, datasets: Mapping[str, str]
) -> bool:
    return any(_scores(quality, measurements, variant, d, m) for d in datasets.values() for m in quality.metrics)


def _scores(
    quality: paper.Quality, measurements: Measurements, variant: Variant, dataset: str, metric: str
) -> list[float]:
    return [*measurements.scores(variant, quality.protocol, dataset, metric).values()]


def _paper_cells(quality: paper.Quality, method: str, average: bool) -> list[Cell]:
    cells: list[Cell] = []
    for scores in quality.rows[method]:
        cells += _cells(quality.metrics, scores or [None] * len(quality.metrics))
    return cells + (_cells(quality.metrics, paper.TABLE_2_AVERAGES[method]) if average else [])


def _cells(metrics: Sequence[str], values: Iterable[float | None]) -> list[Cell]:
    return [number(value, METRICS[m].digits) for m, value in zip(metrics, values, strict=True)]


def _measured(
    quality: paper.Quality,
    measurements: Measurements,
    variant: Variant,
    datasets: Mapping[str, str],
    average: bool,
    group: str,
) -> Line:
    means: list[list[float | None]] = []
    for known in quality.datasets:
        values = [_scores(quality, measurements, variant, datasets.get(known, ""), m) for m in quality.metrics]
        means.append([mean_of(v).mean if v else None for v in values])
    cells = [cell for each in means for cell in _cells(quality.metrics, each)]
    if average:
        for column, metric in zip(zip(*means, strict=True), quality.metrics, strict=True):
            known_ones = [value for value in column if value is not None]
            whole = len(known_ones) == len(quality.datasets)
            cells.append(number(mean_of(known_ones).mean, METRICS[metric].digits) if whole else EMPTY)
    contest = "" if variant.method == INPUT else group
    return Line(variant.label, "measured", cells, group=group, contest=contest)


def _count(quality: paper.Quality, measurements: Measurements, variant: Variant, datasets: Mapping[str, str]) -> str:
    """How many images, and of which metrics fewer."""
    counts = []
    for known, dataset in datasets.items():
        sizes = [len(_scores(quality, measurements, variant, dataset, m)) for m in quality.metrics]
        fewer = [f"{METRICS[m].title} {n}" for m, n in zip(quality.metrics, sizes, strict=True) if n < max(sizes)]
        if max(sizes):
            counts.append(f"{known} {max(sizes)}" + (f" ({', '.join(fewer)})" if fewer else ""))
    return f"Images of {variant.label}: {', '.join(counts)}."
