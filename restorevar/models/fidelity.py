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
from .veil import lift_veil

#: latent (B, C, H, W), what is called after each level or None -> image (B, 3, H, W), not clamped
Decode = Callable[[Tensor, Inject | None], Tensor]


#: Logarithm of the largest factor on the light of a pixel.
MOST_GAIN = 3.0
#: Of what their convolutions give, gains and lifts are a part: they act on whole photos at once, so that a step of
#: training, which moves every weight alike, would shake the picture more through them than through all else.
CALM = 0.2


def _silent_conv(width: int, width_out: int, kernel: int = 3) -> nn.Conv2d:
    """Gives nothing at the start of training."""
    conv = nn.Conv2d(width, width_out, kernel, padding=kernel // 2)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


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


class FidelityBranch(NAFUNet):
    """Looks at the degraded image and, where the config says so, at the restored latent and at the image without veil.

    What the tokens say of tone, and of what lies below the haze, then decides for the detail too. Without them the
    branch restores by itself and hardly follows them (docs/log.md).

    Its picture is the degraded image and what is added to it: any detail; a share of what lifting the veil changes
    (`dark_channel`); so much more or less light (`gains`). Dark and hazy photos ask for the last two everywhere at
    once, and a factor keeps texture that a sum would have to draw again.
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
            self.from_latent = _silent_conv(vqvae.latent_channels, config.width * 2**levels, kernel=1)
        self.from_lifted: nn.Conv2d | None = None
        self.lifts: nn.Conv2d | None = None
        if config.dark_channel:
            self.from_lifted = _silent_conv(4 * vqvae.patch**2, config.width)
            self.lifts = _silent_conv(config.width, vqvae.patch**2)
        self.gains = _silent_conv(config.width, pixels) if config.gains else None
        # Past the norm of the fusion, which hides how large a feature is: a change of tone is a matter of size.
        self.detail = _silent_conv(config.width, pixels)
        self.leave_decoder_alone()

    def leave_decoder_alone(self) -> None:
        """Start the fusions anew: nothing enters the decoder, and at W = 1 the image is that of `alone`."""
        if not self.fuses:
            return
        for fusion in self.fusions:
            fusion.start_at([0.0] * fusion.out.out_channels)  # type: ignore[operator, union-attr]
        pixels = self.detail.out_channels
        self.to_image.start_at([1.0] * pixels + [0.0] * pixels)

    def lifted(self, degraded_B3HW: Tensor) -> Tensor | None:
        """The image without veil and the transmission, (B, 4, H, W), where the branch is shown them."""
        return None if self.from_lifted is None else lift_veil(degraded_B3HW)

    def seen(self, degraded_B3HW: Tensor, latent_BCHW: Tensor, lifted_B4HW: Tensor | None) -> list[Tensor]:
        """Features at each resolution, finest first, of the degraded image, its restored latent, what `lifted` gave."""
        at_first, at_middle = None, None
        if self.from_lifted is not None and lifted_B4HW is not None:
            at_first = self.from_lifted(self._unshuffled(lifted_B4HW))
        if self.from_latent is not None:
            at_middle = self.from_latent(latent_BCHW.to(self.from_latent.weight.dtype))
        return self.features(degraded_B3HW, at_middle, at_first)

    def added(self, features_BDHW: Tensor, degraded_B3HW: Tensor, lifted_B4HW: Tensor | None) -> Tensor:
        """What the branch adds to the degraded image, from its finest features; float32."""
        degraded = degraded_B3HW.float()
        added = self._shuffled(self.detail(features_BDHW))
        if self.gains is not None:
            gain = (CALM * self._shuffled(self.gains(features_BDHW))).clamp(-MOST_GAIN, MOST_GAIN)
            added = added + (gain.exp() - 1) * (degraded + 1)  # black is -1
        if self.lifts is not None and lifted_B4HW is not None:
            added = added + CALM * self._shuffled(self.lifts(features_BDHW)) * (lifted_B4HW[:, :3] - degraded)
        return added

    def alone(self, degraded_B3HW: Tensor, latent_BCHW: Tensor, lifted_B4HW: Tensor | None = None) -> Tensor:
        """The branch's own picture, not clamped. `lifted_B4HW` of a part is that of the photo from which it was cut."""
        if lifted_B4HW is None:
            lifted_B4HW = self.lifted(degraded_B3HW)
        features = self.seen(degraded_B3HW, latent_BCHW, lifted_B4HW)[0]
        return degraded_B3HW.float() + self.added(features, degraded_B3HW, lifted_B4HW)

    def _shuffled(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(x, self.patch).float()

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
        self.lifted_B4HW = branch.lifted(degraded_B3HW)
        self.features = branch.seen(degraded_B3HW, latent_BCHW, self.lifted_B4HW)
        self.last: Tensor | None = None

    def __call__(self, level: int, h: Tensor) -> Tensor:
        h = h + self.weight * self.branch.fusions[level](h, self.features[level])
        if level == 0:
            self.last = h
        return h

    def finish(self, decoded_B3HW: Tensor) -> Tensor:
        """decoded + W (keep * (degraded - decoded) + detail + added), keep and detail from the finest features."""
        assert self.last is not None, "the decoder has not run"
        keep, detail = self.branch.to_image(self.last, self.features[0]).chunk(2, dim=1)
        keep, detail = (F.pixel_shuffle(x.float(), self.branch.patch) for x in (keep, detail))
        added = detail + self.branch.added(self.features[0], self.degraded_B3HW, self.lifted_B4HW)
        return decoded_B3HW + self.weight * (keep * (self.degraded_B3HW.float() - decoded_B3HW) + added)
