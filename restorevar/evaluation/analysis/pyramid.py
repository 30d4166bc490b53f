"""What each scale adds to the latent, of a photo or as predicted; scales swapped between two of them.

The latent is a sum over the scales, so swapping token maps is swapping terms of a sum. That holds for the mean codes
of rollout "expected" too, which no token has.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ...models import RestoreVAR, ScaleEvent


@dataclass(frozen=True)
class Pyramid:
    """Token maps (1, h, w) and what they add to the latent (1, C, H, W), coarse to fine."""

    tokens: tuple[Tensor, ...]
    parts: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def latent(self) -> Tensor:
        """The quantized latent."""
        return torch.stack(self.parts).sum(0)

    @property
    def counts(self) -> list[int]:
        """Tokens of each scale."""
        return [tokens.numel() for tokens in self.tokens]


@dataclass(frozen=True)
class Prediction:
    """A rollout, kept scale by scale: one (1, h, w) map each."""

    pyramid: Pyramid
    confidence: tuple[Tensor, ...]  #: probability of the chosen token, 0 to 1
    entropy: tuple[Tensor, ...]  #: of the predicted distribution, in bits; at most log2 of the codebook's size
    hidden_BLD: Tensor  #: what the refiner reads


@torch.inference_mode()
def pyramid_of(model: RestoreVAR, image_B3HW: Tensor) -> Pyramid:
    """The token maps of one image, as the quantizer finds them."""
    return pyramid_of_latent(model, model.vqvae.encode(image_B3HW).float())


@torch.inference_mode()
def pyramid_of_latent(model: RestoreVAR, latent_BCHW: Tensor) -> Pyramid:
    quantizer, grid = model.vqvae.quantizer, (latent_BCHW.shape[-2], latent_BCHW.shape[-1])
    tokens = quantizer.tokenize(latent_BCHW)
    return _pyramid(model, tokens, quantizer.partial_latents(tokens, grid))


@torch.inference_mode()
def predict(model: RestoreVAR, degraded_B3HW: Tensor) -> Prediction:
    """The model's own rollout for one degraded image: its token maps, and how sure it was of each."""
    return predict_from(model, model.condition(degraded_B3HW))


@torch.inference_mode()
def predict_from(model: RestoreVAR, condition_BCHW: Tensor) -> Prediction:
    tokens, partial, confidence, entropy = [], [], [], []

    def keep(event: ScaleEvent) -> None:
        tokens.append(event.tokens_Bl)
        partial.append(event.f_hat_BCHW)
        logs_BlV = event.logits_BlV.float().log_softmax(-1)
        confidence.append(logs_BlV.amax(-1).exp())
        entropy.append(-(logs_BlV.exp() * logs_BlV).sum(-1) / torch.log(torch.tensor(2.0)))

    _, hidden_BLD = model.generate(condition_BCHW, keep)
    pyramid = _pyramid(model, tokens, partial)
    maps = [
        tuple(values.view(grid.shape) for values, grid in zip(rows, pyramid.tokens, strict=True))
        for rows in (confidence, entropy)
    ]
    return Prediction(pyramid, maps[0], maps[1], hidden_BLD)


def _pyramid(model: RestoreVAR, tokens: Sequence[Tensor], partial: Sequence[Tensor]) -> Pyramid:
    final = partial[0].shape[-2:]
    grids = model.config.scales.grids((final[0], final[1]))
    maps = tuple(t.view(t.shape[0], *grid) for t, grid in zip(tokens, grids, strict=True))
    return Pyramid(maps, (partial[0], *(after - before for before, after in pairwise(partial))))


def swapped(base: Pyramid, other: Pyramid, scales: Collection[int]) -> Tensor:
    """The latent of `base` with the terms of `scales` (0 is the coarsest) taken from `other`."""
    return torch.stack([(other if k in scales else base).parts[k] for k in range(len(base))]).sum(0)


def coarsest(base: Pyramid, n: int) -> range:
    return range(n)


def finest(base: Pyramid, n: int) -> range:
    return range(len(base) - n, len(base))
