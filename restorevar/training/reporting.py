"""What a run tells: JSON lines always, a progress bar on a terminal, TensorBoard and W&B where asked for."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image

from ..errors import UserError

Figures = dict[str, float]


class Sink(Protocol):
    """Takes figures by name, "stage/figure", and the step."""

    def __call__(self, figures: Figures, step: int) -> None: ...


def tensorboard(folder: Path) -> Sink:
    """Raises UserError where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("TensorBoard is not installed: pip install 'restorevar[train]'") from None
    writer = SummaryWriter(str(folder / "tensorboard"))

    def write(figures: Figures, step: int) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return write


def wandb(folder: Path) -> Sink:
    """Raises UserError where W&B is not installed."""
    try:
        import wandb as service
    except ImportError:
        raise UserError("Weights & Biases is not installed: pip install wandb") from None
    run = service.init(project="restorevar", dir=str(folder))
    return lambda figures, step: run.log(dict(figures))


SINKS: dict[str, Callable[[Path], Sink]] = {"tensorboard": tensorboard, "wandb": wandb}


class Report:
    """One for a run; only the first of several processes writes."""

    def __init__(self, folder: Path, sinks: list[Sink] | None = None, active: bool = True, bar: bool | None = None):
        self.folder, self.sinks, self.active = folder, sinks or [], active
        wanted = sys.stderr.isatty() if bar is None else bar
        self.bar = _Bar() if wanted and active else None
        self.stage = ""
        self.values: dict[str, list[float]] = {}

    def start(self, stage: str, total: float) -> None:
        """`total`: what `done` of `step` counts up to."""
        self.stage, self.values = stage, {}
        if self.bar:
            self.bar.start(stage, total)

    def step(self, figures: Figures, done: float, images: int, device: torch.device) -> None:
        """Collect one step's losses; shown at once, written by `flush`."""
        for name, value in figures.items():
            self.values.setdefault(name, []).append(value)
        if self.bar:
            self.bar.update(done, images, figures.get("loss", float("nan")), memory_used(device))

    def flush(self, step: int, elapsed: float, **more: float) -> None:
        """The means since the last time."""
        means = {name: sum(values) / len(values) for name, values in self.values.items()}
        self.write(step, elapsed, **means, **more)
        self.values = {}

    def write(self, step: int, elapsed: float, **values: Any) -> None:
        if not self.active:
            return
        rounded = {k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in values.items()}
        line = {"stage": self.stage, "step": step, "seconds": round(elapsed, 1)} | rounded
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        figures = {f"{self.stage}/{k}": float(v) for k, v in values.items() if isinstance(v, int | float)}
        for sink in self.sinks:
            sink(figures, step)

    def warn(self, message: str, step: int, elapsed: float) -> None:
        """Into the log and onto stderr, one line."""
        self.write(step, elapsed, warning=message)
        if self.active:
            print(f"restorevar: warning: {message}", file=sys.stderr)

    def picture(self, sheet: Image.Image, step: int) -> None:
        """A preview of fixed validation photos: previews/<stage>-<step>.png."""
        if self.active:
            (self.folder / "previews").mkdir(parents=True, exist_ok=True)
            sheet.save(self.folder / "previews" / f"{self.stage}-{step:08d}.png")

    def close(self) -> None:
        if self.bar:
            self.bar.stop()


class _Bar:
    """stage, bar, time left, images per second, loss, memory."""

    def __init__(self) -> None:
        from rich import progress
        from rich.console import Console

        self.progress = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            speed_estimate_period=120,
        )
        self.progress.start()
        self.task = self.progress.add_task("", total=None, note="")
        self.began, self.images = time.monotonic(), 0

    def start(self, stage: str, total: float) -> None:
        self.progress.remove_task(self.task)
        self.task = self.progress.add_task(stage, total=total, note="")
        self.began, self.images = time.monotonic(), 0

    def update(self, done: float, images: int, loss: float, memory: float) -> None:
        self.images += images
        rate = self.images / max(time.monotonic() - self.began, 1e-9)
        self.progress.update(
            self.task, completed=done, note=f"{rate:.1f} images/s, loss {loss:.4f}, {memory / 2**30:.1f} GiB"
        )

    def stop(self) -> None:
        self.progress.stop()


def memory_used(device: torch.device) -> float:
    """Bytes: the peak of the GPU's allocations, or of this process on a CPU."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else peak * 1024)
