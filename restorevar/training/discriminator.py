"""Adversarial training on patches: a discriminator, its losses, and what the generator hears of it.

Images are (B, 3, H, W) in [-1, 1]; a decoder's unclamped output may leave that range a little. Losses are float32
scalars, also under autocast. Sources: Isola et al. 2017 (PatchGAN), Lim and Ye 2017 (hinge), Wang et al. 2018
(pix2pixHD, feature matching), Mescheder et al. 2018 (R1), Esser et al. 2021 (VQGAN, the adaptive weight of eq. 7).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import spectral_norm

Norm = Literal["group", "spectral", "none"]


class PatchDiscriminator(nn.Module):
    """Image -> one logit per overlapping patch (70 x 70 pixels by default), high for real, low for made.

    The layers are VQGAN's: `n_layers` convolutions of stride 2, one of stride 1, one to a single channel. What it has
    not is BatchNorm: there the judgement of an image depends on the others in its batch, on whether they are all real
    or all made, and on how a batch is spread over processes. `norm` instead:

    group     GroupNorm after all inner convolutions: each image by itself, in training as in use.
    spectral  no normalised features, but weights of spectral norm 1 (Miyato et al. 2018): bounds how steep D can get.
    none      neither; the plainest one, for small widths and short trainings.
    """

    def __init__(self, width: int = 64, n_layers: int = 3, norm: Norm = "group"):
        """Raises ValueError for an unknown `norm` and for less than one layer or channel."""
        super().__init__()
        if norm not in get_args(Norm):
            raise ValueError(f"norm is one of {', '.join(get_args(Norm))}, not {norm!r}")
        if width < 1 or n_layers < 1:
            raise ValueError("a discriminator needs at least one layer and one channel")
        self.minimum = 3 * 2**n_layers  #: smallest side of an image in pixels: it leaves one logit
        widths = [3, *(width * min(2**i, 8) for i in range(n_layers + 1))]
        self.blocks = nn.ModuleList(
            _block(widths[i], widths[i + 1], stride=2 if i < n_layers else 1, norm=norm, first=i == 0)
            for i in range(n_layers + 1)
        )
        self.head = _conv(widths[-1], 1, 1, norm)

    def forward(self, image_B3HW: Tensor, features: bool = False) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Logits (B, 1, h, w); with `features` also what each layer before them computes, finest first.

        Raises ValueError for images with a side below `minimum`.
        """
        if min(image_B3HW.shape[-2:]) < self.minimum:
            raise ValueError(f"the discriminator needs {self.minimum} pixels a side, not {tuple(image_B3HW.shape)}")
        h, found = image_B3HW, []
        for block in self.blocks:
            h = block(h)
            found.append(h)
        logits = self.head(h)
        return (logits, found) if features else logits


class _SpectralConv(nn.Conv2d):
    """A convolution whose weight is worked out in float32: autocast would mix types in torch's power iteration."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            weight = self.weight
        return self._conv_forward(x, weight, self.bias)


def _conv(width_in: int, width_out: int, stride: int, norm: Norm) -> nn.Module:
    if norm == "spectral":
        return spectral_norm(_SpectralConv(width_in, width_out, 4, stride=stride, padding=1))
    conv = nn.Conv2d(width_in, width_out, 4, stride=stride, padding=1)
    if norm == "group":  # as published; without a norm that small a start would die out, torch's follows the width
        nn.init.normal_(conv.weight, std=0.02)
    return conv


def _block(width_in: int, width_out: int, stride: int, norm: Norm, first: bool) -> nn.Sequential:
    conv = _conv(width_in, width_out, stride, norm)
    if norm != "group" or first:  # the first layer sees the image's own tones and contrasts
        return nn.Sequential(conv, nn.LeakyReLU(0.2))
    groups = math.gcd(max(1, min(32, width_out // 4)), width_out)  # four channels or more each: one would lose its size
    return nn.Sequential(conv, nn.GroupNorm(groups, width_out), nn.LeakyReLU(0.2))


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Mean of max(0, 1 - real) and max(0, 1 + fake), halved as in VQGAN; logits of any shape."""
    return 0.5 * (F.relu(1 - real.float()).mean() + F.relu(1 + fake.float()).mean())


def hinge_generator_loss(fake: Tensor) -> Tensor:
    """Minus the mean logit of made images."""
    return -fake.float().mean()


def feature_matching_loss(features_real: list[Tensor], features_fake: list[Tensor]) -> Tensor:
    """L1 between the discriminator's features of both images, the mean over layers; no gradient to `features_real`.

    pix2pixHD sums over layers; the mean keeps its size when there are more of them.
    """
    pairs = zip(features_real, features_fake, strict=True)
    return torch.stack([F.l1_loss(fake.float(), real.detach().float()) for real, fake in pairs]).mean()


def r1_penalty(discriminator: nn.Module, real_B3HW: Tensor) -> Tensor:
    """Half the squared gradient of each real image's mean logit with respect to the image; mean over images.

    Always in float32: the gradient of a gradient is too coarse in bfloat16.
    """
    with torch.autocast(real_B3HW.device.type, enabled=False):
        image = real_B3HW.detach().float().requires_grad_(True)
        score = discriminator(image).flatten(1).mean(1).sum()
        (gradient,) = torch.autograd.grad(score, image, create_graph=True)
        return gradient.square().flatten(1).sum(1).mean() / 2


def _alone(gradient: Tensor) -> Tensor:
    """What one process on its own has to share with others: nothing."""
    return gradient


def adaptive_weight(
    reconstruction_loss: Tensor,
    generator_loss: Tensor,
    last_layer: Tensor,
    limit: float = 1e4,
    average: Callable[[Tensor], Tensor] = _alone,
) -> Tensor:
    """VQGAN's eq. 7: norm of the reconstruction loss' gradient at `last_layer` / (the generator loss' + 1e-6).

    With it neither loss drowns the other, whatever their scales. `last_layer` is the weight that makes the image,
    `decoder.conv_out.weight`, so both gradients are short ways back. A scalar in [0, limit], without gradient. A loss
    that does not depend on `last_layer`, or (in validation) on nothing at all, has gradient 0. The graph is kept.
    `average` takes a gradient's mean over processes: a norm of parts is not a part of the norm.

    Raises RuntimeError (torch's) if `last_layer` is frozen while a loss has a gradient.
    """
    reconstruction = _gradient_norm(reconstruction_loss, last_layer, average)
    return (reconstruction / (_gradient_norm(generator_loss, last_layer, average) + 1e-6)).clamp(0, limit)


def _gradient_norm(loss: Tensor, weight: Tensor, average: Callable[[Tensor], Tensor]) -> Tensor:
    if not loss.requires_grad:
        return torch.zeros((), device=weight.device)
    with torch.autocast(weight.device.type, enabled=False):  # backward passes choose their types by the forward
        (gradient,) = torch.autograd.grad(loss, weight, retain_graph=True, allow_unused=True)
    gradient = torch.zeros_like(weight) if gradient is None else gradient.float()
    return average(gradient).norm()


@dataclass
class Adversary:
    """A discriminator with how much, and from when on, the generator hears of it.

    The order within a step: `generator_loss`, backward and step of the generator, and only then `discriminator_loss`
    with the same images, backward and step of the discriminator. (The generator's graph holds the discriminator's
    weights. Stepping the discriminator before that backward is an error that torch reports; with spectral norm, whose
    graph holds weights made for it, there is none.) The optimiser is the caller's, who also saves
    `discriminator.state_dict()` with it; nothing here belongs to the model.
    """

    discriminator: PatchDiscriminator
    start_step: int = 0  #: the generator hears nothing before it; the discriminator learns whenever it is asked
    weight: float = 0.8  #: on the generator's part, as a share of the reconstruction's gradient if `adaptive`
    feature_weight: float = 0.0  #: on feature matching, beside the hinge loss' 1; pix2pixHD has 10
    adaptive: bool = True
    average: Callable[[Tensor], Tensor] = _alone  #: of a gradient over the processes
    r1_weight: float = 0.0
    r1_every: int = 16  #: R1 is slow: every so many steps, and so many times stronger (StyleGAN2)

    def generator_loss(
        self, real_B3HW: Tensor, fake_B3HW: Tensor, reconstruction_loss: Tensor, last_layer: Tensor, step: int
    ) -> dict[str, Tensor]:
        """ "adversarial", to be added to the generator's loss, and its parts for the log, without gradient.

        adversarial = weight * adaptive_weight * (generator + feature_weight * features), so that the adaptive weight
        balances the discriminator's whole say. `reconstruction_loss` is what it is balanced with: everything else
        that judges the image, the perceptual loss included. All zero before `start_step`.

        The discriminator's parameters get no gradient from it: it runs on detached ones, so that they need neither
        be frozen nor cleared around the generator's backward.
        """
        if step < self.start_step:
            zero = torch.zeros((), device=fake_B3HW.device)
            return dict.fromkeys(("adversarial", "generator", "features", "adaptive_weight"), zero)
        generator, features = self._heard(real_B3HW, fake_B3HW)
        total = generator + self.feature_weight * features
        balance = torch.ones_like(total)
        if self.adaptive:
            balance = adaptive_weight(reconstruction_loss, total, last_layer, average=self.average)
        parts = {"generator": generator.detach(), "features": features.detach(), "adaptive_weight": balance}
        return {"adversarial": self.weight * balance * total, **parts}

    def discriminator_loss(self, real_B3HW: Tensor, fake_B3HW: Tensor, step: int) -> Tensor:
        """Hinge loss, with R1 where asked for; gradients reach the discriminator only."""
        both = torch.cat([real_B3HW.detach(), fake_B3HW.detach()])
        real, fake = self.discriminator(both).split([len(real_B3HW), len(fake_B3HW)])
        loss = hinge_discriminator_loss(real, fake)
        if self.r1_weight and step % self.r1_every == 0:
            loss = loss + self.r1_weight * self.r1_every * r1_penalty(self.discriminator, real_B3HW)
        return loss

    def _heard(self, real_B3HW: Tensor, fake_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """Hinge loss and feature matching of the made images, judged by the discriminator as a fixed function."""
        fixed = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        logits, made = functional_call(self.discriminator, fixed, (fake_B3HW, True))
        if not self.feature_weight:
            return hinge_generator_loss(logits), torch.zeros((), device=logits.device)
        with torch.no_grad():
            _, wanted = functional_call(self.discriminator, fixed, (real_B3HW, True))
        return hinge_generator_loss(logits), feature_matching_loss(wanted, made)
