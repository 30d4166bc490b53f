"""Refiner stage: L1 to the clean image's continuous latent, on rollouts of the frozen transformer (paper 3.4)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor, nn

from ..models import RestoreVAR
from .losses import psnr
from .replay import Replay, Shapes
from .rollouts import restoring, rollout, rollout_samples
from .trainer import Preview, Schedule, Setting, Stage
from .validation import preview, validation_images


@dataclass
class RefinerStage(Stage):
    """Trains whichever refiner the model has; a model without one has nothing to train here."""

    schedule: Schedule
    share: float = 1.0
    shapes: Shapes = field(default_factory=lambda: {(256, 256): 1.0})
    reuse: int = 4
    name: str = "refiner"

    def trainable(self, model: RestoreVAR) -> list[nn.Module | nn.Parameter]:
        return [model.refiner]

    def setup(self, model: RestoreVAR, setting: Setting) -> None:
        self.source, self.device = setting.source, setting.device
        make = rollout_samples(model, setting.device, images=False)
        self.replay: Replay = setting.replay(self, model, make, self.shapes, size=768, reuse=self.reuse)

    def losses(self, model: RestoreVAR, step: int, turn: int) -> dict[str, Tensor]:
        batch = {name: value.to(self.device) for name, value in self.replay.batch(step, turn).items()}
        loss = model.refiner.loss(batch["f_hat"], batch["hidden"], batch["target"])
        return {"loss": loss, "l1_unrefined": F.l1_loss(batch["f_hat"], batch["target"])}

    def validate(self, model: RestoreVAR) -> dict[str, float]:
        figures: dict[str, float] = {}
        for task in self.source.validation_tasks():
            clean, degraded = validation_images(self.source, next(iter(self.shapes)), task, 8, self.device)
            f_hat, hidden = rollout(model, degraded)
            for name, latent in (("rollout", f_hat), ("refined", model.refine(f_hat, hidden))):
                figures[f"psnr_{name}_{task}"] = float(psnr(model.vqvae.decode(latent), clean).mean())
        for name in ("rollout", "refined"):
            values = [v for k, v in figures.items() if k.startswith(f"psnr_{name}_")]
            figures[f"psnr_{name}"] = sum(values) / len(values)
        return figures

    def score(self, figures: dict[str, float]) -> float:
        return figures["psnr_refined"]

    def preview(self, model: RestoreVAR) -> Preview:
        return preview([restoring(model, 0.0)], self.source, next(iter(self.shapes)), self.device)
