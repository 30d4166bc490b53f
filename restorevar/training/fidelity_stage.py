"""Fidelity stage, ours: the branch that brings detail from the degraded image (models/fidelity.py)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor, nn

from ..models import RestoreVAR
from ..models.fidelity import FidelityBranch, Shown
from .decoder_stage import OnRollouts
from .image_loss import ImageLoss
from .losses import mean_gain
from .replay import Make, Shapes
from .rollouts import refined_samples, restoring
from .trainer import Preview, Setting
from .validation import gains, preview


@dataclass
class BranchStage(OnRollouts):
    """The branch by itself first, as a regression that is shown the latent of a frozen rollout.

    Many cheap steps before the dear ones with the decoder: together from the start, the branch had learned less after
    the same time (docs/log.md).
    """

    shapes: Shapes = field(default_factory=lambda: {(256, 256): 1.0, (384, 384): 0.1})
    reuse: int = 16
    crop: tuple[int, ...] = (128, 128, 192, 256)
    #: Of the rollouts; None: all. At W = 1 the last ones hardly matter and are most of the time.
    scales: int | None = None
    mix: str = "detail"  #: of MIXES; without a tone before it: "train"
    loss: ImageLoss = field(default_factory=lambda: ImageLoss(l1=0.5, psnr=0.01, psnr_start=1500, edges=0.3))
    name: str = "branch"
    judged_at = 1.0

    def setup(self, model: RestoreVAR, setting: Setting) -> None:
        super().setup(model, setting.drawn_by(self.name, self.mix))
        _branch(model).leave_decoder_alone()  # what it was given before comes from features that change now

    def samples(self, model: RestoreVAR) -> Make:
        return refined_samples(model, self.device, self.scales)

    def trainable(self, model: RestoreVAR) -> list[nn.Module | nn.Parameter]:
        branch = _branch(model)
        parts = [branch.conv_in, branch.encoder, branch.downs, branch.middle, branch.ups, branch.decoder, branch.detail]
        optional = (branch.from_latent, branch.from_lifted, branch.lifts, branch.from_degraded, branch.returns)
        return [*parts, *(part for part in optional if part is not None)]

    def losses(self, model: RestoreVAR, step: int, turn: int) -> dict[str, Tensor]:
        rows = self.replay.rows(step, turn)
        # Cut first, then moved: whole windows are not copied.
        parts = self._on_device(self._cut_rows(rows, model.config.vqvae.downsample, step))
        shown = Shown(parts["degraded"], parts["toned"], parts.get("lifted"))
        output = _branch(model).alone(shown, parts["refined"])
        judged = self.judge(output, parts["clean"], _branch(model).detail.weight, step)
        return {"loss": judged.pop("image"), "gain": mean_gain(output, parts["degraded"], parts["clean"]), **judged}


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
        gain = mean_gain(output, parts["degraded"], parts["clean"])
        return {"loss": loss, "latent_l1": latent_l1, "gain": gain, **judged}

    def validate(self, model: RestoreVAR) -> dict[str, float]:
        shape = next(iter(self.shapes))
        at_0 = gains(restoring(model, 0.0), self.source, shape, self.device)
        return gains(restoring(model, 1.0), self.source, shape, self.device) | {
            f"{name}_at_0": value for name, value in at_0.items()
        }

    def preview(self, model: RestoreVAR) -> Preview:
        return preview([restoring(model, w) for w in (0.0, 1.0)], self.source, next(iter(self.shapes)), self.device)
