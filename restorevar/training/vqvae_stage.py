"""VQVAE stage from scratch, in up to three steps (VAR's VQVAE; its training was never published).

The autoencoder with a continuous latent, then the quantizer on the frozen autoencoder, then both together. From the
first step on together on little data the two chase each other: the latent's scale grows, the codebook follows, the
loss diverges (docs/log.md). One after the other, each is a plain problem.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.pairs import Pairs, to_model
from ..models import RestoreVAR
from ..models.quantizer import MultiScaleQuantizer, Quantized
from .image_loss import ImageLoss
from .losses import psnr, ssim
from .replay import Replay, Sample, Shapes
from .trainer import Preview, Schedule, Setting, Stage
from .validation import validation_images


def _both(pairs: Pairs) -> Sample:
    return {"clean": pairs.clean, "degraded": pairs.degraded}


@dataclass
class _OnCrops(Stage):
    """What the steps that train the autoencoder share."""

    schedule: Schedule
    share: float = 1.0
    crop: int = 128
    loss: ImageLoss = field(default_factory=lambda: ImageLoss(mse=1.0, edges=0.5))
    reuse: int = 2

    def setup(self, model: RestoreVAR, setting: Setting) -> None:
        self.source, self.device, self.setting = setting.source, setting.device, setting
        self.judge = self.loss.build(model, setting)
        self.critic = self.judge.critic
        shapes: Shapes = {(self.crop, self.crop): 1.0}
        self.replay: Replay = setting.replay(self, model, _both, shapes, size=512, reuse=self.reuse)

    def critic_loss(self, step: int) -> Tensor:
        return self.judge.critic_loss(step)

    def _image(self, step: int, turn: int) -> Tensor:
        """Half of them clean, half degraded: the encoder must also describe what is to be restored."""
        batch = {name: values.to(self.device) for name, values in self.replay.batch(step, turn).items()}
        clean_B = batch["dice"][:, 0] < 0.5
        return to_model(torch.where(clean_B[:, None, None, None], batch["clean"], batch["degraded"]))

    def _validation(self, model: RestoreVAR, n: int = 16) -> Tensor:
        side = 2 * self.crop
        return validation_images(self.source, (side, side), self.source.validation_tasks()[-1], n, self.device)[0]


@dataclass
class AutoencoderStage(_OnCrops):
    """Encoder and decoder with a continuous latent."""

    latent_penalty: float = 1e-4  #: on the mean squared latent: keeps its scale in reach of a codebook
    name: str = "autoencoder"

    def trainable(self, model: RestoreVAR) -> list[nn.Module | nn.Parameter]:
        vqvae = model.vqvae
        return [vqvae.encoder, vqvae.decoder, vqvae.quant_conv, vqvae.post_quant_conv]

    def losses(self, model: RestoreVAR, step: int, turn: int) -> dict[str, Tensor]:
        image = self._image(step, turn)
        latent = model.vqvae.encode(image)
        output = model.vqvae.decode_unclamped(latent)
        judged = self.judge(output, image, model.vqvae.decoder.conv_out.weight, step)
        penalty = latent.float().square().mean()
        return {"loss": judged.pop("image") + self.latent_penalty * penalty, "latent_rms": penalty.sqrt(), **judged}

    def validate(self, model: RestoreVAR) -> dict[str, float]:
        image = self._validation(model)
        output = model.vqvae.decode(model.vqvae.encode(image))
        return {"psnr": float(psnr(output, image).mean()), "ssim": float(ssim(output, image))}

    def score(self, figures: dict[str, float]) -> float:
        return figures["psnr"]

    def preview(self, model: RestoreVAR) -> Preview:
        image = self._validation(model, 6)
        return Preview([""] * 6, [list(image), list(model.vqvae.decode(model.vqvae.encode(image)))])


class _WithRestarts(Stage):
    """What the steps that train the codebook share: codes that nothing chooses restart."""

    restart_every: int
    restarts: Restarts

    def quantize(self, model: RestoreVAR, latent_BCHW: Tensor) -> Quantized:
        """In float32; the choices are counted."""
        with torch.autocast(latent_BCHW.device.type, enabled=False):
            quantized = model.vqvae.quantizer(latent_BCHW)
        self.restarts.remember(latent_BCHW.detach(), quantized.latent_BCHW.detach(), quantized.tokens)
        return quantized

    def after_step(self, model: RestoreVAR, step: int) -> None:
        """Restart codes that nothing chose since the last time."""
        if (step + 1) % self.restart_every == 0:
            self.restarts.restart()

    def state(self) -> dict[str, Tensor]:
        return self.restarts.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.restarts.load_state(state)

    def score(self, figures: dict[str, float]) -> float:
        return figures["psnr_quantized"]


@dataclass
class CodebookStage(_WithRestarts):
    """Codebook and phi on the latents of the frozen autoencoder; unused codes restart from residuals."""

    schedule: Schedule
    share: float = 1.0
    crop: int = 256
    restart_every: int = 20
    shardable: bool = False
    name: str = "codebook"

    def trainable(self, model: RestoreVAR) -> list[nn.Module | nn.Parameter]:
        return [model.vqvae.quantizer]

    def setup(self, model: RestoreVAR, setting: Setting) -> None:
        self.source, self.device, self.setting = setting.source, setting.device, setting

        def make(pairs: Pairs) -> Sample:
            return {"latent": model.vqvae.encode(to_model(pairs.clean).to(self.device)).float()}

        self.replay: Replay = setting.replay(self, model, make, {(self.crop, self.crop): 1.0}, size=2048, reuse=6)
        self.restarts = Restarts(model.vqvae.quantizer, setting)

    def start(self, model: RestoreVAR) -> None:
        """Codes start as random latent cells of random size: coarse residuals are large, fine ones small."""
        clean = to_model(self.source.pairs("codebook start", range(32), self.crop, self.crop).clean).to(self.device)
        latent = model.vqvae.encode(clean)
        cells_nC = latent.detach().permute(0, 2, 3, 1).flatten(0, 2).float()
        codes = model.vqvae.quantizer.codebook.weight
        generator = torch.Generator().manual_seed(0)
        picks = torch.randint(len(cells_nC), (len(codes),), generator=generator)
        sizes = torch.rand(len(codes), 1, generator=generator).to(codes)
        with torch.no_grad():
            codes.copy_(cells_nC[picks.to(cells_nC.device)] * sizes)

    def losses(self, model: RestoreVAR, step: int, turn: int) -> dict[str, Tensor]:
        latent = self.replay.batch(step, turn)["latent"].to(self.device)
        quantized = self.quantize(model, latent)
        left = (quantized.latent_BCHW - latent).square().mean() / latent.var()
        return {"loss": quantized.loss, "variance_left": left, "codes_used": self.restarts.share_used()}

    def validate(self, model: RestoreVAR) -> dict[str, float]:
        shape, task = (self.crop, self.crop), self.source.validation_tasks()[-1]
        return quantizer_figures(model, validation_images(self.source, shape, task, 32, self.device)[0])


@dataclass
class TokenizerStage(_WithRestarts, _OnCrops):
    """All of the VQVAE together: the image from quantized latents, VQ and commitment loss over the scales."""

    quantizer_weight: float = 1.0
    restart_every: int = 50
    shardable: bool = False
    name: str = "tokenizer"

    def trainable(self, model: RestoreVAR) -> list[nn.Module | nn.Parameter]:
        return [model.vqvae]

    def setup(self, model: RestoreVAR, setting: Setting) -> None:
        super().setup(model, setting)
        self.restarts = Restarts(model.vqvae.quantizer, setting)

    def losses(self, model: RestoreVAR, step: int, turn: int) -> dict[str, Tensor]:
        image = self._image(step, turn)
        latent = model.vqvae.encode(image).float()
        quantized = self.quantize(model, latent)
        output = model.vqvae.decode_unclamped(quantized.latent_BCHW)
        judged = self.judge(output, image, model.vqvae.decoder.conv_out.weight, step)
        loss = judged.pop("image") + self.quantizer_weight * quantized.loss
        return {"loss": loss, "vq": quantized.loss, "codes_used": self.restarts.share_used(), **judged}

    def validate(self, model: RestoreVAR) -> dict[str, float]:
        return quantizer_figures(model, self._validation(model, 32))


class Restarts:
    """Counts which codes are chosen, and gives those that nothing chose a new place among what was left over."""

    def __init__(self, quantizer: MultiScaleQuantizer, setting: Setting):
        self.quantizer, self.accelerator = quantizer, setting.accelerator
        codes = quantizer.codebook.weight
        self.used = torch.zeros(len(codes), device=codes.device)
        self.candidates = codes.detach().clone()

    def remember(self, latent: Tensor, quantized: Tensor, tokens: list[Tensor]) -> None:
        codes = len(self.used)
        self.used += torch.cat([t.flatten() for t in tokens]).bincount(minlength=codes)
        residual = (latent - quantized).permute(0, 2, 3, 1).flatten(0, 2)
        coarse = F.avg_pool2d(latent, 4 if min(latent.shape[-2:]) >= 4 else 1).permute(0, 2, 3, 1).flatten(0, 2)
        pool = torch.cat([residual, coarse[: max(1, len(residual) // 4)]]).detach()
        self.candidates = pool[torch.randint(len(pool), (codes,)).to(pool.device)]

    def share_used(self) -> Tensor:
        """Of the codes, since the last restart."""
        return (self.used > 0).float().mean()

    def restart(self) -> None:
        """The same in every process: counts are summed, the first one's candidates serve all."""
        used = self.accelerator.reduce(self.used, "sum")
        mine = self.candidates if self.accelerator.is_main_process else torch.zeros_like(self.candidates)
        candidates = self.accelerator.reduce(mine, "sum")
        dead = (used == 0).nonzero().flatten()
        with torch.no_grad():
            self.quantizer.codebook.weight[dead] = candidates[dead]
        self.used.zero_()

    def state(self) -> dict[str, Tensor]:
        return {"used": self.used, "candidates": self.candidates}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.used = state["used"].to(self.used)
        self.candidates = state["candidates"].to(self.candidates)


def quantizer_figures(model: RestoreVAR, image: Tensor) -> dict[str, float]:
    """What quantizing costs, and the use of the codebook: over all scales, and for each.

    A scale's use counts different codes among the tokens seen there, or among the codes if these are fewer.
    """
    vqvae = model.vqvae
    latent = vqvae.encode(image).float()
    with torch.autocast(latent.device.type, enabled=False):
        tokens = vqvae.quantizer.tokenize(latent)
        quantized = vqvae.quantizer.decode(tokens, (latent.shape[-2], latent.shape[-1]))
    codes = len(vqvae.quantizer.codebook.weight)
    figures = {
        "psnr_continuous": float(psnr(vqvae.decode(latent), image).mean()),
        "psnr_quantized": float(psnr(vqvae.decode(quantized), image).mean()),
        "variance_left": float((quantized - latent).square().mean() / latent.var()),
        "codes_used": torch.cat([t.flatten() for t in tokens]).unique().numel() / codes,
    }
    for k, tokens_Bl in enumerate(tokens):
        figures[f"codes_used_scale_{k + 1}"] = tokens_Bl.unique().numel() / min(codes, tokens_Bl.numel())
    return figures
