"""Fidelity branch, ours: what the latent cannot hold is taken from the degraded image itself.

The paper says that fidelity is bounded by refiner and decoder: everything passes through a small latent. Here a U-Net
looks at the degraded image and, at its coarsest resolution, at the restored latent, and makes a picture of its own. A
weight W in [0, 1] leads from the decoder's picture to that one; W = 0 is exactly the paper's path.

With fusions the two are made together: the U-Net's features enter the decoder at each resolution through gated
convolutions whose last layer starts at zero, and what the decoder made of them decides how much of the input is kept.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .autoencoder import Inject, norm_layer
from .config import FidelityConfig, VQVAEConfig
from .nafnet import NAFUNet, counts_for

#: latent (B, C, H, W), what is called after each level or None -> image (B, 3, H, W), not clamped
Decode = Callable[[Tensor, Inject | None], Tensor]


class GatedFusion(nn.Module):
    """(decoder features, degraded features) -> what to add: zero_conv(a * sigmoid(b)), (a, b) = conv(both)."""

    def __init__(self, width: int, width_degraded: int, width_out: int, norm: str, kernel: int = 3):
        super().__init__()
        self.norm = norm_layer(norm, width + width_degraded)
        self.mix = nn.Conv2d(width + width_degraded, 2 * width, kernel, padding=kernel // 2)
        self.out = nn.Conv2d(width, width_out, 3, padding=1)
        self.start_at([0.0] * width_out)

    def start_at(self, bias: list[float]) -> None:
        """Give this from now on, per channel, whatever is shown."""
        assert self.out.bias is not None
        nn.init.zeros_(self.out.weight)
        with torch.no_grad():
            self.out.bias.copy_(torch.tensor(bias))

    def forward(self, h_BCHW: Tensor, degraded_BCHW: Tensor) -> Tensor:
        return self.out(F.glu(self.mix(self.norm(torch.cat([h_BCHW, degraded_BCHW], 1))), dim=1))


class DarkChannel(nn.Module):
    """Image (B, 3, H, W) -> (B, `width`, H / cell, W / cell): how thick the air is before each cell. Zero at the start.

    Somewhere in most surroundings something is black, so the darkest pixels tell the veil before it (He, Sun and Tang
    2009, "Single Image Haze Removal Using Dark Channel Prior"). A minimum is what convolutions and means, of which all
    else in the branch is made, are worst at. Darkest in each cell and in 3 x 3 of them, brightest in each.
    """

    def __init__(self, cell: int, width: int, hidden: int = 64):
        super().__init__()
        self.cell = cell
        self.mix = nn.Conv2d(9, hidden, 1)
        self.out = nn.Conv2d(hidden, width, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, image_B3HW: Tensor) -> Tensor:
        image = image_B3HW.to(self.out.weight.dtype)
        dark = -F.max_pool2d(-image, self.cell)
        around = -F.max_pool2d(-dark, 3, stride=1, padding=1)
        return self.out(F.gelu(self.mix(torch.cat([dark, around, F.max_pool2d(image, self.cell)], dim=1))))


class FidelityBranch(NAFUNet):
    """Looks at the degraded image and, where the config says so, at the restored latent.

    What the tokens say of tone, and of what lies below the haze, then decides for the detail too. Without it the branch
    restores by itself and hardly follows them (docs/log.md).
    """

    def __init__(self, config: FidelityConfig, vqvae: VQVAEConfig):
        levels = len(vqvae.widths) - 1
        encoder, decoder = counts_for(levels, config.encoder), counts_for(levels, config.decoder)
        super().__init__(config.width, encoder, config.middle, decoder, vqvae.patch)
        pixels = 3 * vqvae.patch**2
        self.fuses = config.fuse
        if config.fuse:
            # At the coarsest level a cell sees far by itself; 1x1 saves most of that level's weights.
            self.fusions = nn.ModuleList(
                GatedFusion(width, config.width * 2**i, width, vqvae.norm, kernel=1 if 0 < i == levels else 3)
                for i, width in enumerate(vqvae.widths)
            )
            # In image space: how much of the input to keep per pixel and channel, and what to add to it.
            # Training starts from "keep all of it": restoring is then a small change, as for any residual network.
            self.to_image = GatedFusion(vqvae.widths[0], config.width, 2 * pixels, vqvae.norm)
        self.from_latent: nn.Conv2d | None = None
        if config.latent:
            self.from_latent = nn.Conv2d(vqvae.latent_channels, config.width * 2**levels, 1)
            nn.init.zeros_(self.from_latent.weight)
            nn.init.zeros_(self.from_latent.bias)  # type: ignore[arg-type]
        self.from_dark_channel: DarkChannel | None = None
        if config.dark_channel:
            self.from_dark_channel = DarkChannel(vqvae.patch * 2**levels, config.width * 2**levels)
        # Past the norm of the fusion, which hides how large a feature is: a change of tone is a matter of size.
        self.detail = nn.Conv2d(config.width, pixels, 3, padding=1)
        nn.init.zeros_(self.detail.weight)
        nn.init.zeros_(self.detail.bias)  # type: ignore[arg-type]
        self.leave_decoder_alone()

    def leave_decoder_alone(self) -> None:
        """Start the fusions anew: nothing enters the decoder, and at W = 1 the image is that of `alone`."""
        if not self.fuses:
            return
        for fusion in self.fusions:
            fusion.start_at([0.0] * fusion.out.out_channels)  # type: ignore[operator, union-attr]
        pixels = self.detail.out_channels
        self.to_image.start_at([1.0] * pixels + [0.0] * pixels)

    def seen(self, degraded_B3HW: Tensor, latent_BCHW: Tensor) -> list[Tensor]:
        """Features at each resolution, finest first, of the degraded image and its restored latent."""
        shown: Tensor | None = None
        if self.from_latent is not None:
            shown = self.from_latent(latent_BCHW.to(self.from_latent.weight.dtype))
        if self.from_dark_channel is not None:
            veil = self.from_dark_channel(degraded_B3HW)
            shown = veil if shown is None else shown + veil
        return self.features(degraded_B3HW, shown)

    def alone(self, degraded_B3HW: Tensor, latent_BCHW: Tensor) -> Tensor:
        """The branch's own picture, not clamped: the degraded image and what is to be added to it."""
        detail = F.pixel_shuffle(self.detail(self.seen(degraded_B3HW, latent_BCHW)[0]), self.patch)
        return degraded_B3HW.float() + detail.float()

    def needs_no_decoder(self, weight: float | Tensor) -> bool:
        """Never so for a weight in a tensor: its value is not known where graphs are made."""
        return not self.fuses and not isinstance(weight, Tensor) and weight == 1

    def restore(self, degraded_B3HW: Tensor, latent_BCHW: Tensor, weight: float | Tensor, decode: Decode) -> Tensor:
        """The picture at W = `weight`, not clamped. Without fusions the decoder's is not needed at W = 1, nor made."""
        if self.fuses:
            injector = FidelityInjector(self, degraded_B3HW, latent_BCHW, weight)
            return injector.finish(decode(latent_BCHW, injector))
        picture = self.alone(degraded_B3HW, latent_BCHW)
        if self.needs_no_decoder(weight):
            return picture
        decoded = decode(latent_BCHW, None)
        return decoded + weight * (picture - decoded)


class FidelityInjector:
    """Called by the decoder after each level's blocks; `finish` then blends in image space."""

    def __init__(self, branch: FidelityBranch, degraded_B3HW: Tensor, latent_BCHW: Tensor, weight: float | Tensor):
        self.branch = branch
        self.degraded_B3HW = degraded_B3HW
        self.weight = weight
        self.features = branch.seen(degraded_B3HW, latent_BCHW)
        self.last: Tensor | None = None

    def __call__(self, level: int, h: Tensor) -> Tensor:
        h = h + self.weight * self.branch.fusions[level](h, self.features[level])
        if level == 0:
            self.last = h
        return h

    def finish(self, decoded_B3HW: Tensor) -> Tensor:
        """decoded + W (keep * (degraded - decoded) + detail), keep and detail from the finest features."""
        assert self.last is not None, "the decoder has not run"
        keep, detail = self.branch.to_image(self.last, self.features[0]).chunk(2, dim=1)
        detail = detail + self.branch.detail(self.features[0])
        keep, detail = (F.pixel_shuffle(x.float(), self.branch.patch) for x in (keep, detail))
        return decoded_B3HW + self.weight * (keep * (self.degraded_B3HW.float() - decoded_B3HW) + detail)
