"""Tables 5, 6 and 10 from the files of `restorevar bench --json`, and table 4 with those of `restorevar ablate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..statistics import mean_of
from . import paper, remedies
from .measured import Measurements
from .quality_tables import papers_datasets
from .table import EMPTY, Cell, Column, Line, Table, number, words

#: A file of figures, as JSON has them.
Figures = Mapping[str, Any]

_PAPER_PLACE = "RTX 4090"


def speed_table(table: int, benches: Sequence[Figures]) -> Table:
    """Table 5 (generative methods) or 6 (regression methods)."""
    columns = [
        Column("steps"),
        Column("seconds", "", "lower"),
        Column("TFLOP", "", "lower"),
        Column("parameters, M", "", "lower"),
        Column("device"),
    ]
    lines = []
    for row in (row for row in paper.SPEED if row.table == table):
        cells = [words(row.steps), _plain(row.seconds), _plain(row.tera_flops), number(row.millions, 2)]
        lines.append(Line(row.method, "paper", [*cells, words(_PAPER_PLACE)], contest="paper"))
        found = [_measured(bench, entry) for bench in benches for entry in _entries(bench, row.method)]
        lines += found or [Line(row.method, "unmeasured", remedy=remedies.speed(row.method))]
    if table == 5:
        known = {row.method for row in paper.SPEED}
        for bench in benches:
            others = [entry for entry in bench.get("rivals", []) if entry["measured"] and entry["method"] not in known]
            lines += [_measured(bench, entry) for entry in others]
    caption = (
        "One image of 512x512 unless the name says otherwise. The paper's seconds are of one RTX 4090 and, by its "
        "code, without synchronisation: they are not comparable with those of another device. Ours are medians, the "
        "device synchronised (restorevar bench). FLOPs: 2 per multiply-add. The best is marked among the paper's, and "
        "among those of one run."
    )
    title = "Cost of the generative methods" if table == 5 else "Cost of the regression methods"
    return Table(str(table), title, caption, "method", columns, lines)


def _entries(bench: Figures, method: str) -> list[Figures]:
    return [entry for entry in bench.get("rivals", []) if entry["method"] == method and entry["measured"]]


def _measured(bench: Figures, entry: Figures) -> Line:
    known, found = entry.get("paper") or {}, entry["measured"]
    label = f"{entry['method']}: {found['how']}"
    cells = [
        words(known.get("steps")),
        _plain(found["timing"]["median"]),
        _plain(found["flops"] / 1e12),
        number(found["parameters"] / 1e6, 2),
        words(f"{bench['device_name']}, {found['dtype']}"),
    ]
    return Line(
        label, "measured", cells, contest=f"{bench['device_name']}, {bench.get('date')}, {bench.get('command')}"
    )


def table_10(benches: Sequence[Figures]) -> Table:
    """Parts of RestoreVAR, in seconds."""
    parts = list(paper.TABLE_10)
    found = [
        (bench, paper.grouped((part["name"], part["timing"]["median"]) for part in bench["breakdown"]["parts"]))
        for bench in benches
    ]
    others = list(dict.fromkeys(name for _, each in found for name in each if name not in parts))
    columns = [Column(name) for name in (*parts, *others)] + [Column("device")]
    cells = [_plain(paper.TABLE_10.get(name)) for name in (*parts, *others)]
    lines = [Line("RestoreVAR, 512x512", "paper", [*cells, words(_PAPER_PLACE)])]
    for bench, each in found:
        size, dtype = bench["breakdown"]["size"], bench["breakdown"]["dtype"]
        cells = [_plain(each.get(name)) for name in (*parts, *others)]
        label = f"{bench['model']['name']}, {size}x{size}"
        lines.append(Line(label, "measured", [*cells, words(f"{bench['device_name']}, {dtype}")]))
    if not any(bench["model"]["name"] == "paper" for bench, _ in found):
        lines.append(Line("RestoreVAR, 512x512", "unmeasured", remedy=remedies.PARTS))
    caption = (
        "Seconds of one image. The published code measures without synchronisation, which credits the parts before "
        "with the time of those after; ours is synchronised after each part. Speed does not depend on the weights, so "
        "random ones serve. The fidelity branch is ours."
    )
    return Table("10", "Time of the parts", caption, "model", columns, lines)


# --------------------------------------------------------------------------------------------------- refiners

_REFINER_COLUMNS = (
    Column("seconds", "", "lower"),
    Column("parameters, M", "", "lower"),
    Column("PSNR", "", "higher"),
    Column("SSIM", "", "higher"),
)


def table_4(measurements: Measurements) -> Table:
    """The paper's refiners on RESIDE."""
    lines = []
    for row in paper.TABLE_4:
        cells = [_plain(row.seconds), number(row.millions, 2), number(row.psnr, 2), number(row.ssim, 3)]
        lines.append(Line(row.label, "paper", cells, contest="paper"))
        own = _published(measurements) if row.variant == "full" else None
        if own:
            lines.append(Line(row.label, "measured", [EMPTY, EMPTY, *own]))
        else:
            lines.append(Line(row.label, "weights", remedy=remedies.refiner(row.variant)))
    caption = (
        "Time, size and effect of the refiner on RESIDE; restorevar-512, seconds on one RTX 4090. Those without "
        "figures need a training of the paper's size; trainings of ours, at other sizes and on other data, are in "
        "table 4b."
    )
    return Table("4", "Refiners", caption, "refiner", _REFINER_COLUMNS, lines)


def _published(measurements: Measurements) -> list[Cell] | None:
    """PSNR and SSIM of the published RestoreVAR on RESIDE."""
    quality = paper.TABLE_1
    dataset = papers_datasets(quality, measurements).get("RESIDE", "")
    for variant in measurements.methods():
        if variant.is_called("RestoreVAR"):
            values = [measurements.scores(variant, quality.protocol, dataset, m).values() for m in ("psnr", "ssim")]
            if all(values):
                return [number(mean_of([*v]).mean, d) for v, d in zip(values, (2, 3), strict=True)]
    return None


def refiner_table(ablation: Figures, place: str) -> Table:
    """Table 4 of one `restorevar ablate`."""
    names = {row.variant: row.label for row in paper.TABLE_4}
    lines = []
    for row in ablation["rows"]:
        if row["variant"] in names and row.get("error") is None:
            cells = [_plain(row["seconds_per_image"]), number(row["refiner_parameters"] / 1e6, 3)]
            cells += [number(row["psnr"], 2), number(row["ssim"], 3)]
            lines.append(Line(names[row["variant"]], "measured", cells, contest="ours"))
    about = ablation["about"]
    caption = (
        f"Not the paper's size, data or protocol: {place}, scale {about['scale']}, budget {about['budget']}, seed "
        f"{about['seed']}; PSNR and SSIM by torch before rounding, mean over {about['crops']} held-out crops of each "
        "synthetic task; seconds of the whole model for one window."
    )
    return Table("4b", "Refiners, trained by restorevar ablate", caption, "refiner", _REFINER_COLUMNS, lines)


def _plain(value: float | None) -> Cell:
    """Three digits that count, none that does not."""
    return EMPTY if value is None else Cell(f"{value:.4g}", float(f"{value:.4g}"))
