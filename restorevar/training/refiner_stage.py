"""Refiner stage: L1 to the clean image's continuous latent, on argmax rollouts of the frozen transformer."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor, nn

from ..data.pairs import PairSource, to_model
from ..models import RestoreVAR
from .losses import psnr
from .replay import Sample, ShapedReplay
from .trainer import Schedule, Stage
from .transformer_stage import Shapes, rollout


@dataclass
class RefinerStage(Stage):
    source: PairSource
    schedule: Schedule
    shapes: Shapes = field(default_factory=lambda: {(256, 256): 1.0})
    name: str = "refiner"

    def __post_init__(self) -> None:
        self.replay: ShapedReplay | None = None

    def trainable(self, model: RestoreVAR) -> list[nn.Module | nn.Parameter]:
        return [model.refiner]

    def losses(self, model: RestoreVAR, step: int) -> dict[str, Tensor]:
        batch = self._batch(model)
        f_hat, target = batch["f_hat"].float(), batch["target"].float()
        loss = F.l1_loss(model.refine(f_hat, batch["hidden"]), target)
        return {"loss": loss, "l1_unrefined": F.l1_loss(f_hat, target)}

    def validate(self, model: RestoreVAR) -> dict[str, float]:
        pairs = self.source.validation(16, *next(iter(self.shapes)))
        device = next(model.parameters()).device
        clean, degraded = to_model(pairs.clean).to(device), to_model(pairs.degraded).to(device)
        f_hat, hidden = rollout(model, degraded)
        refined = model.refine(f_hat, hidden)
        return {
            "psnr_rollout": float(psnr(model.vqvae.decode(f_hat), clean).mean()),
            "psnr_refined": float(psnr(model.vqvae.decode(refined), clean).mean()),
        }

    def _batch(self, model: RestoreVAR) -> Sample:
        device = next(model.parameters()).device
        if self.replay is None:

            def make(n: int, height: int, width: int) -> Sample:
                pairs = self.source.pairs(n, height, width)
                f_hat, hidden = rollout(model, to_model(pairs.degraded).to(device))
                target = model.vqvae.encode(to_model(pairs.clean).to(device))
                return {"f_hat": f_hat.float(), "hidden": hidden.bfloat16(), "target": target.float()}

            self.replay = ShapedReplay(make, self.shapes, size=1024, reuse=4)
        return self.replay.batch(self.schedule.batch)
