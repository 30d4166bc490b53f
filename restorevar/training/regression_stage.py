"""Regression stage: the yardstick learns the clean image from the degraded one directly (models/regression.py).

The same pairs, the same losses as the fidelity stage, the same validation crops: what differs is the method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..data.mixes import CLEAN
from ..data.pairs import Pairs, PairSource, to_model
from ..errors import UserError
from ..models import RegressionNet
from .image_loss import ImageLoss
from .losses import psnr, ssim
from .replay import Replay, Sample, Shape, Shapes
from .trainer import Preview, Schedule, Setting, Stage


@dataclass
class RegressionStage(Stage[RegressionNet]):
    """All of the network, on windows of `shapes`. The larger ones are for the channel attention: its means are taken
    over the window, and whole photos are larger still."""

    schedule: Schedule
    share: float = 1.0
    shapes: Shapes = field(default_factory=lambda: {(128, 128): 0.5, (192, 192): 0.25, (256, 256): 0.25})
    reuse: int = 2
    loss: ImageLoss = field(default_factory=lambda: ImageLoss(ssim=0.05, edges=0.3))
    validation_side: int = 256  #: as the fidelity stage of `compact`, to be compared with it
    name: str = "regression"

    def trainable(self, model: RegressionNet) -> list[nn.Module | nn.Parameter]:
        return [model]

    def setup(self, model: RegressionNet, setting: Setting) -> None:
        if self.loss.perceptual and self.loss.perceptual_kind == "encoder":
            raise UserError("regression: the perceptual loss of kind encoder needs a VQVAE; take vgg or lpips")
        self.source, self.device = setting.source, setting.device
        self.judge = self.loss.build(model, setting)  # type: ignore[arg-type]  # only "encoder" looks into the model
        self.critic = self.judge.critic
        self.replay: Replay = setting.replay(self, _both, self.shapes, size=256, reuse=self.reuse)

    def losses(self, model: RegressionNet, step: int, turn: int) -> dict[str, Tensor]:
        batch = self.replay.batch(step, turn)
        clean, degraded = (to_model(batch[name].to(self.device)) for name in ("clean", "degraded"))
        output = model(degraded)
        judged = self.judge(output, clean, model.conv_out.weight, step)
        before = psnr(degraded, clean).clamp_max(50)  # clean samples: else they are all one sees
        gain = (psnr(output.detach(), clean) - before).mean()
        return {"loss": judged.pop("image"), "gain": gain, **judged}

    def critic_loss(self, step: int) -> Tensor:
        return self.judge.critic_loss(step)

    def validate(self, model: RegressionNet) -> dict[str, float]:
        return gains(model.restore, self.source, self._shape, self.device)

    def score(self, figures: dict[str, float]) -> float:
        return figures["mean_gain"]

    def preview(self, model: RegressionNet) -> Preview:
        """Degraded, restored and clean: one crop a task."""
        tasks = self.source.validation_tasks()
        columns = []
        for task in tasks:
            clean, degraded = _validation_images(self.source, self._shape, task, 1, self.device)
            columns.append([degraded[0], model.restore(degraded)[0], clean[0]])
        return Preview(tasks, [list(row) for row in zip(*columns, strict=True)])

    @property
    def _shape(self) -> Shape:
        return self.validation_side, self.validation_side


def _both(pairs: Pairs) -> Sample:
    return {"clean": pairs.clean, "degraded": pairs.degraded}


def gains(
    restore: Callable[[Tensor], Tensor], source: PairSource, shape: Shape, device: torch.device, n: int = 12
) -> dict[str, float]:
    """The figures of `rollouts.gains`, of whatever restores (B, 3, h, w) in [-1, 1].

    dB gained on the degraded crop per task; for clean crops, dB of what came out; SSIM and the mean gain.
    """
    figures, structures = {}, []
    for task in source.validation_tasks():
        clean, degraded = _validation_images(source, shape, task, n, device)
        restored = restore(degraded)
        figures[task] = float((psnr(restored, clean) - (0 if task == CLEAN else psnr(degraded, clean))).mean())
        structures.append(float(ssim(restored, clean)))
    gained = [value for task, value in figures.items() if task != CLEAN]
    return figures | {"ssim": sum(structures) / len(structures), "mean_gain": sum(gained) / max(1, len(gained))}


def _validation_images(
    source: PairSource, shape: Shape, task: str, n: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Clean and degraded crops (n, 3, h, w) of one task, in [-1, 1]."""
    pairs = source.validation(n, *shape, task)
    return to_model(pairs.clean).to(device), to_model(pairs.degraded).to(device)
