"""`restorevar bench`: measures what was asked for, in order, and shows each table as soon as it is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from ..acceleration import DTYPES, pick_device, pick_dtype
from ..checkpoints import save_model
from ..data.manifest import write_json, write_text
from ..errors import UserError
from ..evaluation.pairs import find_pairs
from ..models import RestoreVARConfig
from ..models.config import paper
from ..pipeline import Restorer, scales_of
from . import show
from .breakdown import Breakdown, take_apart
from .diffusion import import_diffusers, measure_samplers
from .hardware import Peak, environment, measure_peak
from .ladder import measure_ladder
from .photos import PhotoRun, measure_photos
from .precision import measure_precision
from .published import Comparison, check_comparable, compare
from .regression_rivals import measure_rival
from .rivals import Measured, Row, all_rows
from .scaling import Scaling, measure_scaling
from .subject import Subject, find_subject
from .tables import Table

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What to measure. `size` None is the model's own window; `command` is written beside the figures."""

    model: str = "compact"
    device: str = "auto"
    dtype: str = "auto"
    size: int | None = None
    batch: int = 1
    repeat: int = 5
    published_code: Path | None = None
    ldm: bool = False
    rivals: Sequence[tuple[str, Path]] = ()
    scaling: bool = False
    ladder: Path | None = None  #: pairs
    precision: Path | None = None  #: photos
    photos: Sequence[float] = ()
    speed: str = "best"  #: from pixels to pixels, and of the photos
    json: Path | None = None
    markdown: Path | None = None
    command: str = "restorevar bench"


@dataclass
class Report:
    """All figures, and the tables made of them."""

    figures: dict[str, Any] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    plot: str | None = None  #: SVG
    agrees: bool = True  #: with the published code, where it was compared


def bench(options: Options, tell: Tell) -> Report:
    """Measures, tells and writes. Raises UserError for what the user can mend, the outputs' places before the start."""
    _check(options)
    device = pick_device(options.device)
    dtype = _dtype_name(device, options.dtype)
    subject = find_subject(options.model)
    _check_subject(options, subject)
    report = Report()
    report.figures |= environment(device) | {"command": options.command, "dtype": dtype}
    report.figures["model"] = {"name": subject.name, "random": subject.random, "parameters": subject.parameters}
    tell(f"{subject}, {dtype} on {report.figures['device_name']}, {report.figures['threads']} threads\n")
    measured = _Measured(options, subject, device, dtype)
    for name, step in measured.steps():
        figures, tables = step()
        report.figures[name] = figures
        report.tables += tables
        for table in tables:
            tell(table.markdown())
    report.agrees = measured.agrees
    report.plot = measured.plot
    _write(report, options)
    return report


Step = Callable[[], tuple[Any, list[Table]]]


class _Measured:
    """One run: what a later step needs of an earlier one is kept here."""

    def __init__(self, options: Options, subject: Subject, device: torch.device, dtype: str):
        self.options, self.subject, self.device, self.dtype = options, subject, device, dtype
        self.peak: Peak | None = None
        self.breakdown: Breakdown | None = None
        self.agrees = True
        self.plot: str | None = None

    def steps(self) -> list[tuple[str, Step]]:
        wanted = {
            "peak": (self.measure_peak, True),
            "breakdown": (self.take_apart, True),
            "published": (self.compare, self.options.published_code is not None),
            "rivals": (self.rivals, True),
            "scaling": (self.scale, self.options.scaling),
            "precision": (self.compare_precision, self.options.precision is not None),
            "ladder": (self.climb, self.options.ladder is not None),
            "photos": (self.photograph, bool(self.options.photos)),
        }
        return [(name, step) for name, (step, asked) in wanted.items() if asked]

    @property
    def size(self) -> int:
        return self.options.size or self.subject.config.window

    def measure_peak(self) -> tuple[Any, list[Table]]:
        self.peak = measure_peak(self.device, DTYPES[self.dtype], repeat=self.options.repeat)
        return asdict(self.peak), [show.peak(self.peak)]

    def take_apart(self) -> tuple[Any, list[Table]]:
        assert self.peak is not None
        options, device = self.options, str(self.device)
        with _refusing_sizes():
            self.breakdown = take_apart(
                self.subject.build(),
                device,
                self.dtype,
                self.size,
                options.batch,
                options.repeat,
                self.peak,
                options.speed,
            )
        tables = [show.whole(self.breakdown), show.parts(self.breakdown), show.table_10(self.breakdown)]
        return asdict(self.breakdown), tables

    def compare(self) -> tuple[Any, list[Table]]:
        checkout, options = self.options.published_code, self.options
        assert checkout is not None
        found: Comparison = compare(self.subject, checkout, self.device, self.dtype, self.size, options.repeat)
        self.agrees = found.agreement.holds
        return asdict(found) | {"agrees": self.agrees}, [show.comparison(found)]

    def rivals(self) -> tuple[Any, list[Table]]:
        assert self.breakdown is not None
        found = [_as_rival(self.subject, self.breakdown)]
        if self.options.ldm:
            found += measure_samplers(self.device, self.dtype, self.options.repeat)
        for name, checkout in self.options.rivals:
            found.append(measure_rival(name, checkout, self.device, self.dtype, self.options.repeat))
        rows: list[Row] = all_rows(found)
        return [asdict(row) | {"source": row.source} for row in rows], [show.rivals(rows, found[0])]

    def scale(self) -> tuple[Any, list[Table]]:
        config = self.subject.config
        assert isinstance(config, RestoreVARConfig)  # checked before the start
        found: Scaling = measure_scaling(config, device=self.device, dtype=DTYPES[self.dtype])
        self.plot = show.scaling_plot(found)
        return asdict(found), [show.scaling(found), show.exponents(found)]

    def compare_precision(self) -> tuple[Any, list[Table]]:
        assert self.options.precision is not None
        photos, size = self.options.precision, self.options.size
        found = measure_precision(self.subject, self.device, self.dtype, photos, size)
        return [asdict(photo) for photo in found], [show.precision(found, self.dtype)]

    def climb(self) -> tuple[Any, list[Table]]:
        pairs = find_pairs(self.options.ladder)
        restorer = Restorer(self.subject.build(), device=str(self.device), dtype=self.dtype)
        rungs = measure_ladder(restorer, pairs, self.options.repeat)
        return [asdict(rung) for rung in rungs], [show.ladder(rungs)]

    def photograph(self) -> tuple[Any, list[Table]]:
        options = self.options
        with TemporaryDirectory() as name:
            model = options.model
            if self.subject.random:
                save_model(self.subject.build(), Path(name))
                model = name
            runs: list[PhotoRun] = measure_photos(
                list(options.photos), model, str(self.device), self.dtype, options.speed
            )
        return [asdict(run) | {"coding_share": run.coding_share} for run in runs], [show.photos(runs, options.speed)]


def _as_rival(subject: Subject, breakdown: Breakdown) -> Measured:
    """Ours among the others; under the paper's name only if it is the paper's model at the paper's size."""
    same = subject.config == paper() and breakdown.size == subject.config.window
    name = "RestoreVAR" if same else f"{subject.name}, {breakdown.size}x{breakdown.size} (ours)"
    how = "ours, random weights" if subject.random else "ours"
    return Measured(name, breakdown.latency, breakdown.flops.total, breakdown.parameters, breakdown.dtype, how)


def _dtype_name(device: torch.device, name: str) -> str:
    dtype = pick_dtype(device, name)
    return next(known for known, kind in DTYPES.items() if kind == dtype)


@contextmanager
def _refusing_sizes() -> Iterator[None]:
    """The model's own sentence about a size that it cannot take."""
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from None


# ------------------------------------------------------------------------------------------- before and after


def _check(options: Options) -> None:
    """What would be a pity to find out after an hour."""
    if options.batch < 1 or options.repeat < 1 or (options.size is not None and options.size < 1):
        raise UserError("--batch, --repeat and --size are whole numbers from 1")
    if options.published_code is not None and not options.published_code.is_dir():
        raise UserError(f"{options.published_code}: no such folder")
    if options.ldm:
        import_diffusers()
    for path in (options.json, options.markdown):
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise UserError(f"{path}: cannot be written (its folder does not exist, or it is one)")


def _check_subject(options: Options, subject: Subject) -> None:
    """Likewise, of what not every model can be asked for."""
    scales_of(subject.build(), options.speed)
    if options.ladder is not None:
        find_pairs(options.ladder)
    if options.scaling and not isinstance(subject.config, RestoreVARConfig):
        raise UserError(f"--scaling is about next-scale prediction, not about {subject.name}")
    if options.published_code is not None:
        check_comparable(subject)


def _write(report: Report, options: Options) -> None:
    if options.json is not None:
        write_json(_plain(report.figures), options.json)
    if options.markdown is not None:
        write_text(_markdown(report, options.markdown), options.markdown)


def _markdown(report: Report, path: Path) -> str:
    figures = report.figures
    place = f"{figures['device_name']}, {figures['threads']} threads, torch {figures['torch']}, {figures['date']}"
    parts = [f"# {figures['model']['name']}, {figures['dtype']}", "", f"`{figures['command']}`", "", place, ""]
    parts += [table.markdown() for table in report.tables]
    if report.plot is not None:
        plot = path.with_name(f"{path.stem}-scaling.svg")
        write_text(report.plot, plot)
        parts += [f"![FLOPs against the side of the latent]({plot.name})", ""]
    return "\n".join(parts)


def _plain(value: Any) -> Any:
    """JSON knows no NaN."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
