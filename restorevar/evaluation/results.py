"""`restorevar results`: one model on all held-out photographs, two protocols side by side, as a page of figures.

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
from .held_out import held_out_pairs
from .methods import Method
from .metrics import find_metrics
from .pairs import first_of_each
from .protocols import Protocol, find_protocol
from .report import Options as ReportOptions
from .report.markdown import document
from .report.measured import Measurements
from .report.results_tables import results_tables
from .report.sources import Results
from .report.write import write_report
from .rows import Row
from .scoring import Listener, evaluate
from .statistics import need_scipy

PROTOCOLS = ("restorevar-512", "saved-8bit")
METRICS = ("psnr", "ssim", "ms-ssim", "ciede2000", "piqe", "sharpness", "noise")
ROWS = "rows.jsonl"


@dataclass(frozen=True)
class Options:
    """What `restorevar results` takes. `work`: for pairs, rows and restored images; `limit`: images of each set.

    `model` and `fidelity` are told in the page's command; it is the method that restores.
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


@dataclass
class Outcome:
    """The rows, and how many images could not be scored."""

    rows: list[Row] = field(default_factory=list)
    missing: int = 0


def results(method: Method, options: Options, listener: Listener | None = None) -> Outcome:
    """Score, write the page and the gallery. Raises UserError for what the user can mend, most of it at the start."""
    listener = listener or Listener()
    need_scipy()
    protocols = [find_protocol(name) for name in dict.fromkeys(options.protocols)]
    metrics = find_metrics(options.metrics, listener.note)
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
    write_text(_page(method, options, protocols, outcome.rows), options.out)
    if options.gallery is not None:
        title = f"{method.name} on held-out photographs"
        given = ReportOptions([], options.gallery, "html", tables=["ours"], gallery=options.per_set, title=title)
        write_report(Results(rows=outcome.rows), given, listener.note)
    return outcome


def _page(method: Method, options: Options, protocols: Sequence[Protocol], rows: Sequence[Row]) -> str:
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
    return document(f"Results: {method.name}", intro, results_tables(measurements))


def _command(options: Options) -> str:
    """As anyone would type it: with names, not with the places that they have on this machine."""
    parts = ["restorevar results", options.root.name, "-o", options.out.name]
    if options.model != "compact":
        parts.append(f"--model {Path(options.model).name if Path(options.model).is_dir() else options.model}")
    parts += [] if options.fidelity is None else [f"--fidelity {options.fidelity:g}"]
    parts += [f"--protocol {name}" for name in options.protocols if tuple(options.protocols) != PROTOCOLS]
    parts += [f"--metrics {','.join(options.metrics)}"] if tuple(options.metrics) != METRICS else []
    return " ".join(parts + ([f"--limit {options.limit}"] if options.limit is not None else []))
