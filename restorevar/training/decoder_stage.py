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
    """What both steps share: a pool of images and rollouts, and cutting parts from them.

    Rollouts want windows that show a scene; the decoder works locally. So samples of `shapes` are rolled out whole, and
    each time one is used, another part of `crop` x `crop` pixels is cut from it: many cheap steps from few rollouts.
    """

    source: PairSource
    schedule: Schedule
    shapes: Shapes = field(default_factory=lambda: {(256, 256): 1.0})
    reuse: int = 3
    crop: int | None = None

    def __post_init__(self) -> None:
        self.replay: ShapedReplay | None = None

    def _batch(self, model: RestoreVAR) -> Sample:
        """Whole windows: clean and degraded in [-1, 1], the rollout, the clean image's latent."""
        device = next(model.parameters()).device
        if self.replay is None:

            def make(n: int, height: int, width: int) -> Sample:
                pairs = self.source.pairs(n, height, width)
                f_hat, hidden = rollout(model, to_model(pairs.degraded).to(device))
                target = model.vqvae.encode(to_model(pairs.clean).to(device)).float()
                latents = {"f_hat": f_hat.float(), "hidden": hidden.bfloat16(), "target": target}
                return {"clean": pairs.clean, "degraded": pairs.degraded} | {k: v.cpu() for k, v in latents.items()}

            self.replay = ShapedReplay(make, self.shapes, size=768, reuse=self.reuse)
        batch = {k: v.to(device) for k, v in self.replay.batch(self.schedule.batch).items()}
        return batch | {"clean": to_model(batch["clean"]), "degraded": to_model(batch["degraded"])}

    def _cut(self, batch: Sample, unit: int) -> Sample:
        """The same random part of images and latent, another for each sample; parts lie on the latent grid."""
        batch = {name: batch[name] for name in ("clean", "degraded", "refined")}
        height, width = batch["refined"].shape[-2:]
        side = 0 if self.crop is None else self.crop // unit
        if not 0 < side < min(height, width):
            return batch
        parts: dict[str, list[Tensor]] = {name: [] for name in batch}
        for i in range(len(batch["refined"])):
            top, left = (int(torch.randint(size - side + 1, ())) for size in (height, width))
            for name, values in batch.items():
                scale = 1 if name == "refined" else unit
                rows = slice(top * scale, (top + side) * scale)
                columns = slice(left * scale, (left + side) * scale)
                parts[name].append(values[i, :, rows, columns])
        return {name: torch.stack(values) for name, values in parts.items()}

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
        own = len(batch["clean"]) - round(len(batch["clean"]) * self.rollouts)
        with torch.no_grad():
            refined = model.refine(batch["f_hat"], batch["hidden"])
            batch["refined"] = torch.cat([batch["target"][:own], refined[own:]])
        batch = self._cut(batch, model.config.vqvae.downsample)
        clean, latent = batch["clean"], batch["refined"]
        output = model.vqvae.decode_unclamped(latent)
        l1, structure = F.l1_loss(output, clean), 1 - ssim(output, clean)
        return {"loss": l1 + self.ssim_weight * structure, "l1": l1, "ssim": 1 - structure}

    def validate(self, model: RestoreVAR) -> dict[str, float]:
        return self._gains(model, 0.0)


@dataclass
class FidelityStage(_OnRollouts):
    """The fidelity branch at W = 1, with refiner and decoder, on rollouts of the frozen transformer.

    The decoder has to learn to use what the branch brings, and must stay good without it: every few steps train the
    paper's path, W = 0. The refiner goes on with its own L1 and hears from the image too: an error of tone, small in
    the latent, is the largest one in the image.
    """

    ssim_weight: float = 0.05
    gradient_weight: float = 0.3
    latent_weight: float = 0.2
    paper_path_every: int = 6
    name: str = "fidelity"

    def trainable(self, model: RestoreVAR) -> list[nn.Module | nn.Parameter]:
        assert model.fidelity is not None, "this model has no fidelity branch"
        return [model.fidelity, model.refiner, model.vqvae.decoder, model.vqvae.post_quant_conv]

    def losses(self, model: RestoreVAR, step: int) -> dict[str, Tensor]:
        batch = self._batch(model)
        batch["refined"] = model.refine(batch["f_hat"], batch["hidden"])
        latent_l1 = F.l1_loss(batch["refined"], batch["target"])
        batch = self._cut(batch, model.config.vqvae.downsample)
        clean = batch["clean"]
        papers_path = (step + 1) % self.paper_path_every == 0
        output = model.decode_unclamped(batch["refined"], batch["degraded"], 0.0 if papers_path else 1.0)
        l1, structure, edges = F.l1_loss(output, clean), 1 - ssim(output, clean), gradient_l1(output, clean)
        image_loss = l1 + self.ssim_weight * structure + self.gradient_weight * edges
        losses = {"loss": image_loss + self.latent_weight * latent_l1, "latent_l1": latent_l1}
        if not papers_path:
            before = psnr(batch["degraded"], clean).clamp_max(50)  # clean samples: else they are all one sees
            losses |= {"l1": l1, "gain": (psnr(output, clean) - before).mean()}
        return losses

    def validate(self, model: RestoreVAR) -> dict[str, float]:
        return self._gains(model, 1.0) | {f"{task}_at_0": gain for task, gain in self._gains(model, 0.0).items()}
