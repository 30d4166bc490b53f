"""Transformer stage: teacher forcing, cross-entropy over all scales with equal token weight (paper section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.pairs import PairSource, to_model
from ..models import RestoreVAR
from .losses import psnr
from .replay import Sample, ShapedReplay
from .trainer import Schedule, Stage

Shapes = dict[tuple[int, int], float]


@dataclass
class TransformerStage(Stage):
    """Predicts the clean image's tokens; the frozen VQVAE turns pairs into (condition, tokens) in a pool."""

    source: PairSource
    schedule: Schedule
    shapes: Shapes = field(default_factory=lambda: {(256, 256): 1.0})  #: window sizes in pixels and their weights
    token_noise: float = 0.0  #: share of teacher-forced tokens replaced at random, against exposure bias
    name: str = "transformer"

    def __post_init__(self) -> None:
        self.replay: ShapedReplay | None = None

    def trainable(self, model: RestoreVAR) -> list[nn.Module | nn.Parameter]:
        return [model.transformer]

    def start(self, model: RestoreVAR) -> None:
        if model.config.transformer.aligned_condition:
            vqvae = model.vqvae
            model.transformer.start_as_identity(vqvae.quant_conv, vqvae.quantizer.codebook.weight)

    def losses(self, model: RestoreVAR, step: int) -> dict[str, Tensor]:
        batch = self._batch(model)
        condition, target_BL = batch["condition"], batch["tokens"].long()
        grid = (condition.shape[-2], condition.shape[-1])
        bounds = model.config.scales.bounds(grid)
        read_BL = self._noisy(target_BL, model.config.vqvae.codebook_size)
        with torch.no_grad(), torch.autocast(condition.device.type, enabled=False):
            teacher = model.vqvae.quantizer.teacher_forcing_input([read_BL[:, a:b] for a, b in bounds], grid)
        logits_BLV, _ = model.transformer(teacher, condition)
        loss = F.cross_entropy(logits_BLV.flatten(0, 1), target_BL.flatten())
        right_BL = (logits_BLV.argmax(-1) == target_BL).float()
        coarse, fine = bounds[5][1] if len(bounds) > 5 else bounds[-2][1], bounds[-1]
        return {
            "loss": loss,
            "accuracy_coarse": right_BL[:, :coarse].mean(),
            "accuracy_last": right_BL[:, fine[0] : fine[1]].mean(),
        }

    def validate(self, model: RestoreVAR) -> dict[str, float]:
        """Free-running, not teacher-forced: high token accuracy can hide a bad rollout."""
        pairs = self.source.validation(16, *next(iter(self.shapes)))
        device = next(model.parameters()).device
        clean, degraded = to_model(pairs.clean).to(device), to_model(pairs.degraded).to(device)
        f_hat, _ = rollout(model, degraded)
        target = model.vqvae.encode(clean).float()
        return {
            "psnr_degraded": float(psnr(degraded, clean).mean()),
            "psnr_rollout": float(psnr(model.vqvae.decode(f_hat), clean).mean()),
            "latent_error": float((f_hat - target).square().mean() / target.var()),
        }

    def _batch(self, model: RestoreVAR) -> Sample:
        device = next(model.parameters()).device
        if self.replay is None:

            def make(n: int, height: int, width: int) -> Sample:
                pairs = self.source.pairs(n, height, width)
                condition = model.vqvae.encode_condition(to_model(pairs.degraded).to(device))
                latent = model.vqvae.encode(to_model(pairs.clean).to(device)).float()
                with torch.autocast(device.type, enabled=False):
                    tokens = torch.cat(model.vqvae.quantizer.tokenize(latent), 1)
                return {"condition": condition.float(), "tokens": tokens.to(torch.int16)}

            self.replay = ShapedReplay(make, self.shapes, size=4096, reuse=4)
        return self.replay.batch(self.schedule.batch)

    def _noisy(self, tokens_BL: Tensor, codes: int) -> Tensor:
        if self.token_noise == 0:
            return tokens_BL
        replace = torch.rand(tokens_BL.shape, device=tokens_BL.device) < self.token_noise
        return torch.where(replace, torch.randint_like(tokens_BL, codes), tokens_BL)


def rollout(model: RestoreVAR, degraded_B3HW: Tensor) -> tuple[Tensor, Tensor]:
    """Frozen rollout from degraded images: (f_hat, hidden)."""
    with torch.no_grad():
        return model.generate(model.vqvae.encode_condition(degraded_B3HW))
