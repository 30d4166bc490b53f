"""Fidelity branch, ours: what the latent cannot hold is taken from the degraded image itself.

The paper says that fidelity is bounded by refiner and decoder: everything passes through a small latent. Here a U-Net
looks at the degraded image and, at its coarsest resolution, at the restored latent, and makes a picture of its own. A
weight W in [0, 1] leads from the decoder's picture to that one; W = 0 is exactly the paper's path.

With fusions the two are made together: the U-Net's features enter the decoder at each resolution through gated
convolutions whose last layer starts at zero, and what the decoder made of them decides how much of the input is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .autoencoder import Inject, norm_layer
from .config import FidelityConfig, VQVAEConfig
from .focus import FocusNet
from .nafnet import NAFUNet, counts_for, silent_conv
from .tone import MOST, ToneNet, apply_tone, keep_light
from .veil import lift_veil

#: latent (B, C, H, W), what is called after each level or None -> image (B, 3, H, W), not clamped
Decode = Callable[[Tensor, Inject | None], Tensor]
#: The tone's maps as they are to be (B, 10, h, w); or what is to become of those that it makes, as training asks for.
Maps = Tensor | Callable[[Tensor], Tensor] | None


#: Of what their convolutions give, shares are a part: they act on whole photos at once, so that a step of training,
#: which moves every weight alike, would shake the picture more through them than through all else.
CALM = 0.2


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


@dataclass(frozen=True)
class Shown:
    """What the branch is shown of a photo, beside its latent. All of it can be cut: see `FidelityBranch`.

    degraded_B3HW   the photo, in [-1, 1]
    toned_B3HW      the same in the light and air that it should have, in [-1.25, 1.25]; without a tone, the photo
    lifted_B4HW     that without veil, and the transmission (veil.py); None where it is not looked at
    """

    degraded_B3HW: Tensor
    toned_B3HW: Tensor
    lifted_B4HW: Tensor | None = None


class FidelityBranch(NAFUNet):
    """Looks at the degraded image and, where the config says so, at the restored latent and at the image without veil.

    What the tokens say of tone, and of what lies below the haze, then decides for the detail too. Without them the
    branch restores by itself and hardly follows them (docs/log.md).

    With `tone` a small network sets light and veil of the whole photo first (tone.py), and what the U-Net sees and adds
    to is that. It adds any detail; a share of the way back to the photo, for the tone may be mistaken; and, with
    `dark_channel`, a share of what lifting the veil changes. With `focus` another small network sharpens its picture
    where the photo is soft all over (focus.py): last, for a U-Net that has not learned to sharpen undoes it.

    What tells tone and veil lies anywhere in a photo. So they are found in the whole of it (`show`), of which training
    then cuts parts.
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
            self.from_latent = silent_conv(vqvae.latent_channels, config.width * 2**levels, kernel=1)
        self.from_lifted: nn.Conv2d | None = None
        self.lifts: nn.Conv2d | None = None
        if config.dark_channel:
            self.from_lifted = silent_conv(4 * vqvae.patch**2, config.width)
            self.lifts = silent_conv(config.width, vqvae.patch**2)
        self.tone: ToneNet | None = None
        self.from_degraded: nn.Conv2d | None = None
        self.returns: nn.Conv2d | None = None
        if config.tone:
            self.tone = ToneNet(config.width * 3 // 2)
            self.from_degraded = silent_conv(pixels, config.width)
            self.returns = silent_conv(config.width, vqvae.patch**2)
        self.focus = FocusNet() if config.focus else None
        # Past the norm of the fusion, which hides how large a feature is: a change of tone is a matter of size.
        self.detail = silent_conv(config.width, pixels)
        self.leave_decoder_alone()

    def leave_decoder_alone(self) -> None:
        """Start the fusions anew: nothing enters the decoder, and at W = 1 the image is that of `alone`."""
        if not self.fuses:
            return
        for fusion in self.fusions:
            fusion.start_at([0.0] * fusion.out.out_channels)  # type: ignore[operator, union-attr]
        pixels = self.detail.out_channels
        self.to_image.start_at([1.0] * pixels + [0.0] * pixels)

    def look(self, degraded_B3HW: Tensor) -> Tensor:
        """Maps of the tone (B, 10, h, w), in cells of any size, for images in [-1, 1] that are parts of photos.

        What is said of a place, by all parts that show it, is meant to be averaged. Only for a branch with a tone.
        """
        assert self.tone is not None
        return self.tone.look_once(degraded_B3HW, lift_veil(degraded_B3HW))

    def show(self, degraded_B3HW: Tensor, maps: Maps = None) -> Shown:
        """Tone and veil of whole photos (B, 3, H, W) in [-1, 1]; or of parts, by `maps` found in the whole of them."""
        toned_B3HW = self.set_tone(degraded_B3HW, maps)
        return Shown(degraded_B3HW, toned_B3HW, None if self.from_lifted is None else lift_veil(toned_B3HW))

    def set_tone(self, degraded_B3HW: Tensor, maps: Maps = None) -> Tensor:
        """The tone of `show` alone."""
        if self.tone is None:
            return degraded_B3HW
        lifted = lift_veil(degraded_B3HW)
        if not isinstance(maps, Tensor):
            own = self.tone.look(degraded_B3HW, lifted)
            maps = own if maps is None else maps(own)
        return keep_light(degraded_B3HW, apply_tone(degraded_B3HW, lifted, maps).clamp(-MOST, MOST))

    def seen(self, shown: Shown, latent_BCHW: Tensor) -> list[Tensor]:
        """Features at each resolution, finest first."""
        at_middle: Tensor | None = None
        if self.from_latent is not None:
            at_middle = self.from_latent(latent_BCHW.to(self.from_latent.weight.dtype))
        at_first: list[Tensor] = []
        if self.from_lifted is not None and shown.lifted_B4HW is not None:
            at_first.append(self.from_lifted(self._unshuffled(shown.lifted_B4HW)))
        if self.from_degraded is not None:
            at_first.append(self.from_degraded(self._unshuffled(shown.degraded_B3HW)))
        return self.features(shown.toned_B3HW, at_middle, *at_first)

    def added(self, features_BDHW: Tensor, shown: Shown) -> Tensor:
        """What is added to the toned image, by the finest features; float32."""
        toned = shown.toned_B3HW.float()
        added = self._shuffled(self.detail(features_BDHW))
        if self.lifts is not None and shown.lifted_B4HW is not None:
            added = added + CALM * self._shuffled(self.lifts(features_BDHW)) * (shown.lifted_B4HW[:, :3] - toned)
        if self.returns is not None:
            added = added + CALM * self._shuffled(self.returns(features_BDHW)) * (shown.degraded_B3HW - toned)
        return added

    def alone(self, shown: Shown, latent_BCHW: Tensor) -> Tensor:
        """The branch's own picture, not clamped."""
        return shown.toned_B3HW.float() + self.added(self.seen(shown, latent_BCHW)[0], shown)

    def sharpened(self, picture_B3HW: Tensor, toned_B3HW: Tensor) -> Tensor:
        """A picture in the focus that the toned photo asks for; not clamped."""
        return picture_B3HW if self.focus is None else picture_B3HW + self.focus.change(picture_B3HW, toned_B3HW)

    def finished(self, picture_B3HW: Tensor, shown: Shown) -> Tensor:
        """The picture sharpened; what the tone may not darken (tone.py), the U-Net may not either. Not clamped."""
        picture_B3HW = self.sharpened(picture_B3HW, shown.toned_B3HW)
        return picture_B3HW if self.tone is None else keep_light(shown.degraded_B3HW, picture_B3HW)

    def _shuffled(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(x, self.patch).float()

    def needs_no_decoder(self, weight: float | Tensor) -> bool:
        """Never so for a weight in a tensor: its value is not known where graphs are made."""
        return not self.fuses and not isinstance(weight, Tensor) and weight == 1

    def restore(
        self,
        degraded_B3HW: Tensor,
        latent_BCHW: Tensor,
        weight: float | Tensor,
        decode: Decode,
        maps_B10hw: Tensor | None = None,
    ) -> Tensor:
        """The picture at W = `weight`, not clamped. Without fusions the decoder's is not needed at W = 1, nor made."""
        shown = self.show(degraded_B3HW, maps_B10hw)
        if self.fuses:
            injector = FidelityInjector(self, shown, latent_BCHW, weight)
            return injector.finish(decode(latent_BCHW, injector))
        picture = self.finished(self.alone(shown, latent_BCHW), shown)
        if self.needs_no_decoder(weight):
            return picture
        decoded = decode(latent_BCHW, None)
        return decoded + weight * (picture - decoded)


class FidelityInjector:
    """Called by the decoder after each level's blocks; `finish` then blends in image space."""

    def __init__(self, branch: FidelityBranch, shown: Shown, latent_BCHW: Tensor, weight: float | Tensor):
        self.branch, self.shown, self.weight = branch, shown, weight
        self.features = branch.seen(shown, latent_BCHW)
        self.last: Tensor | None = None

    def __call__(self, level: int, h: Tensor) -> Tensor:
        h = h + self.weight * self.branch.fusions[level](h, self.features[level])
        if level == 0:
            self.last = h
        return h

    def finish(self, decoded_B3HW: Tensor) -> Tensor:
        """decoded + W (picture - decoded); picture: decoded + keep * (toned - decoded) + detail + added, finished.

        Keep and detail come from the finest features.
        """
        assert self.last is not None, "the decoder has not run"
        keep, detail = self.branch.to_image(self.last, self.features[0]).chunk(2, dim=1)
        keep, detail = (F.pixel_shuffle(x.float(), self.branch.patch) for x in (keep, detail))
        added = detail + self.branch.added(self.features[0], self.shown)
        toned_B3HW = self.shown.toned_B3HW.float()
        picture = self.branch.finished(decoded_B3HW + keep * (toned_B3HW - decoded_B3HW) + added, self.shown)
        return decoded_B3HW + self.weight * (picture - decoded_B3HW)
