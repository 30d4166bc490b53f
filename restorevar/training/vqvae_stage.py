"""VQVAE stage, in two steps: the autoencoder with a continuous latent, then the quantizer on the frozen autoencoder.

Trained together from scratch on little data the two chase each other: the latent's scale grows, the codebook
follows, the loss diverges (docs/log.md). One after the other, each is a plain problem.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.pairs import PairSource, to_model
from ..models import RestoreVAR
from .losses import gradient_l1, psnr
from .replay import Replay, Sample
from .trainer import Schedule, Stage


@dataclass
class AutoencoderStage(Stage):
    """Encoder and decoder on clean and degraded crops alike: the encoder must also describe what is to be restored."""

    source: PairSource
    schedule: Schedule
    crop: int = 128
    latent_penalty: float = 1e-4  #: on the mean squared latent: keeps its scale in reach of a codebook
    name: str = "autoencoder"

    def __post_init__(self) -> None:
        self.replay = Replay(self._make, size=512, reuse=2)

    def _make(self, count: int) -> Sample:
        return {"image": self.source.pairs(count, self.crop, self.crop).degraded}

    def trainable(self, model: RestoreVAR) -> list[nn.Module | nn.Parameter]:
        vqvae = model.vqvae
        return [vqvae.encoder, vqvae.decoder, vqvae.quant_conv, vqvae.post_quant_conv]

    def losses(self, model: RestoreVAR, step: int) -> dict[str, Tensor]:
        half = self.schedule.batch // 2
        degraded = to_model(self.replay.batch(half)["image"])
        image = torch.cat([self.source.clean(self.schedule.batch - half, self.crop, self.crop), degraded])
        image = image.to(next(model.parameters()).device)
        latent = model.vqvae.encode(image)
        output = model.vqvae.decode_unclamped(latent)
        l1, mse = F.l1_loss(output, image), F.mse_loss(output, image)
        penalty = latent.float().square().mean()
        loss = l1 + mse + 0.5 * gradient_l1(output, image) + self.latent_penalty * penalty
        return {"loss": loss, "l1": l1, "mse": mse, "latent_rms": penalty.sqrt()}

    def validate(self, model: RestoreVAR) -> dict[str, float]:
        device = next(model.parameters()).device
        image = to_model(self.source.validation(16, 256, 256, "clean").clean).to(device)
        return {"psnr": float(psnr(model.vqvae.decode(model.vqvae.encode(image)), image).mean())}


@dataclass
class CodebookStage(Stage):
    """Codebook and phi on the latents of the frozen autoencoder; unused codes restart from residuals."""

    source: PairSource
    schedule: Schedule
    crop: int = 256
    restart_every: int = 20
    name: str = "codebook"

    def __post_init__(self) -> None:
        self.pool: Replay | None = None
        self.used: Tensor | None = None
        self.candidates: Tensor | None = None

    def trainable(self, model: RestoreVAR) -> list[nn.Module | nn.Parameter]:
        return [model.vqvae.quantizer]

    def start(self, model: RestoreVAR) -> None:
        """Codes start as random latent cells of random size: coarse residuals are large, fine ones small."""
        latent = self._latents(model, 64)
        cells_nC = latent.permute(0, 2, 3, 1).flatten(0, 2).float()
        codes = model.vqvae.quantizer.codebook.weight
        generator = torch.Generator().manual_seed(0)
        picks = torch.randint(len(cells_nC), (len(codes),), generator=generator)
        sizes = torch.rand(len(codes), 1, generator=generator).to(codes)
        with torch.no_grad():
            codes.copy_(cells_nC[picks.to(cells_nC.device)] * sizes)

    def losses(self, model: RestoreVAR, step: int) -> dict[str, Tensor]:
        latent = self._latents(model, self.schedule.batch)
        with torch.autocast(latent.device.type, enabled=False):
            quantized = model.vqvae.quantizer(latent.float())
        self._remember(model, latent, quantized.latent_BCHW, quantized.tokens)
        left = (quantized.latent_BCHW - latent).square().mean() / latent.var()
        used = (self.used > 0).float().mean() if self.used is not None else torch.zeros(())
        return {"loss": quantized.loss, "variance_left": left, "codes_used": used}

    def after_step(self, model: RestoreVAR, step: int) -> None:
        """Restart codes that nothing chose since the last time; stop before the end so that all settle."""
        if self.used is None or self.candidates is None or (step + 1) % self.restart_every:
            return
        dead = (self.used == 0).nonzero().flatten()
        picks = torch.randint(len(self.candidates), (len(dead),))
        with torch.no_grad():
            model.vqvae.quantizer.codebook.weight[dead] = self.candidates[picks.to(dead.device)]
        self.used.zero_()

    def validate(self, model: RestoreVAR) -> dict[str, float]:
        device = next(model.parameters()).device
        image = to_model(self.source.validation(16, 256, 256, "clean").clean).to(device)
        vqvae = model.vqvae
        latent = vqvae.encode(image).float()
        with torch.autocast(device.type, enabled=False):
            tokens = vqvae.quantizer.tokenize(latent)
            quantized = vqvae.quantizer.decode(tokens, (latent.shape[-2], latent.shape[-1]))
        usage = torch.cat([t.flatten() for t in tokens]).unique().numel() / len(vqvae.quantizer.codebook.weight)
        return {
            "psnr_continuous": float(psnr(vqvae.decode(latent), image).mean()),
            "psnr_quantized": float(psnr(vqvae.decode(quantized), image).mean()),
            "variance_left": float((quantized - latent).square().mean() / latent.var()),
            "codes_used": usage,
        }

    def _latents(self, model: RestoreVAR, count: int) -> Tensor:
        device = next(model.parameters()).device
        if self.pool is None:

            def make(n: int) -> Sample:
                return {"latent": model.vqvae.encode(self.source.clean(n, self.crop, self.crop).to(device)).float()}

            self.pool = Replay(make, size=2048, reuse=6)
        return self.pool.batch(count)["latent"]

    def _remember(self, model: RestoreVAR, latent: Tensor, quantized: Tensor, tokens: list[Tensor]) -> None:
        codes = model.vqvae.quantizer.codebook.weight
        if self.used is None:
            self.used = torch.zeros(len(codes), device=codes.device)
        self.used += torch.cat([t.flatten() for t in tokens]).bincount(minlength=len(codes))
        residual = (latent - quantized).detach().permute(0, 2, 3, 1).flatten(0, 2)
        coarse = F.avg_pool2d(latent.detach(), 4).permute(0, 2, 3, 1).flatten(0, 2)
        self.candidates = torch.cat([residual, coarse[: len(residual) // 4]])
