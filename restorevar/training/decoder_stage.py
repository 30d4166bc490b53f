"""Decoder stage, in two steps: the decoder on continuous latents (paper section 3.4), then our fidelity branch."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.degradations import DEGRADATIONS
from ..data.pairs import PairSource, to_model
from ..models import RestoreVAR
from .losses import gradient_l1, psnr, ssim
from .replay import Sample, ShapedReplay
from .trainer import Schedule, Stage
from .transformer_stage import Shapes, rollout


@dataclass
class _OnRollouts(Stage):
    """What both steps share: a pool of (clean, degraded, refined latent)."""

    source: PairSource
    schedule: Schedule
    shapes: Shapes = field(default_factory=lambda: {(256, 256): 1.0})
    reuse: int = 3

    def __post_init__(self) -> None:
        self.replay: ShapedReplay | None = None

    def _batch(self, model: RestoreVAR) -> Sample:
        device = next(model.parameters()).device
        if self.replay is None:

            def make(n: int, height: int, width: int) -> Sample:
                pairs = self.source.pairs(n, height, width)
                refined = model.refine(*rollout(model, to_model(pairs.degraded).to(device)))
                return {"clean": pairs.clean, "degraded": pairs.degraded, "refined": refined.float().cpu()}

            self.replay = ShapedReplay(make, self.shapes, size=768, reuse=self.reuse)
        batch = {k: v.to(device) for k, v in self.replay.batch(self.schedule.batch).items()}
        return {
            "clean": to_model(batch["clean"]),
            "degraded": to_model(batch["degraded"]),
            "refined": batch["refined"].float(),
        }

    def _gains(self, model: RestoreVAR, fidelity: float | None) -> dict[str, float]:
        """PSNR of the restored minus PSNR of the degraded crop, per task; PSNR itself for clean crops."""
        device = next(model.parameters()).device
        figures = {}
        for task in [*DEGRADATIONS, "clean"]:
            pairs = self.source.validation(12, *next(iter(self.shapes)), task)
            clean, degraded = to_model(pairs.clean).to(device), to_model(pairs.degraded).to(device)
            refined = model.refine(*rollout(model, degraded))
            restored = psnr(model.decode(refined, degraded, fidelity), clean).mean()
            figures[task] = float(restored if task == "clean" else restored - psnr(degraded, clean).mean())
        return figures


@dataclass
class DecoderStage(_OnRollouts):
    """L1 + SSIM on (clean image, its continuous latent) and on refined rollouts; encoder and quantizer frozen."""

    rollouts: float = 0.5  #: share of each batch decoded from refined rollouts rather than from true latents
    ssim_weight: float = 0.2
    name: str = "decoder"

    def trainable(self, model: RestoreVAR) -> list[nn.Module | nn.Parameter]:
        return [model.vqvae.decoder, model.vqvae.post_quant_conv]

    def losses(self, model: RestoreVAR, step: int) -> dict[str, Tensor]:
        batch = self._batch(model)
        clean = batch["clean"]
        own = len(clean) - round(len(clean) * self.rollouts)
        with torch.no_grad():
            latent = torch.cat([model.vqvae.encode(clean[:own]).float(), batch["refined"][own:]])
        output = model.vqvae.decode_unclamped(latent)
        l1, structure = F.l1_loss(output, clean), 1 - ssim(output, clean)
        return {"loss": l1 + self.ssim_weight * structure, "l1": l1, "ssim": 1 - structure}

    def validate(self, model: RestoreVAR) -> dict[str, float]:
        return self._gains(model, 0.0)


@dataclass
class FidelityStage(_OnRollouts):
    """The fidelity branch at W = 1, and the decoder with it, on refined rollouts; encoder and quantizer frozen.

    The decoder has to learn to use what the branch brings, and must stay good without it: every few steps train the
    paper's path, W = 0.
    """

    ssim_weight: float = 0.05
    gradient_weight: float = 0.3
    paper_path_every: int = 6
    name: str = "fidelity"

    def trainable(self, model: RestoreVAR) -> list[nn.Module | nn.Parameter]:
        assert model.fidelity is not None, "this model has no fidelity branch"
        return [model.fidelity, model.vqvae.decoder, model.vqvae.post_quant_conv]

    def losses(self, model: RestoreVAR, step: int) -> dict[str, Tensor]:
        batch = self._batch(model)
        clean = batch["clean"]
        papers_path = (step + 1) % self.paper_path_every == 0
        output = model.decode_unclamped(batch["refined"], batch["degraded"], 0.0 if papers_path else 1.0)
        l1, structure, edges = F.l1_loss(output, clean), 1 - ssim(output, clean), gradient_l1(output, clean)
        losses = {"loss": l1 + self.ssim_weight * structure + self.gradient_weight * edges}
        if not papers_path:
            losses |= {"psnr": psnr(output, clean).mean(), "psnr_degraded": psnr(batch["degraded"], clean).mean()}
        return losses

    def validate(self, model: RestoreVAR) -> dict[str, float]:
        return self._gains(model, 1.0) | {f"{task}_at_0": gain for task, gain in self._gains(model, 0.0).items()}
