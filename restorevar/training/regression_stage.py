"""Regression stage: the yardstick learns the clean image from the degraded one directly (models/regression.py).

The same pairs, the same losses as the branch stage, the same validation crops: what differs is the method.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ..data.pairs import Pairs, to_model
from .image_loss import ImageLoss
from .losses import mean_gain
from .replay import Replay, Sample, Shape, Shapes
from .trainer import Schedule, Setting
from .validation import JudgedByGain, Restore


@dataclass
class RegressionStage(JudgedByGain[Any]):
    """All of the network, on windows of `shapes`.

    Small ones are many to a batch: what dims one photo and brightens another is learned from many. The larger ones are
    for the channel attention: its means are taken over the window, and whole photos are larger still.
    """

    schedule: Schedule
    share: float = 1.0
    shapes: Shapes = field(default_factory=lambda: {(64, 64): 0.5, (128, 128): 0.25, (256, 256): 0.25})
    reuse: int = 2
    mix: str = "train"  #: of MIXES; "detail" is what the branch of `compact` is shown
    loss: ImageLoss = field(default_factory=lambda: ImageLoss(l1=0.5, psnr=0.01, psnr_start=1500, edges=0.3))
    validation_side: int = 256  #: as the fidelity stage of `compact`, to be compared with it
    name: str = "regression"

    def trainable(self, model: Any) -> list[nn.Module | nn.Parameter]:
        return [model]

    def setup(self, model: Any, setting: Setting) -> None:
        setting = setting.drawn_by(self.name, self.mix)
        self.source, self.device = setting.source, setting.device
        self.judge = self.loss.build(model, setting)
        self.critic = self.judge.critic
        self.replay: Replay = setting.replay(self, model, _both, self.shapes, size=256, reuse=self.reuse)

    def losses(self, model: Any, step: int, turn: int) -> dict[str, Tensor]:
        batch = self.replay.batch(step, turn)
        clean, degraded = (to_model(batch[name].to(self.device)) for name in ("clean", "degraded"))
        output = model(degraded)
        judged = self.judge(output, clean, model.conv_out.weight, step)
        return {"loss": judged.pop("image"), "gain": mean_gain(output, degraded, clean), **judged}

    def critic_loss(self, step: int) -> Tensor:
        return self.judge.critic_loss(step)

    def restore_by(self, model: Any) -> Restore:
        return lambda degraded: model(degraded).clamp(-1, 1)

    @property
    def judged_shape(self) -> Shape:
        return self.validation_side, self.validation_side


def _both(pairs: Pairs) -> Sample:
    return {"clean": pairs.clean, "degraded": pairs.degraded}
