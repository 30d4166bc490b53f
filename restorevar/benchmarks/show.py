"""Figures into tables: what stands beside what, and what a reader must know of it."""

from __future__ import annotations

from collections.abc import Sequence

from ..evaluation.analysis.chart import Line, Panel, draw
from ..evaluation.report.paper import TABLE_10
from .breakdown import Breakdown
from .hardware import Peak
from .ladder import CLEAN, Rung
from .photos import PhotoRun
from .precision import SAME, PhotoPrecision
from .published import Comparison
from .rivals import Measured, Row
from .scaling import Scaling
from .tables import Cell, Table, flops, millions, percent, quartiles, ratio, seconds, size


def peak(found: Peak) -> Table:
    table = Table(f"What the device reaches, {found.dtype}", ["measured", "rate"])
    table.rows = [
        [f"matrix product, side {found.side}", f"{flops(found.matmul)}FLOP/s"],
        ["3x3 convolution, channels last", f"{flops(found.convolution)}FLOP/s"],
        ["copy, bytes read and written", f"{size(found.bytes_per_second)}/s"],
    ]
    table.note = "The higher of the first two is the peak below."
    return table


def whole(found: Breakdown) -> Table:
    table = Table(f"Restoring {found.size}x{found.size}, {found.dtype}", ["", "value", "quartiles"])
    table.rows = [
        ["latency, batch 1", seconds(found.latency), quartiles(found.latency)],
        [
            f"the same with the pixels' way in and out, speed {found.speed}",
            seconds(found.end_to_end),
            quartiles(found.end_to_end),
        ],
        [f"throughput, batch {found.batch}", f"{found.throughput:.3g} images/s", None],
        [f"share of the measured peak, batch {found.batch}", percent(found.share_of_peak), None],
        [f"peak memory, batch {found.batch}: {found.memory.kind}", size(found.memory.bytes), None],
        ["parameters", millions(found.parameters), None],
        ["FLOPs per image", flops(found.flops.total), None],
        ["floor of one image", seconds(found.floor), None],
    ]
    table.note = (
        "Floor: of each part the longer of FLOPs over the measured peak and weights over the measured copy rate."
    )
    return table


def parts(found: Breakdown) -> Table:
    headers = ["part", "median", "quartiles", "FLOPs", "share of peak", "floor", "share of time"]
    total = sum(part.timing.median for part in found.parts)
    table = Table("Part by part, one image", headers)
    for part in found.parts:
        time = part.timing
        figures = [seconds(time), quartiles(time), flops(part.flops.total), percent(part.share_of_peak)]
        table.rows.append([part.name, *figures, seconds(part.floor), percent(time.median / total)])
    table.rows.append(["together", seconds(total), None, flops(found.flops.total), None, seconds(found.floor), None])
    table.note = "The device is synchronised after each part: together they take longer than the whole in one go."
    return table


def ladder(rungs: Sequence[Rung]) -> Table:
    tasks = list(rungs[0].gains)
    headers = ["rung", "--speed", "time", "of the whole", *tasks]
    table = Table("Speed ladder: decibels gained over the input", headers)
    for rung in rungs:
        gains = [f"{rung.gains[task]:.2f}" if task == CLEAN else f"{rung.gains[task]:+.2f}" for task in tasks]
        share = percent(rung.time.median / rungs[0].time.median)
        table.rows.append([rung.name, rung.speed, seconds(rung.time), share, *gains])
    table.note = "PSNR before rounding on the middle of each picture, a window large; of clean photos the PSNR itself."
    return table


def precision(found: Sequence[PhotoPrecision], dtype: str) -> Table:
    scales = len(found[0].tokens)
    headers = ["photo", f"PSNR of {dtype} to fp32", *(f"scale {k + 1}" for k in range(scales))]
    table = Table("Precision: how near, and how many tokens are the same", headers)
    for photo in found:
        table.rows.append([photo.photo, f"{photo.psnr:.1f} dB", *map(percent, photo.tokens)])
    means = [percent(sum(photo.tokens[k] for photo in found) / len(found)) for k in range(scales)]
    table.rows.append(["mean", f"{sum(photo.psnr for photo in found) / len(found):.1f} dB", *means])
    least = min(found, key=lambda photo: photo.psnr)
    table.note = f"Before rounding. Least: {least.psnr:.1f} dB, {least.photo}; the aim is {SAME:.0f} dB everywhere."
    return table


def table_10(found: Breakdown) -> Table:
    table = Table("Beside the paper's table 10", ["part", "here", "paper, RTX 4090"])
    groups = found.grouped()
    names = list(dict.fromkeys([*TABLE_10, *groups]))
    table.rows = [[name, seconds(groups.get(name)), seconds(TABLE_10.get(name))] for name in names]
    table.note = (
        "The paper's are of 512x512 pixels; the published code measures without synchronisation, which credits the "
        "parts before with the time of those after."
    )
    return table


def comparison(found: Comparison) -> Table:
    ours = [run.precision for run in found.runs if run.code == "ours"]
    headers = ["code", "precision", "median", "quartiles", "peak memory", *(f"ours {p} is faster by" for p in ours)]
    table = Table("Side by side with the published code", headers)
    for run in found.runs:
        ratios = [ratio(found.ratio(run.precision, p)) if run.code == "published" else None for p in ours]
        memory = size(run.memory_bytes)
        table.rows.append([run.code, run.precision, seconds(run.timing), quartiles(run.timing), memory, *ratios])
    table.note = (
        f"Same weights, same image, same device, one after the other; {found.agreement}. The published code computes "
        f"{flops(found.published_flops)}FLOP an image; its bf16 is autocast, its float32 allows TF32, as it sets them. "
        f"Memory: {found.runs[0].memory_kind}."
    )
    return table


def rivals(rows: Sequence[Row], ours: Measured) -> Table:
    headers = ["method", "steps", "paper, RTX 4090", "here", "beside ours", "TFLOP paper", "FLOPs here"]
    table = Table("Tables 5 and 6 of the paper", [*headers, "params paper", "params here", "source"])
    for row in rows:
        known, here = row.paper, row.measured
        published: list[Cell] = [None] * 4
        if known is not None:
            published = [known.steps, f"{known.seconds:g} s", _tera(known.tera_flops), f"{known.millions:.2f} M"]
        steps, time, tera, params = published
        measured: list[Cell] = [None] * 4
        if here is not None:
            slower = ratio(here.timing.median / ours.timing.median)
            measured = [f"{seconds(here.timing)} ({here.dtype})", slower, flops(here.flops), millions(here.parameters)]
        now, beside, work, size_here = measured
        table.rows.append([row.method, steps, time, now, beside, tera, work, params, size_here, row.source])
    table.note = (
        "One image of 512x512 unless said otherwise. FLOPs: 2 per multiply-add. Where the source says paper, nothing "
        "was measured here, and the paper's seconds are not comparable with those of this device."
    )
    return table


def _tera(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"


def scaling(found: Scaling) -> Table:
    headers = ["side n", "window", "scales", "tokens", "ours", "of it attention", "diffusion", "of it attention"]
    table = Table("Growth with the side of the latent", [*headers, "ratio", "ours, time", "diffusion, time"])
    for point in found.points:
        ours, other = point.ours, point.diffusion
        table.rows.append(
            [
                str(point.side),
                point.window,
                point.scales,
                point.tokens,
                flops(ours.total),
                percent(ours.attention / ours.total),
                flops(other.total),
                percent(other.attention / other.total),
                ratio(other.total / ours.total),
                seconds(point.ours_time),
                seconds(point.diffusion_time),
            ]
        )
    table.note = (
        "Transformer only; FLOPs counted, seconds measured. Diffusion: the same blocks, as many steps on all n^2 "
        "tokens as ours has scales; its seconds are one step's, multiplied. Scales grow by the paper's ratio."
    )
    return table


#: What appendix C says of each fitted exponent.
_APPENDIX_C = {
    "ours, attention": "4",
    "diffusion, attention": "4, times log n",
    "diffusion, attention per step": "4",
}


def exponents(found: Scaling) -> Table:
    table = Table("FLOPs ~ n^p, fitted to the largest sides", ["", "p", "appendix C"])
    table.rows = [[name, f"{p:.2f}", _APPENDIX_C.get(name)] for name, p in found.exponents.items()]
    table.note = "What is not attention grows with n^2; the totals lie between."
    return table


def scaling_plot(found: Scaling) -> str:
    """SVG: FLOPs of both, of their attention, and the two guides of appendix C through our first point."""
    points = found.points
    first, steps = points[0], points[0].scales
    guide = [first.ours.attention * (p.side / first.side) ** 4 for p in points]
    guide_log = [first.diffusion.attention * (p.side / first.side) ** 4 * p.scales / steps for p in points]
    flops: dict[str, Sequence[float]] = {
        "ours": [p.ours.total for p in points],
        "ours, attention": [p.ours.attention for p in points],
        "diffusion": [p.diffusion.total for p in points],
        "diffusion, attention": [p.diffusion.attention for p in points],
        "O(n^4)": guide,
        "O(n^4 log n)": guide_log,
    }
    lines = [
        Line(name, [(p.side, v / 1e12) for p, v in zip(points, values, strict=True)], dashed=name.startswith("O("))
        for name, values in flops.items()
    ]
    title, x = "Cost against the side of the latent", "side n of the latent grid"
    return draw([Panel(title, x, "TFLOP", lines, log_x=True, log_y=True)], dashed="appendix C")


def photos(runs: Sequence[PhotoRun], speed: str = "best") -> Table:
    headers = ["photo", "pixels", "seconds", "fresh process", "reading", "writing", "both, share", "memory", "device"]
    table = Table(f"Photos end to end, speed {speed}", headers)
    for run in runs:
        times = [seconds(v) for v in (run.seconds, run.process_seconds, run.reading, run.writing)]
        memory = [size(run.resident_bytes), size(run.device_bytes)]
        pixels = f"{run.width}x{run.height}"
        table.rows.append([f"{run.megapixels:g} MP", pixels, *times, percent(run.coding_share), *memory])
    table.note = (
        "JPEG in, JPEG out, through `restorevar restore`. Fresh process: with starting Python and loading the model. "
        "Reading and writing are measured by themselves. Memory: most resident bytes of the process."
    )
    return table
