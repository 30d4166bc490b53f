"""What judges a decoded image in training: one page of weights, each loss of the paper on or off."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from ..models import Model
from .discriminator import Adversary, PatchDiscriminator
from .losses import detail_psnr, gradient_l1, psnr, ssim
from .perceptual import build_perceptual
from .trainer import Setting


@dataclass(frozen=True)
class ImageLoss:
    """Weights of the parts; 0 leaves a part out.

    `psnr` (NAFNet's loss) weighs each image by how little is wrong with it: without it the nearly clean ones, which
    ask for small changes, hardly count beside the dark and hazy ones.
    `perceptual_kind`: none, encoder (the frozen VQVAE encoder's features), vgg or lpips (with `perceptual_weights`, a
    local file, or torchvision to download them). `adversarial` is a share of the other losses' gradient (VQGAN eq. 7)
    where `adaptive`, heard from `adversarial_start` steps on; `feature_matching` beside it.
    """

    l1: float = 1.0
    mse: float = 0.0
    psnr: float = 0.0
    psnr_most: float = 30.0  #: dB; by then an image hardly counts any more
    psnr_start: int = 0  #: steps before it is heard; from random weights it holds a network at the identity longer
    detail: float = 0.0  #: PSNR of detail alone, heard whatever the tone; psnr_most and psnr_start hold for it too
    ssim: float = 0.0
    edges: float = 0.0
    perceptual: float = 0.0
    perceptual_kind: str = "none"
    perceptual_weights: str | None = None
    adversarial: float = 0.0
    adversarial_start: int = 0
    adaptive: bool = True
    feature_matching: float = 0.0
    discriminator_width: int = 64

    def build(self, model: Model, setting: Setting) -> Judge:
        """Raises UserError where the perceptual loss lacks its files."""
        return Judge(self, model, setting)


class Judge:
    """The losses at work; holds the discriminator and the images that it is to see next."""

    def __init__(self, loss: ImageLoss, model: Model, setting: Setting):
        self.loss = loss
        kind = loss.perceptual_kind if loss.perceptual else "none"
        weights = None if loss.perceptual_weights is None else Path(loss.perceptual_weights)
        self.perceptual = build_perceptual(kind, weights if kind != "none" else None, model)
        self.adversary: Adversary | None = None
        if loss.adversarial:
            critic = PatchDiscriminator(loss.discriminator_width).to(setting.device)
            self.adversary = Adversary(
                critic,
                loss.adversarial_start,
                loss.adversarial,
                loss.feature_matching,
                loss.adaptive,
                average=lambda gradient: setting.accelerator.reduce(gradient, "mean"),
            )
        self.seen: tuple[Tensor, Tensor] | None = None

    @property
    def critic(self) -> nn.Module | None:
        return None if self.adversary is None else self.adversary.discriminator

    def __call__(self, output: Tensor, clean: Tensor, last_layer: Tensor, step: int) -> dict[str, Tensor]:
        """Images (B, 3, H, W) in [-1, 1], `output` not clamped; "image" is the sum, the others are for the log."""
        weights = self.loss
        l1 = F.l1_loss(output.float(), clean)
        total = weights.l1 * l1
        parts = {"l1": l1}
        if weights.mse:
            parts["mse"] = F.mse_loss(output.float(), clean)
            total = total + weights.mse * parts["mse"]
        if weights.psnr and step >= weights.psnr_start:
            total = total - weights.psnr * psnr(output, clean, weights.psnr_most).mean()
        if weights.detail and step >= weights.psnr_start:
            parts["detail"] = detail_psnr(output, clean, weights.psnr_most).mean()
            total = total - weights.detail * parts["detail"]
        if weights.ssim:
            parts["ssim"] = ssim(output, clean)
            total = total + weights.ssim * (1 - parts["ssim"])
        if weights.edges:
            total = total + weights.edges * gradient_l1(output, clean)
        if weights.perceptual:
            parts["perceptual"] = self.perceptual(output, clean)
            total = total + weights.perceptual * parts["perceptual"]
        if self.adversary is not None:
            self.seen = (clean.detach(), output.detach())
            heard = self.adversary.generator_loss(clean, output, total, last_layer, step)
            parts |= {name: heard[name] for name in ("adversarial", "adaptive_weight")}
            total = total + heard["adversarial"]
        return {"image": total} | parts

    def critic_loss(self, step: int) -> Tensor:
        """Of the images of the last call."""
        assert self.adversary is not None and self.seen is not None
        return self.adversary.discriminator_loss(*self.seen, step)
