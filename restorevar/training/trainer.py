"""The one training loop. A stage says what is trainable and returns its losses for a batch; the rest is here."""

from __future__ import annotations

import hashlib
import json
import math
import signal
import threading
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import torch
from PIL import Image
from torch import Tensor, nn

from ..checkpoints import save_model
from ..data.mixes import MIXES
from ..data.pairs import PairSource
from ..errors import UserError
from ..models import Model
from .average import Average
from .checkpointing import Checkpoint, Checkpoints
from .replay import Make, Replay, Shapes, Share
from .reporting import Report
from .sharding import clip_gradients, gathered, load_sharded_state, shard, sharded_state, whole

if TYPE_CHECKING:
    from accelerate import Accelerator

#: The kind of network that a stage trains.
M = TypeVar("M", bound=Model)

#: A run stops after so many steps in a row whose loss or gradient is not a number.
MAX_BAD_STEPS = 10


@dataclass(frozen=True)
class Schedule:
    """How one stage is optimised. It ends after `seconds` of training, `steps` or `epochs`, whichever comes first."""

    lr: float
    batch: int  #: of all processes together
    seconds: float = math.inf
    steps: int = 1_000_000_000
    epochs: float = math.inf  #: an epoch draws as many samples as there are photographs and pairs
    warmup_steps: int = 50
    decay: Literal["cosine", "linear"] = "cosine"
    floor: float = 0.02  #: what is left of the rate at the end
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0
    ema: float = 0.0  #: decay of the averaged weights that are kept in the end; 0 keeps the last ones
    checkpoint_seconds: float = 120.0
    validate_seconds: float = 300.0

    def done(self, step: int, elapsed: float) -> float:
        """Share of the stage that is behind, 0 to 1."""
        return min(1.0, max(elapsed / self.seconds, step / self.steps))

    def rate(self, step: int, elapsed: float) -> float:
        """Learning rate: linear warm-up, then down to the floor over the budget of time or steps."""
        done = self.done(step, elapsed)
        left = 0.5 * (1 + math.cos(math.pi * done)) if self.decay == "cosine" else 1 - done
        return self.lr * min(1.0, (step + 1) / self.warmup_steps) * (self.floor + (1 - self.floor) * left)

    def resolved(self, images: int) -> Schedule:
        """Epochs turned into steps."""
        if math.isinf(self.epochs):
            return self
        return replace(self, steps=min(self.steps, max(1, round(self.epochs * images / self.batch))), epochs=math.inf)


@dataclass
class Setting:
    """What every stage of a run shares: data, device, the processes, and options of the engine."""

    source: PairSource
    folder: Path
    accelerator: Accelerator
    report: Report
    accumulate: int = 1
    workers: int = 0  #: processes that decode and degrade; 0: the training process itself
    cache: bool = False  #: keep what frozen parts made on disk
    compile: bool = False
    checkpointing: bool = False  #: recompute activations of the transformer instead of keeping them
    shard: bool = False  #: weights, gradients and optimiser states spread over the processes (FSDP)

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    @property
    def share(self) -> Share:
        return Share(self.accelerator.process_index, self.accelerator.num_processes, self.accumulate)

    def drawn_by(self, stage: str, mix: str) -> Setting:
        """The same photographs, degraded by another mix of MIXES. Raises UserError where there is none of that name."""
        if mix not in MIXES:
            raise UserError(f"{stage}.mix={mix}: no such mix; there are {', '.join(MIXES)}")
        return replace(self, source=self.source.drawn_by(MIXES[mix]))

    def replay(self, stage: Stage, model: Model, make: Make, shapes: Shapes, size: int, reuse: int) -> Replay:
        """The stage's samples."""
        # The digest takes seconds for a large model; without a cache nothing outlives this process that it could name.
        cache = self.folder / "cache" / f"{stage.name}-{self._made_from(model)}" if self.cache else None
        return Replay(
            make, self.source, stage.name, shapes, stage.schedule.batch, self.share, size, reuse, self.workers, cache
        )

    def _made_from(self, model: Model) -> str:
        """Of frozen weights, config, precision and data: samples made from others must not be taken for these.

        Trained weights do not count, for what a stage keeps must come from frozen ones. The config does: how a rollout
        chooses its codes is no weight.
        """
        origin = (self.source.fingerprint(), self.source.seed, self.accelerator.mixed_precision, model.config.to_dict())
        digest = hashlib.sha256(json.dumps(origin).encode())
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                digest.update(name.encode())
                digest.update(parameter.detach().float().contiguous().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]


@dataclass
class Preview:
    """Fixed validation photos: rows of (3, H, W) images in [-1, 1], one column a task."""

    columns: list[str]
    rows: list[list[Tensor]] = field(default_factory=list)

    def sheet(self) -> Image.Image:
        from ..data.synthesis import contact_sheet

        to_u8 = [[x.clamp(-1, 1).add(1).mul(127.5).round().byte().cpu() for x in row] for row in self.rows]
        return contact_sheet(to_u8, self.columns)


class Stage(ABC, Generic[M]):
    """One stage of the paper's training."""

    name: str
    schedule: Schedule
    share: float  #: of a time budget
    #: Whether its weights may be spread over processes. Not where it writes into them by itself.
    shardable: bool = True
    #: A discriminator, trained against the model, where the stage has one.
    critic: nn.Module | None = None
    #: Its samples, once it is set up; closed when it ends.
    replay: Replay | None = None

    @abstractmethod
    def trainable(self, model: M) -> list[nn.Module | nn.Parameter]:
        """What this stage trains; everything else is frozen."""

    def setup(self, model: M, setting: Setting) -> None:
        """Called before the first step, of a resumed stage too: prepare the samples."""

    @abstractmethod
    def losses(self, model: M, step: int, turn: int) -> dict[str, Tensor]:
        """Losses of this process's samples of a step. "loss" is minimised, the others are logged."""

    def critic_loss(self, step: int) -> Tensor:
        """Of what the model made in the last `losses`; only where there is a critic."""
        raise NotImplementedError

    @abstractmethod
    def validate(self, model: M) -> dict[str, float]:
        """Figures on fixed held-out crops."""

    def score(self, figures: dict[str, float]) -> float:
        """One number of `validate`'s that is better when higher: by it the best weights are kept."""
        return -math.inf

    def preview(self, model: M) -> Preview | None:
        """Pictures of fixed held-out crops."""
        return None

    def start(self, model: M) -> None:
        """Called once, before the first step of a fresh (not resumed) stage."""

    def after_step(self, model: M, step: int) -> None:
        """Called after each optimiser step."""

    def state(self) -> dict[str, Tensor]:
        """What else a resumed stage needs, beside weights and optimiser."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""


class Objective(nn.Module):
    """A stage as one module with one forward: what DDP and FSDP wrap, so that gradients really are reduced."""

    def __init__(self, stage: Stage, model: Model):
        super().__init__()
        self.model = model
        self._stage = [stage]  # in a list: nothing of the stage is a part of this module

    def forward(self, step: int, turn: int) -> dict[str, Tensor]:
        return self._stage[0].losses(self.model, step, turn)


class CriticObjective(nn.Module):
    """The same for the discriminator."""

    def __init__(self, stage: Stage):
        super().__init__()
        self.critic = stage.critic
        self._stage = [stage]

    def forward(self, step: int) -> Tensor:
        return self._stage[0].critic_loss(step)


def fit(model: Model, stage: Stage, setting: Setting) -> None:
    """Train one stage, resuming from its newest whole checkpoint if there is one; ends with `<stage>.done`.

    Every figure goes to `log.jsonl`. The model ends with the stage's (averaged) weights, also saved in `model/`,
    which `--model` takes; `best/` holds the weights that scored best in validation.
    Raises KeyboardInterrupt after SIGINT or SIGTERM, with a checkpoint written; UserError when training broke down.
    """
    done = setting.folder / f"{stage.name}.done"
    if done.exists():
        return
    loop = _Loop(model, stage, setting)
    try:
        with _stoppable() as stopped:
            loop.run(stopped)
    finally:
        if stage.replay is not None:
            stage.replay.close()
    if setting.accelerator.is_main_process:
        done.write_text(f"{loop.step} steps, {loop.elapsed:.0f} s\n")
        loop.checkpoints.clear()
    setting.accelerator.wait_for_everyone()


class _Loop:
    def __init__(self, model: Model, stage: Stage, setting: Setting):
        self.model, self.stage, self.setting = model, stage, setting
        self.accelerator, self.report = setting.accelerator, setting.report
        self.report.start(stage.name, total=1.0)
        batch = setting.share.round_up(stage.schedule.batch)
        stage.schedule = replace(stage.schedule, batch=batch).resolved(setting.source.size)
        self.schedule = stage.schedule
        self.checkpoints = Checkpoints(setting.folder / "checkpoints", stage.name)
        self.step, self.elapsed, self.best, self.bad = 0, 0.0, -math.inf, 0
        self.parameters = _freeze_all_but(model, stage)
        torch.manual_seed(self._seed("setup"))
        stage.setup(model, setting)
        self.checkpoint = self.checkpoints.load_newest(self._warn)
        if self.checkpoint is not None:
            self._restore_weights(self.checkpoint)
        else:
            stage.start(model)
        self._prepare()
        if self.checkpoint is not None:
            self._restore_rest(self.checkpoint)
            self.report.write(self.step, self.elapsed, event="resumed")

    # ------------------------------------------------------------------------------------------------ set up

    def _prepare(self) -> None:
        """Optimisers and wrappers. What is wrapped is the objective; `self.model` stays the plain model inside."""
        schedule = self.schedule

        def adamw(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
            return torch.optim.AdamW(
                parameters, lr=schedule.lr, betas=schedule.betas, weight_decay=schedule.weight_decay
            )

        if self.setting.compile:
            _compile(self.stage, self.model)
        objective = Objective(self.stage, self.model)
        self.sharded = self.setting.shard and self.stage.shardable and self.accelerator.num_processes > 1
        if self.sharded:
            self.parameters = shard(objective, self.model, self.setting.device)
            self.objective, self.optimizer = objective, adamw(list(self.parameters.values()))
        else:
            self.objective, self.optimizer = self.accelerator.prepare(objective, adamw(list(self.parameters.values())))
        self.critic: Any = None
        if self.stage.critic is not None:
            critic = CriticObjective(self.stage)
            self.critic, self.critic_optimizer = self.accelerator.prepare(critic, adamw(list(critic.parameters())))
        self.average = Average(self.parameters, schedule.ema)

    # ------------------------------------------------------------------------------------------------ the loop

    def run(self, stopped: threading.Event) -> None:
        schedule = self.schedule
        self.model.train()
        last_saved = last_valid = self.elapsed
        while self._agree(self.step < schedule.steps and self.elapsed < schedule.seconds):
            began = time.monotonic()
            figures = self._one_step()
            self.step += 1
            # A paused process must not spend its budget; all processes must see the same time.
            self.elapsed += self._of_first(min(time.monotonic() - began, 60.0))
            self.report.step(figures, schedule.done(self.step, self.elapsed), schedule.batch, self.setting.device)
            if self.step % 20 == 0:
                self.report.flush(self.step, self.elapsed, **self._engine_figures())
            if self.elapsed - last_valid > schedule.validate_seconds:
                last_valid = self.elapsed
                self._validate()
            if self._agree(stopped.is_set(), any_of=True):
                self._save()
                raise KeyboardInterrupt
            if self.elapsed - last_saved > schedule.checkpoint_seconds:
                last_saved = self.elapsed
                self._save()
        self.average.keep()
        self._validate(event="done", averaged=False)
        state = self._weights()
        if self.accelerator.is_main_process:
            save_model(self.model, self.setting.folder / "model", state=state)

    def _one_step(self) -> dict[str, float]:
        """One optimiser step on one global batch; returns this process's figures."""
        accumulate = self.setting.accumulate
        torch.manual_seed(self._seed(self.step, self.accelerator.process_index))
        for optimizer in self._optimizers():
            for group in optimizer.param_groups:
                group["lr"] = self.schedule.rate(self.step, self.elapsed)
            optimizer.zero_grad(set_to_none=True)
        sums: dict[str, float] = {}
        for turn in range(accumulate):
            with self._reducing(self.objective, turn == accumulate - 1), self.accelerator.autocast():
                losses = self.objective(self.step, turn)
            self.accelerator.backward(losses["loss"] / accumulate)
            if self.critic is not None:
                with self._reducing(self.critic, turn == accumulate - 1), self.accelerator.autocast():
                    losses["critic"] = self.critic(self.step)
                self.accelerator.backward(losses["critic"] / accumulate)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) / accumulate
        norm = self._update(sums["loss"])
        return sums | {"grad": norm}

    def _seed(self, *key: object) -> int:
        """Of all that is drawn in one step: nothing need be remembered for a resumed run to draw the same."""
        return zlib.crc32("/".join(map(str, (self.setting.source.seed, self.stage.name, *key))).encode())

    def _update(self, loss: float) -> float:
        """Clip and step, unless the numbers have gone bad: one bad batch must not ruin hours."""
        parameters, limit = list(self.parameters.values()), self.schedule.clip
        if self.sharded:
            norm = clip_gradients(parameters, limit, self.accelerator)
        else:
            norm = float(self.accelerator.clip_grad_norm_(parameters, limit))
        good = self._agree(math.isfinite(norm) and math.isfinite(loss))
        if good or self.accelerator.scaler is not None:  # the scaler of fp16 skips by itself, and must be told
            self.optimizer.step()
            self.average.update()
            if self.critic is not None:
                self.critic_optimizer.step()
        self.bad = 0 if good else self.bad + 1
        if not good:
            self._warn(f"{self.stage.name}, step {self.step}: loss {loss}, gradient {norm}; step left out")
        if self.bad >= MAX_BAD_STEPS:
            raise UserError(
                f"{self.stage.name}: {self.bad} steps in a row gave no number; lower the rate, or use --dtype fp32. "
                f"The last checkpoint is good"
            )
        self.stage.after_step(self.model, self.step)
        return norm

    @contextmanager
    def _reducing(self, wrapped: nn.Module, last: bool) -> Iterator[None]:
        """Gradients travel between processes at the last turn only."""
        if last or not hasattr(wrapped, "no_sync"):
            yield
        else:
            with self.accelerator.no_sync(wrapped):
                yield

    def _optimizers(self) -> list[Any]:
        return [self.optimizer] + ([self.critic_optimizer] if self.critic is not None else [])

    def _engine_figures(self) -> dict[str, float]:
        figures = {
            "lr": self.optimizer.param_groups[0]["lr"],
            "images_per_s": self.step * self.schedule.batch / max(self.elapsed, 1e-9),
        }
        if self.stage.replay is not None:
            figures["waiting"] = self.stage.replay.waited / max(self.elapsed, 1e-9)
        return figures

    # --------------------------------------------------------------------------------- figures and checkpoints

    def _validate(self, averaged: bool = True, **more: Any) -> None:
        """By the first process alone; the others wait."""
        with self.average.swapped(averaged):
            state = self._weights()
            with gathered(self.objective, self.sharded):
                if self.accelerator.is_main_process:
                    self.model.eval()
                    self._look(state, **more)
                    self.model.train()
                self.accelerator.wait_for_everyone()

    def _weights(self) -> dict[str, Tensor]:
        """Whole; where they are spread, all processes must ask."""
        return {name: whole(value) for name, value in self.model.state_dict().items()}

    @torch.no_grad()
    def _look(self, state: dict[str, Tensor], **more: Any) -> None:
        with self.accelerator.autocast():
            figures = self.stage.validate(self.model)
            preview = self.stage.preview(self.model)
        score = self.stage.score(figures)
        if score > self.best:
            self.best = score
            about = {"stage": self.stage.name, "step": self.step}
            save_model(self.model, self.setting.folder / "best", metadata=about, state=state)
        named = {f"valid/{name}": value for name, value in figures.items()}
        self.report.write(self.step, self.elapsed, **named, **more)
        if preview is not None:
            self.report.picture(preview.sheet(), self.step)

    def _save(self) -> None:
        # All processes take part where the weights are spread; the first one writes.
        weights = {
            "model": self._weights(),
            "average": {name: whole(value) for name, value in self.average.values.items()},
            "stage": self.stage.state(),
        }
        optimizer = {"optimizer": self._optimizer_state(), "average_steps": self.average.steps}
        if self.accelerator.is_main_process:
            self._write(weights, optimizer)
        self.accelerator.wait_for_everyone()

    def _write(self, weights: dict[str, dict[str, Tensor]], optimizer: dict[str, Any]) -> None:
        if self.critic is not None and self.stage.critic is not None:
            weights["critic"] = self.stage.critic.state_dict()
            optimizer["critic_optimizer"] = self.critic_optimizer.state_dict()
        if self.accelerator.scaler is not None:
            optimizer["scaler"] = self.accelerator.scaler.state_dict()
        about = {
            "model": self.model.config.to_dict(),
            "data": self.setting.source.fingerprint(),
            "seed": self.setting.source.seed,
            "best": self.best if math.isfinite(self.best) else None,
        }
        weights = {name: tensors for name, tensors in weights.items() if tensors}
        self.checkpoints.save(Checkpoint(self.step, self.elapsed, weights, optimizer, about))

    def _optimizer_state(self) -> dict[str, Any]:
        return sharded_state(self.objective, self.optimizer) if self.sharded else self.optimizer.state_dict()

    def _restore_weights(self, checkpoint: Checkpoint) -> None:
        try:
            self.model.load_state_dict(checkpoint.weights["model"])
        except RuntimeError:
            folder = self.checkpoints.folder
            raise UserError(f"{folder}: holds checkpoints of another model; give another --out") from None
        if self.stage.critic is not None:
            self.stage.critic.load_state_dict(checkpoint.weights["critic"])
        if checkpoint.about["data"] != self.setting.source.fingerprint():
            self._warn("the training data is not what it was when this run was last saved; going on with it as it is")

    def _restore_rest(self, checkpoint: Checkpoint) -> None:
        saved = checkpoint.optimizer
        self.step, self.elapsed = checkpoint.step, checkpoint.elapsed
        self.best = -math.inf if checkpoint.about["best"] is None else checkpoint.about["best"]
        if self.sharded:
            load_sharded_state(self.objective, self.optimizer, saved["optimizer"])
        else:
            self.optimizer.load_state_dict(saved["optimizer"])
        if self.critic is not None:
            self.critic_optimizer.load_state_dict(saved["critic_optimizer"])
        if self.accelerator.scaler is not None and "scaler" in saved:
            self.accelerator.scaler.load_state_dict(saved["scaler"])
        self.average.load(checkpoint.weights.get("average", {}), saved["average_steps"])
        self.stage.load_state(checkpoint.weights.get("stage", {}))

    # ------------------------------------------------------------------------------------- between processes

    def _agree(self, value: bool, any_of: bool = False) -> bool:
        """Whether it holds in all processes, or in any: they must take the same turns."""
        if self.accelerator.num_processes == 1:
            return value
        count = self.accelerator.reduce(torch.tensor(float(value), device=self.setting.device), "sum").item()
        return bool(count > 0 if any_of else count == self.accelerator.num_processes)

    def _of_first(self, value: float) -> float:
        if self.accelerator.num_processes == 1:
            return value
        mine = value if self.accelerator.is_main_process else 0.0
        return float(self.accelerator.reduce(torch.tensor(mine, dtype=torch.float64).to(self.setting.device), "sum"))

    def _warn(self, message: str) -> None:
        self.report.warn(message, self.step, self.elapsed)


def _freeze_all_but(model: Model, stage: Stage) -> dict[str, nn.Parameter]:
    """The stage's parameters by name; all others stop asking for gradients."""
    parts = stage.trainable(model)
    chosen = {id(p) for part in parts for p in ([part] if isinstance(part, nn.Parameter) else part.parameters())}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _compile(stage: Stage, model: Model) -> None:
    """torch.compile of what is trained, part by part: state dicts keep their names."""
    for part in stage.trainable(model):
        if isinstance(part, nn.Module):
            part.compile()


@contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM set the event instead of killing; a second one does as usual."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: Any) -> None:
        stopped.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, stop)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
