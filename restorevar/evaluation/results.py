"""`restorevar results`: one model on all held-out photographs, two protocols side by side, as a page of figures.

Other methods may stand beside it, on the same pairs.

What was restored and scored is kept in a folder, so that an interrupted run goes on and an unchanged one only writes
the page anew. The page has no pictures; the gallery, a file of its own, has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from ..data.manifest import check_place, write_text
from ..errors import UserError
from .beside import METRICS as BESIDE_METRICS
from .beside import PROTOCOL as BESIDE_PROTOCOL
from .beside import Beside
from .held_out import held_out_pairs
from .methods import Method
from .metrics import Metric, find_metrics
from .pairs import Pair, first_of_each
from .protocols import Protocol, find_protocol
from .report import Options as ReportOptions
from .report.beside_tables import beside_tables
from .report.markdown import document, escape, section
from .report.measured import Measurements
from .report.results_tables import results_tables
from .report.sources import Results
from .report.write import write_report
from .rows import Row
from .scoring import Listener, evaluate
from .statistics import need_scipy

PROTOCOLS = ("restorevar-512", "saved-8bit")
METRICS = ("psnr", "ssim", "ms-ssim", "gmsd", "ciede2000", "piqe", "sharpness", "sharpness-error", "noise")
ROWS = "rows.jsonl"


@dataclass(frozen=True)
class Options:
    """What `restorevar results` takes. `work`: for pairs, rows and restored images; `limit`: images of each set.

    `model` and `fidelity` are told in the page's command; it is the method that restores. `beside`: other methods.
    """

    root: Path
    out: Path
    work: Path
    gallery: Path | None = None
    per_set: int = 3
    protocols: Sequence[str] = PROTOCOLS
    metrics: Sequence[str] = METRICS
    limit: int | None = None
    device: str = "cpu"
    model: str = "compact"
    fidelity: float | None = None
    beside: Sequence[Beside] = ()


@dataclass
class Outcome:
    """The rows, those of the other methods, and how many images could not be scored."""

    rows: list[Row] = field(default_factory=list)
    beside: list[Row] = field(default_factory=list)
    missing: int = 0


def results(method: Method, options: Options, listener: Listener | None = None) -> Outcome:
    """Score, write the page and the gallery. Raises UserError for what the user can mend, most of it at the start."""
    listener = listener or Listener()
    need_scipy()
    protocols = [find_protocol(name) for name in dict.fromkeys(options.protocols)]
    metrics = find_metrics(options.metrics, listener.note)
    _check_beside(method, options, metrics)
    for place in filter(None, (options.out, options.gallery, options.work / ROWS)):
        check_place(place)
    pairs = first_of_each(held_out_pairs(options.root, options.work, listener.note), options.limit)
    outcome = Outcome()
    for protocol in protocols:
        save = options.work / "outputs" if protocol.side is None else None  # of the squashed ones nobody wants pictures
        log = options.work / ROWS
        rows = evaluate(method, pairs, protocol, metrics, log, save, options.device, listener)
        outcome.rows += rows
        outcome.missing += len(protocol.select(pairs)) - len(rows)
    if not outcome.rows:
        raise UserError("no image could be scored")
    for other in options.beside:
        _score_beside(other, options, pairs, metrics, outcome, listener)
    write_text(_page(method, options, protocols, outcome), options.out)
    if options.gallery is not None:
        title = f"{method.name} on held-out photographs"
        given = ReportOptions([], options.gallery, "html", tables=["ours"], gallery=options.per_set, title=title)
        write_report(Results(rows=outcome.rows), given, listener.note)
    return outcome


def _check_beside(method: Method, options: Options, metrics: Sequence[Metric]) -> None:
    """Raises UserError, before the work, for what would leave the other methods without a place on the page."""
    if options.beside and BESIDE_PROTOCOL not in options.protocols:
        raise UserError(f"--beside compares under {BESIDE_PROTOCOL}, which --protocol leaves out")
    if options.beside and not any(metric.name in BESIDE_METRICS for metric in metrics):
        raise UserError(f"--beside compares by {', '.join(BESIDE_METRICS)}; --metrics names none of them")
    there = [method]
    for other in options.beside:
        if any(_identity(other.method) == _identity(known) for known in there):
            raise UserError(f"--beside {other.told}: is on the page already")
        there.append(other.method)


def _identity(method: Method) -> tuple[object, ...]:
    return method.name, method.sha256, dict(method.settings)


def _score_beside(
    other: Beside,
    options: Options,
    pairs: Sequence[Pair],
    metrics: Sequence[Metric],
    outcome: Outcome,
    listener: Listener,
) -> None:
    """Another method's rows, in the same file; its images are not kept."""
    protocol, log = find_protocol(BESIDE_PROTOCOL), options.work / ROWS
    wanted = other.pairs(protocol.select(pairs))
    if not wanted:
        listener.note(f"{other.told} is left out: none of the pairs is for it")
        return
    chosen = [metric for metric in metrics if metric.name in BESIDE_METRICS]
    rows = evaluate(other.method, wanted, protocol, chosen, log, None, options.device, listener)
    outcome.beside += rows
    outcome.missing += len(wanted) - len(rows)


def _page(method: Method, options: Options, protocols: Sequence[Protocol], outcome: Outcome) -> str:
    rows = outcome.rows
    measurements = Measurements(rows)
    day = date.fromtimestamp((options.work / ROWS).stat().st_mtime).isoformat()
    versions = dict.fromkeys(f"{name} {version}" for row in rows for name, version in row.versions.items())
    settings = ", ".join(f"{name} {value}" for name, value in method.settings.items())
    intro = [
        f"Written by `{_command(options)}`; rows of {day}. Every figure was measured by it; none is the paper's.",
        f"Model: {method.name}, sha256 {method.sha256[:12]}, {settings}. Scored with {', '.join(versions)}.",
        "Pairs called synthetic are clean photographs degraded by `restorevar degrade` at seed 0. Intervals are 95 %.",
        *(f"Protocol {protocol.text}." for protocol in protocols),
    ]
    if options.limit is not None:
        intro.append(f"Only the first {options.limit} images of each set.")
    if outcome.beside:
        intro.append("Other methods on the same pairs: the last section.")
    page = document(f"Results: {method.name}", intro, results_tables(measurements))
    return f"{page}\n{_beside(options, outcome)}" if outcome.beside else page


def _beside(options: Options, outcome: Outcome) -> str:
    """The section, with a line on each other method."""
    found = {(row.method, row.sha256) for row in outcome.beside}
    others = [other for other in options.beside if (other.method.name, other.method.sha256) in found]
    intro = [f'Under {BESIDE_PROTOCOL}, at their default settings; "-": the method is not for that task.']
    for other in others:
        only = "" if other.tasks is None else f"; for {' and '.join(other.tasks)} only"
        settings = ", ".join(f"{name} {value}" for name, value in other.method.settings.items())
        intro.append(f"**{escape(other.method.name)}**: {escape(f'{other.about}{only}; {settings}')}.")
    return section("Beside other methods", intro, beside_tables(Measurements([*outcome.rows, *outcome.beside])))


def _command(options: Options) -> str:
    """As anyone would type it: with names, not with the places that they have on this machine."""
    parts = ["restorevar results", options.root.name, "-o", options.out.name]
    if options.model != "compact":
        parts.append(f"--model {Path(options.model).name if Path(options.model).is_dir() else options.model}")
    parts += [] if options.fidelity is None else [f"--fidelity {options.fidelity:g}"]
    parts += [f"--protocol {name}" for name in options.protocols if tuple(options.protocols) != PROTOCOLS]
    parts += [f"--metrics {','.join(options.metrics)}"] if tuple(options.metrics) != METRICS else []
    parts += [f"--beside {other.told}" for other in options.beside]
    return " ".join(parts + ([f"--limit {options.limit}"] if options.limit is not None else []))
