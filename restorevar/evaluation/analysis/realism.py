"""How like real photos with rain, snow, ... those are that the training makes: statistics of both, compared.

Real photos have no truth, so nothing can be said of any single one. But where many of them lie outside of what the
synthetic ones span, a network is asked for what it was never shown. That share is what counts here: the coverage.
Real and clean photos are cut alike, as the training cuts them. Nothing is learned from the real ones.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ... import __version__
from ...data.crops import draw_cut
from ...data.degradations import DEGRADATIONS
from ...data.mixes import MIXES
from ...data.pairs import TASK_NAMES, PairSource, Source, seeded
from ...data.photos import find_photos, load_rgb
from ...errors import UserError
from ..metrics.metric import need_eval, version_of
from .chart import Line, Panel, draw
from .findings import Findings, Table, Verdict
from .photo_statistics import FREQUENCIES, SMALLEST, STATISTICS, Measured, Statistic, measurer
from .sampling import Progress, ignore

CLAIM = "The question: are the photos that the training makes like real ones?"
RULE = (
    "Of every statistic: the share of the real photos inside the range that holds the middle 90 % of the synthetic "
    "ones (coverage). Of photos like the synthetic ones it would be about 90 %; what has less than 80 % is named. "
    "Content counts, too: the clean photos show how the same cuts were before."
)
#: Quantiles of the synthetic photos between which a real one is covered, and of the ranges that tables show.
_COVERED, _SHOWN = (0.05, 0.95), (0.1, 0.9)
#: Below this coverage a statistic is named.
ENOUGH = 0.8
#: Pictures of each group that are kept to be shown.
PICTURES = 12
#: Draws for each synthetic photo that is wanted: of low light those that are dark by nature come back undegraded.
_TRIES = 10

Warn = Callable[[str], None]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Options:
    """`per_task`: at most so many real photos of each kind, and so many synthetic ones. `side`: of the cuts, pixels."""

    real: Path
    photos: Path
    per_task: int = 40
    side: int = 512
    seed: int = 0


@dataclass(frozen=True)
class Sample:
    """One photo as it was measured; `pixels` [H, W, 3] uint8 where they are kept to be shown."""

    name: str
    measured: Measured
    pixels: np.ndarray | None = None

    @property
    def figures(self) -> Mapping[str, float]:
        return self.measured.figures


@dataclass(frozen=True)
class Comparison:
    """One statistic of one kind.

    inside, below, above   how many real photos lie in the synthetic range, and on which side of it the others
    ks                     Kolmogorov and Smirnov's distance of the two distributions, 0 to 1; p its chance if alike
    auc                    how often a real photo has more than a synthetic one; 0.5: neither
    """

    statistic: Statistic
    inside: int
    below: int
    above: int
    ks: float
    p: float
    auc: float

    @property
    def coverage(self) -> float:
        return self.inside / (self.inside + self.below + self.above)


@dataclass(frozen=True)
class Kind:
    """One degradation: real photos, synthetic ones, the clean cuts that these were made from, and what differs."""

    name: str
    real: Sequence[Sample]
    synthetic: Sequence[Sample]
    clean: Sequence[Sample]
    comparisons: Sequence[Comparison] = field(default_factory=tuple)

    @property
    def coverage(self) -> float:
        return float(np.mean([c.coverage for c in self.comparisons]))

    @property
    def lacking(self) -> list[Comparison]:
        """Statistics with too little coverage, the least first."""
        return sorted((c for c in self.comparisons if c.coverage < ENOUGH), key=lambda c: c.coverage)

    def groups(self) -> dict[str, Sequence[Sample]]:
        return {"real": self.real, "synthetic": self.synthetic, "clean": self.clean}

    def outside(self, sample: Sample) -> list[str]:
        """Names of the statistics by which a photo lies outside of the synthetic range."""
        names = []
        for statistic in STATISTICS:
            low, high = _range(self.synthetic, statistic, _COVERED)
            if not low <= _values([sample], statistic)[0] <= high:
                names.append(statistic.name)
        return names


def study_realism(
    options: Options,
    progress: Progress = ignore,
    warn: Warn = logging.getLogger(__name__).warning,
) -> list[Kind]:
    """Measure and compare, kind by kind. `warn` is told what is left out.

    Raises UserError for folders without photos, for a side too small to measure, and where an extra is missing.
    """
    if options.side < SMALLEST:
        raise UserError(f"--side is a number from {SMALLEST}")
    if options.per_task < 2:
        raise UserError("--per-task is a number from 2: one photo has no range")
    folders = _folders(options.real, warn)
    find_photos(options.photos)  # before long work
    measure = measurer()
    need_eval("scipy.stats")

    def counted(samples: Iterator[_T], before: int) -> Iterator[_T]:
        """Tell how far it is: each folder is two times `per_task`, of which `before` are over."""
        for n, sample in enumerate(samples, start=1):
            yield sample
            progress(before * options.per_task + n, 2 * options.per_task * len(folders))

    clean: dict[int, Sample] = {}
    kinds = []
    for i, (name, folder) in enumerate(folders.items()):
        real = [*counted(_real(folder, options, measure, warn), 2 * i)]
        made = dict(counted(_synthetic(name, options, measure, clean), 2 * i + 1)) if real else {}  # nothing to be like
        if real and len(made) > 1:
            kind = Kind(name, real, [*made.values()], [clean[i] for i in made])
            kinds.append(replace(kind, comparisons=[_compare(kind, s) for s in STATISTICS]))
        else:
            warn(f"{name} is left out: {'no real photo' if not real else 'no clean photo bright enough'} to measure")
    if not kinds:
        raise UserError(f"{options.real}: none of its photos could be compared")
    return kinds


# -------------------------------------------------------------------------------------------------- the two groups


def _folders(root: Path, warn: Warn) -> dict[str, Path]:
    """Subfolders by the task that they are named after, in the order of DEGRADATIONS."""
    if not root.is_dir():
        raise UserError(f"{root}: not a folder")
    found: dict[str, Path] = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        task = TASK_NAMES.get(folder.name.lower(), folder.name.lower())
        if task not in DEGRADATIONS:
            warn(f"{folder.name} is left out: not one of {', '.join(DEGRADATIONS)}")
        elif task in found:
            raise UserError(f"{root}: {found[task].name} and {folder.name} are the same kind")
        else:
            found[task] = folder
    if not found:
        raise UserError(f"{root}: has no subfolder named {', '.join(DEGRADATIONS)}")
    return {task: found[task] for task in DEGRADATIONS if task in found}


def _real(folder: Path, options: Options, measure: Callable[[np.ndarray], Measured], warn: Warn) -> Iterator[Sample]:
    """A cut of each photo as the training cuts, but never enlarged, which would look like blur, nor mirrored."""
    try:
        files = find_photos(folder)
    except UserError as error:
        warn(f"{error}; left out")
        return
    for path in _chosen(files, options.per_task):
        try:
            photo = load_rgb(path)
        except UserError as error:
            warn(f"{error}; left out")
            continue
        height, width = (min(options.side, side) for side in photo.shape[1:])
        if min(height, width) < SMALLEST:
            warn(f"{path}: smaller than {SMALLEST} pixels; left out")
            continue
        generator = seeded("realism", options.seed, path.name)
        cut = replace(
            draw_cut((photo.shape[1], photo.shape[2]), height, width, "scene", generator),
            mirrored=False,
        )
        pixels = (cut(photo, height, width) * 255).round().byte().permute(1, 2, 0).numpy()
        yield Sample(path.relative_to(options.real).as_posix(), measure(pixels), pixels)


def _chosen(files: Sequence[Path], count: int) -> list[Path]:
    """`count` at even distances."""
    if len(files) <= count:
        return list(files)
    return [files[i * len(files) // count] for i in range(count)]


def _synthetic(
    task: str,
    options: Options,
    measure: Callable[[np.ndarray], Measured],
    clean: dict[int, Sample],
) -> Iterator[tuple[int, Sample]]:
    """(number of the cut, sample) of one task, of the very source that trains on the folder.

    The same number is the same cut for every task, so `clean`, to which the cuts are added, is measured only once.
    """
    mix = replace(MIXES["train"], weights={task: 1.0})
    source = PairSource([Source(options.photos)], seed=options.seed, mix=mix)
    made = 0
    for i in range(_TRIES * options.per_task):
        pair = source.pairs("realism", [i], options.side, options.side)
        if pair.tasks[0] != task:
            continue
        truth, degraded = (images[0].permute(1, 2, 0).numpy() for images in (pair.clean, pair.degraded))
        kept = made < PICTURES
        if i not in clean:
            clean[i] = Sample(f"cut {i}", measure(truth), truth if kept else None)
        yield i, Sample(f"cut {i}", measure(degraded), degraded if kept else None)
        made += 1
        if made == options.per_task:
            return


# -------------------------------------------------------------------------------------------------- the comparison


def _compare(kind: Kind, statistic: Statistic) -> Comparison:
    from scipy.stats import ks_2samp, mannwhitneyu

    real, made = (np.array(_values(group, statistic)) for group in (kind.real, kind.synthetic))
    low, high = _range(kind.synthetic, statistic, _COVERED)
    below, above = int(np.sum(real < low)), int(np.sum(real > high))
    distance = ks_2samp(real, made)
    auc = mannwhitneyu(real, made).statistic / (len(real) * len(made))
    return Comparison(
        statistic,
        len(real) - below - above,
        below,
        above,
        float(distance.statistic),
        float(distance.pvalue),
        float(auc),
    )


def _values(samples: Sequence[Sample], statistic: Statistic) -> list[float]:
    """Rounded as printed: a few white pixels more than none at all are no difference."""
    return [round(sample.figures[statistic.name], statistic.digits) for sample in samples]


def _range(samples: Sequence[Sample], statistic: Statistic, quantiles: tuple[float, float]) -> tuple[float, float]:
    low, high = np.quantile(_values(samples, statistic), quantiles)
    return float(low), float(high)


# ------------------------------------------------------------------------------------------------------ in words


def conclude(kinds: Sequence[Kind], options: Options, command: str = "") -> Findings:
    """Sentences, tables, a chart of the spectra, and every figure of every photo. Names photos, shows none."""
    mix = MIXES["train"]
    told = {
        "cuts of at most": f"{options.side} pixels",
        "seed": options.seed,
        "strengths": f"{mix.strength[0]:g} to {mix.strength[1]:g}",
        "variants": mix.variants,
        "versions": f"restorevar {__version__} scikit-image {version_of('scikit-image')} scipy {version_of('scipy')}",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "command": command,
    }
    found = Findings("Realism of the synthetic photos", CLAIM, RULE, told)
    found.verdicts = [_verdict(kind) for kind in kinds]
    found.tables = [_overview(kinds), *map(table, kinds)]
    found.charts = {"spectra": spectra(kinds)}
    found.records = [
        {"kind": kind.name, "group": group, "image": sample.name, **sample.figures}
        for kind in kinds
        for group, samples in kind.groups().items()
        for sample in samples
    ]
    return found


def _verdict(kind: Kind) -> Verdict:
    lacking = "; ".join(_lack(c) for c in kind.lacking) or "none"
    sentence = (
        f"{kind.name}: {_percent(kind.coverage)} of {len(kind.real)} real photos lie inside the range of "
        f"{len(kind.synthetic)} synthetic ones, mean of {len(STATISTICS)} statistics. "
        f"Below {_percent(ENOUGH)}: {lacking}."
    )
    figures: dict[str, float | None] = {"coverage": kind.coverage, "real": len(kind.real)}
    figures |= {c.statistic.name: c.coverage for c in kind.comparisons}
    return Verdict(kind.name, None, sentence, figures=figures)


def _lack(comparison: Comparison) -> str:
    """As in "noise 52 % (14 below)"."""
    sides = [f"{n} {word}" for n, word in ((comparison.below, "below"), (comparison.above, "above")) if n]
    return f"{comparison.statistic.name} {_percent(comparison.coverage)} ({', '.join(sides)})"


def _overview(kinds: Sequence[Kind]) -> Table:
    rows = []
    for k in kinds:
        counts = [str(len(k.real)), str(len(k.synthetic)), _percent(k.coverage), str(len(k.lacking))]
        rows.append([k.name, *counts, "; ".join(map(_lack, k.lacking)) or "-"])
    headers = ["kind", "real", "synthetic", "coverage", "statistics below 80 %", "which, and where the real ones lie"]
    return Table("Coverage of all statistics, mean.", headers, rows)


HEADERS = (
    "statistic",
    "real, median (10-90 %)",
    "synthetic",
    "clean",
    "KS",
    "AUC",
    "inside",
    "below",
    "above",
    "coverage",
)


def table(kind: Kind) -> Table:
    """A row for each statistic."""
    rows = []
    for c in kind.comparisons:
        ranges = [_shown(group, c.statistic) for group in kind.groups().values()]
        counts = [str(number) for number in (c.inside, c.below, c.above)]
        rows.append([c.statistic.name, *ranges, f"{c.ks:.2f}", f"{c.auc:.2f}", *counts, _percent(c.coverage)])
    caption = f"{kind.name}: {len(kind.real)} real photos, {len(kind.synthetic)} synthetic."
    return Table(caption, HEADERS, rows)


def _shown(samples: Sequence[Sample], statistic: Statistic) -> str:
    """Median and the range of the middle 80 %."""
    low, high = _range(samples, statistic, _SHOWN)
    median = float(np.median(_values(samples, statistic)))
    return "{:.{d}f} ({:.{d}f} to {:.{d}f})".format(median, low, high, d=statistic.digits)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def spectra(kinds: Sequence[Kind]) -> str:
    """SVG: the mean power spectrum (of its logarithm) of each group, a panel for each kind."""

    def line(name: str, samples: Sequence[Sample]) -> Line:
        mean_K = np.mean([sample.measured.spectrum_K for sample in samples], axis=0)
        return Line(name, [(float(x), float(y)) for x, y in zip(np.log2(FREQUENCIES), mean_K, strict=True)])

    panels: list[Any] = [
        Panel(
            kind.name, "log2 of cycles per pixel", "log10 of power", [line(*group) for group in kind.groups().items()]
        )
        for kind in kinds
    ]
    return draw(panels)
