"""Glimpse: a restoration while it goes on, scale after scale. For previews, maps of confidence, and to call it off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from .images import from_tensor
from .models import OnScale, RestoreVAR, ScaleEvent
from .tiling import Place

Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Glimpse:
    """After scale `scale` of `scales`, counted from 0, of the pass over the whole photo.

    confidence   float32 [h, w] in [0, 1]: the probability of the chosen token at each place of this scale
    """

    scale: int
    scales: int
    confidence: np.ndarray
    _decode: Callable[[int], np.ndarray]

    def preview(self, side: int = 192) -> np.ndarray:
        """The latent so far as uint8 [H, W, 3], no side above `side` pixels, without detail from the photo.

        Costs a decoding at that size: call it for what is shown, and before the next scale or after, as you like.
        """
        return self._decode(side)


Watch = Callable[[Glimpse], None]


def watching(model: RestoreVAR, watch: Watch, place: Place, padded: Size) -> OnScale:
    """Tells `watch` of every scale of the first image of a pass; `place` of the photo within the `padded` image."""
    final = (padded[0] // model.config.downsample, padded[1] // model.config.downsample)
    grids = model.config.scales.grids(final)

    def on_scale(event: ScaleEvent) -> None:
        height, width = grids[event.scale]
        probability = event.logits_BlV[0].float().softmax(-1)
        chosen = probability.gather(-1, event.tokens_Bl[0, :, None]).view(height, width)
        latent_1CHW = event.f_hat_BCHW[:1]
        watch(
            Glimpse(
                event.scale,
                event.scales,
                chosen[place.covered(padded, (height, width))].cpu().numpy(),
                lambda side: _decoded(model, latent_1CHW, place, padded, side),
            )
        )

    return on_scale


@torch.inference_mode()
def _decoded(model: RestoreVAR, latent_1CHW: torch.Tensor, place: Place, padded: Size, side: int) -> np.ndarray:
    """The latent is made smaller, not the picture: a decoder's time goes with the area."""
    share = min(1.0, side / max(place.height, place.width))
    cells = [max(1, int(n * share)) for n in latent_1CHW.shape[-2:]]
    latent = F.interpolate(latent_1CHW.float(), size=cells, mode="area")
    image = model.vqvae.decode(latent)[0]
    rows, columns = place.covered(padded, (image.shape[-2], image.shape[-1]))
    return from_tensor(image[:, rows, columns][:, :side, :side])
