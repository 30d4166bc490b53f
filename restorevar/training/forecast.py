"""What a training would take: parameters, memory, FLOPs and days, before anything is computed (`train --dry-run`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from ..data.layouts import LAYOUTS
from ..data.pairs import PairSource, Source
from ..errors import UserError
from .meter import StageCost, forward_flops, stage_cost
from .run import Options, plan
from .trainer import Stage

#: Share of the vendor's figure that a training reaches: a guess for convolutions and attention, not a measurement.
UTILISATION = 0.35


@dataclass(frozen=True)
class Accelerator:
    """One device: dense TFLOP/s (no sparsity) of matrix products, memory in GiB."""

    title: str
    bf16: float  #: also fp16; with float32 sums
    fp32: float  #: without TF32, which torch leaves off
    memory: float
    source: str


ACCELERATORS = {
    "rtx3090": Accelerator("RTX 3090", 71.0, 35.6, 24, "NVIDIA GA102 whitepaper"),
    "rtx4090": Accelerator("RTX 4090", 165.2, 82.6, 24, "NVIDIA Ada whitepaper"),
    "l40s": Accelerator("L40S", 362.1, 91.6, 48, "NVIDIA L40S datasheet"),
    "a100": Accelerator("A100 SXM 80 GB", 312.0, 19.5, 80, "NVIDIA A100 datasheet"),
    "h100": Accelerator("H100 SXM", 989.4, 66.9, 80, "NVIDIA Hopper whitepaper"),
    "h200": Accelerator("H200 SXM", 989.4, 66.9, 139, "NVIDIA H200 datasheet"),
    "cpu2": Accelerator("two CPU cores", 0.32, 0.32, 16, "2 cores x 64 FLOP a cycle (AVX-512) x 2.5 GHz"),
}

#: The paper's training sets, by layout and part. Which parts of RESIDE it took is not stated in what we know of it.
PUBLISHED_SETS = (("reside", "OTS"), ("snow100k", ""), ("rain13k", ""), ("lolv1", ""), ("gopro", ""))


def parse_accelerator(text: str) -> tuple[int, Accelerator]:
    """ "h100" or "2xh100" -> how many, which. Raises UserError."""
    count, _, name = text.lower().partition("x") if text[:1].isdigit() else ("1", "", text.lower())
    if name not in ACCELERATORS or not count.isdigit() or int(count) < 1:
        raise UserError(f"--accelerator {text}: one of {', '.join(ACCELERATORS)}, several as in 2xrtx4090")
    return int(count), ACCELERATORS[name]


def usual_precision(accelerator: str) -> torch.dtype:
    """What `--dtype auto` means on that machine."""
    machine = parse_accelerator(accelerator)[1]
    return torch.bfloat16 if machine.bf16 > machine.fp32 else torch.float32


@dataclass(frozen=True)
class Row:
    """One stage on the machine."""

    stage: Stage
    cost: StageCost
    step_seconds: float
    steps: int | None  #: None where its schedule has no end

    @property
    def seconds(self) -> float:
        return (self.steps or 0) * self.step_seconds


def forecast(options: Options, accelerator: str) -> str:
    """A page of text. Raises UserError as the training itself would, and for an unknown accelerator."""
    count, machine = parse_accelerator(accelerator)
    config, stages = plan(options)
    images, origin = _images(options)
    rate = (machine.fp32 if options.precision == torch.float32 else machine.bf16) * 1e12
    rows = []
    for stage in stages:
        cost = stage_cost(
            config, stage, options.precision, count, options.accumulate, options.checkpointing, options.shard
        )
        step_seconds = cost.flops / (UTILISATION * rate * count)
        rows.append(Row(stage, cost, step_seconds, _steps(stage, images, step_seconds)))
    dtype = str(options.precision).removeprefix("torch.")
    lines = [
        f"{options.recipe} on {count} x {machine.title}, {dtype}: {rate / 1e12:g} TFLOP/s each ({machine.source}), "
        f"of which {UTILISATION:.0%} are reckoned with",
        _forward_line(forward_flops(config), config.window),
    ]
    if any(math.isfinite(stage.schedule.epochs) for stage in stages):
        lines.append(f"an epoch: {images:,} samples ({origin})")
    return "\n".join([*lines, "", *_table(rows, machine), "", *_remarks(rows, machine)])


def _images(options: Options) -> tuple[int, str]:
    """Samples of an epoch, and where the number is from."""
    if options.data or options.pairs:
        photos, manifests = ([Source.parse(str(text)) for text in texts] for texts in (options.data, options.pairs))
        return PairSource(photos, manifests).size, "yours"
    parts = []
    for name, subset in PUBLISHED_SETS:
        part = next(p for p in LAYOUTS[name].parts if p.split == "train" and p.subset == subset)
        # RESIDE's OTS is listed in two releases; the smaller, RESIDE-beta's, is the one that papers train on.
        parts.append(
            (f"{LAYOUTS[name].dataset} {subset}".strip(), min(part.published) if subset else part.published[0])
        )
    listed = ", ".join(f"{title} {number:,}" for title, number in parts)
    return sum(number for _, number in parts), f"published sizes: {listed}; --data and --pairs count yours"


def _steps(stage: Stage, images: int, step_seconds: float) -> int | None:
    """Until the first end of the schedule; None where it has none."""
    schedule = stage.schedule.resolved(images)
    ends = [schedule.steps] if schedule.steps < 10**9 else []
    if math.isfinite(schedule.seconds):
        ends.append(max(1, int(schedule.seconds / step_seconds)))
    return min(ends, default=None)


def _forward_line(parts: Mapping[str, Mapping[str, int]], window: int) -> str:
    sums = {part: sum(kinds.values()) for part, kinds in parts.items()}
    whole = sum(sums.values())
    unit, name = (1e12, "TFLOP") if whole > 1e11 else (1e9, "GFLOP")
    listed = ", ".join(f"{part} {number / unit:.3g}" for part, number in sums.items())
    attention = sum(kinds["attention"] for kinds in parts.values()) / unit
    return (
        f"restoring {window}x{window} pixels: {whole / unit:.3g} {name} ({listed}; {attention:.2g} of all is attention)"
    )


def _table(rows: Sequence[Row], machine: Accelerator) -> list[str]:
    lines = [
        f"{'stage':<12}{'trained M':>10}{'of M':>8}{'batch':>10}{'GiB':>8} {'state':>7}{'step':>7}{'prepare':>9}"
        f"{'pool':>7}{'TFLOP':>9}{'s/step':>9}{'steps':>10}{'time':>11}"
    ]
    for row in rows:
        cost = row.cost
        sizes = (cost.total_bytes, cost.state_bytes, cost.step_bytes, cost.prepare_bytes, cost.host_bytes)
        gib, state, step, prepare, pool = (size / 2**30 for size in sizes)
        parts = cost.batch // cost.turn
        batch = f"{cost.batch}" if parts == 1 else f"{cost.batch}={parts}x{cost.turn}"
        steps, time = ("no end", "") if row.steps is None else (f"{row.steps:,}", _duration(row.seconds))
        lines.append(
            f"{row.stage.name:<12}{cost.trained / 1e6:>10.2f}{cost.parameters / 1e6:>8.2f}{batch:>10}"
            f"{gib:>8.1f}{'!' if gib > machine.memory else ' '}{state:>7.1f}{step:>7.1f}{prepare:>9.1f}{pool:>7.1f}"
            f"{cost.flops / 1e12:>9.3g}{row.step_seconds:>9.2g}{steps:>10}{time:>11}"
        )
    return lines


def _remarks(rows: Sequence[Row], machine: Accelerator) -> list[str]:
    lines = []
    if total := sum(row.seconds for row in rows):
        lines.append(f"all of them: {_duration(total)}")
    if any(row.steps is None for row in rows):
        lines.append("no end: give --budget, or STAGE.schedule.steps with --set")
    lines.append("GiB of each device: state (weights, gradients, AdamW, average), and the larger of step (activations)")
    lines.append("and prepare (frozen parts, a whole batch at once); pool: prepared samples on the host")
    lines.append("not in it: kernels' workspaces, validation, reading and degrading photos")
    if any(row.cost.total_bytes > machine.memory * 2**30 for row in rows):
        lines.append(
            f"! more than {machine.memory:g} GiB: --accumulate N shrinks step, --checkpointing that of the "
            f"transformer, STAGE.schedule.batch all but state"
        )
    return lines


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.2g} {unit}" if seconds < 100 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.2g} s"
