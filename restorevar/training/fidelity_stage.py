"""Fidelity stage, ours: the branch that brings detail from the degraded image (models/fidelity.py)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor, nn

from ..models import RestoreVAR
from ..models.fidelity import FidelityBranch
from .decoder_stage import OnRollouts
from .image_loss import ImageLoss
from .losses import psnr
from .regression_stage import RegressionStage
from .rollouts import restoring
from .trainer import Preview
from .validation import gains, preview


@dataclass
class BranchStage(RegressionStage):
    """The branch by itself first, as a regression: many cheap steps before the dear ones with rollouts and decoder.

    Together from the start, the branch had learned less after the same time (docs/log.md).
    """

    name: str = "branch"

    def trainable(self, model: RestoreVAR) -> list[nn.Module | nn.Parameter]:
        branch = _branch(model)
        return [branch.conv_in, branch.encoder, branch.downs, branch.middle, branch.ups, branch.decoder, branch.detail]

    def run(self, model: RestoreVAR, degraded: Tensor) -> Tensor:
        return _branch(model).alone(degraded)

    def last_layer(self, model: RestoreVAR) -> Tensor:
        return _branch(model).detail.weight


def _branch(model: RestoreVAR) -> FidelityBranch:
    assert model.fidelity is not None, "this model has no fidelity branch"
    return model.fidelity


@dataclass
class FidelityStage(OnRollouts):
    """The fidelity branch at W = 1, with refiner and decoder, on rollouts of the frozen transformer.

    The decoder has to learn to use what the branch brings, and must stay good without it: every few steps train the
    paper's path, W = 0. The refiner goes on with its own L1 and hears from the image too: an error of tone, small in
    the latent, is the largest one in the image.
    """

    loss: ImageLoss = field(default_factory=lambda: ImageLoss(ssim=0.05, edges=0.3))
    latent_weight: float = 0.2
    paper_path_every: int = 6
    name: str = "fidelity"

    def trainable(self, model: RestoreVAR) -> list[nn.Module | nn.Parameter]:
        parts: list[nn.Module | nn.Parameter] = [_branch(model), model.vqvae.decoder, model.vqvae.post_quant_conv]
        # The other refiners have no gradient from the image, or no weights.
        return parts + ([model.refiner] if model.config.refiner.kind == "lrt" else [])

    def losses(self, model: RestoreVAR, step: int, turn: int) -> dict[str, Tensor]:
        batch = self._batch(step, turn)
        refined = model.refine(batch["f_hat"], batch["hidden"])
        latent_l1 = F.l1_loss(refined, batch["target"])
        parts = self._cut(batch, refined, model.config.vqvae.downsample, step)
        papers_path = (step + 1) % self.paper_path_every == 0
        output = model.decode_unclamped(parts["refined"], parts["degraded"], 0.0 if papers_path else 1.0)
        judged = self.judge(output, parts["clean"], model.vqvae.decoder.conv_out.weight, step)
        loss = judged.pop("image") + self.latent_weight * latent_l1
        if papers_path:
            return {"loss": loss, "latent_l1": latent_l1}
        before = psnr(parts["degraded"], parts["clean"]).clamp_max(50)  # clean samples: else they are all one sees
        gain = (psnr(output, parts["clean"]) - before).mean()
        return {"loss": loss, "latent_l1": latent_l1, "gain": gain, **judged}

    def validate(self, model: RestoreVAR) -> dict[str, float]:
        shape = next(iter(self.shapes))
        at_0 = gains(restoring(model, 0.0), self.source, shape, self.device)
        return gains(restoring(model, 1.0), self.source, shape, self.device) | {
            f"{name}_at_0": value for name, value in at_0.items()
        }

    def score(self, figures: dict[str, float]) -> float:
        return figures["mean_gain"]

    def preview(self, model: RestoreVAR) -> Preview:
        return preview([restoring(model, w) for w in (0.0, 1.0)], self.source, next(iter(self.shapes)), self.device)
