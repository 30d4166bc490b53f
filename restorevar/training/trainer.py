"""The one training loop. A stage says what is trainable and returns its losses for a batch; the rest is here."""

from __future__ import annotations

import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints import save_model
from ..models import RestoreVAR


@dataclass(frozen=True)
class Schedule:
    """How one stage is optimised. It ends after `seconds` of training or `steps`, whichever comes first."""

    lr: float
    batch: int
    seconds: float = math.inf
    steps: int = 1_000_000_000
    warmup_steps: int = 50
    weight_decay: float = 0.0
    clip: float = 1.0
    ema: float = 0.0  #: decay of the averaged weights that are kept in the end; 0 keeps the last ones
    checkpoint_seconds: float = 120.0
    validate_seconds: float = 300.0

    def rate(self, step: int, elapsed: float) -> float:
        """Learning rate: linear warm-up, then a cosine to 2 % over the budget of time or steps."""
        done = min(1.0, max(elapsed / self.seconds, step / self.steps))
        return self.lr * min(1.0, (step + 1) / self.warmup_steps) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


class Stage(ABC):
    """One stage of the paper's training."""

    name: str
    schedule: Schedule

    @abstractmethod
    def trainable(self, model: RestoreVAR) -> list[nn.Module | nn.Parameter]:
        """What this stage trains; everything else is frozen."""

    @abstractmethod
    def losses(self, model: RestoreVAR, step: int) -> dict[str, Tensor]:
        """Losses of one fresh batch. "loss" is minimised, the others are logged."""

    @abstractmethod
    def validate(self, model: RestoreVAR) -> dict[str, float]:
        """Figures on fixed held-out crops."""

    def start(self, model: RestoreVAR) -> None:  # noqa: B027
        """Called once, before the first step of a fresh (not resumed) stage."""

    def after_step(self, model: RestoreVAR, step: int) -> None:  # noqa: B027
        """Called after each optimiser step."""


def _parameters(parts: list[nn.Module | nn.Parameter]) -> list[nn.Parameter]:
    found: list[nn.Parameter] = []
    for part in parts:
        found.extend([part] if isinstance(part, nn.Parameter) else part.parameters())
    return found


def fit(model: RestoreVAR, stage: Stage, run: Path, device: torch.device, precision: torch.dtype) -> None:
    """Train one stage, resuming from its checkpoint in `run` if there is one; ends with `run/<stage>.done`.

    Every figure goes to `run/log.jsonl`. The model ends with the stage's (averaged) weights, also saved in
    `run/model`, which `--model` takes.
    """
    done, checkpoint = run / f"{stage.name}.done", run / f"{stage.name}.checkpoint.pt"
    if done.exists():
        return
    log = Log(run / "log.jsonl", stage.name)
    schedule = stage.schedule
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    parameters = _parameters(stage.trainable(model))
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, lr=schedule.lr, betas=(0.9, 0.95), weight_decay=schedule.weight_decay)
    average = Average(parameters, schedule.ema)
    step, elapsed = 0, 0.0
    if checkpoint.exists():
        step, elapsed = _resume(checkpoint, model, optimizer, average)
        log.write(step, elapsed, event="resumed")
    else:
        stage.start(model)
    model.train()
    last_check = last_valid = elapsed
    while step < schedule.steps and elapsed < schedule.seconds:
        began = time.monotonic()
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step, elapsed)
        with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
            losses = stage.losses(model, step)
        optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        norm = nn.utils.clip_grad_norm_(parameters, schedule.clip)
        if torch.isfinite(norm):  # one bad batch must not ruin hours
            optimizer.step()
        average.update()
        stage.after_step(model, step)
        step += 1
        elapsed += min(time.monotonic() - began, 60.0)  # a paused process must not spend its budget
        log.add(losses, norm)
        if step % 20 == 0:
            log.flush(step, elapsed, optimizer.param_groups[0]["lr"])
        if elapsed - last_valid > schedule.validate_seconds:
            last_valid = elapsed
            log.write(step, elapsed, **_validate(model, stage, average, device, precision))
        if elapsed - last_check > schedule.checkpoint_seconds:
            last_check = elapsed
            _save(checkpoint, model, optimizer, average, step, elapsed)
    average.keep()
    log.write(step, elapsed, event="done", **_validate(model, stage, None, device, precision))
    save_model(model, run / "model")
    done.write_text(f"{step} steps, {elapsed:.0f} s\n")
    checkpoint.unlink(missing_ok=True)


def _validate(
    model: RestoreVAR, stage: Stage, average: Average | None, device: torch.device, precision: torch.dtype
) -> dict[str, float]:
    model.eval()
    with torch.no_grad(), torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
        if average is None:
            figures = stage.validate(model)
        else:
            with average.swapped():
                figures = stage.validate(model)
    model.train()
    return {f"valid/{name}": value for name, value in figures.items()}


class Average:
    """Exponential moving average of the trained parameters."""

    def __init__(self, parameters: list[nn.Parameter], decay: float):
        self.parameters = parameters
        self.decay = decay
        self.steps = 0
        self.values = [p.detach().clone() for p in parameters] if decay else []

    @torch.no_grad()
    def update(self) -> None:
        self.steps += 1
        if self.values:
            decay = min(self.decay, self.steps / (self.steps + 10))
            torch._foreach_lerp_(self.values, [p.detach() for p in self.parameters], 1 - decay)

    @torch.no_grad()
    def keep(self) -> None:
        for parameter, value in zip(self.parameters, self.values, strict=bool(self.values)):
            parameter.copy_(value)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside, the model has the averaged weights."""
        raw = [p.detach().clone() for p in self.parameters] if self.values else []
        self.keep()
        yield
        with torch.no_grad():
            for parameter, value in zip(self.parameters, raw, strict=bool(raw)):
                parameter.copy_(value)


class Log:
    """JSON lines in the run folder: means of the losses over the last steps, and events."""

    def __init__(self, path: Path, stage: str):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.stage = path, stage
        self.values: dict[str, list[float]] = {}

    def add(self, losses: dict[str, Tensor], norm: Tensor) -> None:
        for name, value in (losses | {"grad": norm}).items():
            self.values.setdefault(name, []).append(float(value.detach()))

    def flush(self, step: int, elapsed: float, lr: float) -> None:
        self.write(step, elapsed, lr=lr, **{name: sum(v) / len(v) for name, v in self.values.items()})
        self.values = {}

    def write(self, step: int, elapsed: float, **values: Any) -> None:
        rounded = {k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in values.items()}
        line = {"stage": self.stage, "step": step, "seconds": round(elapsed, 1)} | rounded
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def _save(
    path: Path, model: RestoreVAR, optimizer: torch.optim.Optimizer, average: Average, step: int, elapsed: float
) -> None:
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average.values,
        "average_steps": average.steps,
        "step": step,
        "elapsed": elapsed,
    }
    temporary = path.with_suffix(".part")
    torch.save(state, temporary)
    temporary.replace(path)


def _resume(path: Path, model: RestoreVAR, optimizer: torch.optim.Optimizer, average: Average) -> tuple[int, float]:
    state = torch.load(path, weights_only=True, map_location="cpu")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    if average.values:
        torch._foreach_copy_(
            average.values, [v.to(p) for v, p in zip(state["average"], average.parameters, strict=True)]
        )
    average.steps = state["average_steps"]
    return state["step"], state["elapsed"]
