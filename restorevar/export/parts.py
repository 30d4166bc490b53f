"""What each graph computes: the steps of `RestoreVAR.restore`, with every shape known when it is traced."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..models import RestoreVAR
from ..models.attention import KVCache
from ..models.config import Grid
from ..models.transformer import NextScaleTransformer, Rollout
from .resizing import ResizingByMatrices

#: name of the graph's file -> (module, example inputs, names of inputs, names of outputs)
Part = tuple[nn.Module, tuple[Tensor, ...], list[str], list[str]]


class GrowingCache(KVCache):
    """Keys and values joined scale by scale: a graph has no memory to write into."""

    def __init__(self) -> None:
        self.parts: list[tuple[Tensor, Tensor]] = []

    def append(self, k_BNlK: Tensor, v_BNlK: Tensor) -> tuple[Tensor, Tensor]:
        self.parts.append((k_BNlK, v_BNlK))
        keys, values = zip(*self.parts, strict=True)
        return torch.cat(keys, dim=2), torch.cat(values, dim=2)


class _GrowingTransformer:
    """In the place of `NextScaleTransformer.begin`."""

    def __init__(self, transformer: NextScaleTransformer):
        self.begin = transformer.begin

    def __call__(self, condition_BCHW: Tensor) -> Rollout:
        rollout = self.begin(condition_BCHW)
        rollout.caches = [GrowingCache() for _ in rollout.caches]
        return rollout


class ConditionPart(nn.Module):
    """image (1, 3, Hpx, Wpx) in [-1, 1] -> condition (1, C, H, W)."""

    def __init__(self, model: RestoreVAR):
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        with ResizingByMatrices():
            return self.model.condition(image)


class RolloutPart(nn.Module):
    """condition -> discrete latent (1, C, H, W), hidden (1, L, D), tokens (1, L) int64; all scales, one after another.

    The loop is that of `RestoreVAR.generate`, unrolled when it is traced.
    """

    def __init__(self, model: RestoreVAR, scales: int):
        super().__init__()
        self.model = model
        self.scales = scales

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tokens: list[Tensor] = []
        with ResizingByMatrices():
            latent, hidden = self.model.generate(condition, lambda event: tokens.append(event.tokens_Bl), self.scales)
        return latent, hidden, torch.cat(tokens, dim=1)


class RefinerPart(nn.Module):
    """discrete latent, hidden -> continuous latent (1, C, H, W)."""

    def __init__(self, model: RestoreVAR):
        super().__init__()
        self.model = model

    def forward(self, latent: Tensor, hidden: Tensor) -> Tensor:
        return self.model.refine(latent, hidden)


class DecoderPart(nn.Module):
    """continuous latent -> restored image (1, 3, Hpx, Wpx) in [-1, 1]."""

    def __init__(self, model: RestoreVAR):
        super().__init__()
        self.model = model

    def forward(self, latent: Tensor) -> Tensor:
        return self.model.vqvae.decode(latent)


class FidelityDecoderPart(nn.Module):
    """continuous latent, degraded image, fidelity () -> restored image; the weight is an input, not a constant."""

    def __init__(self, model: RestoreVAR):
        super().__init__()
        self.model = model

    def forward(self, latent: Tensor, image: Tensor, fidelity: Tensor) -> Tensor:
        assert self.model.fidelity is not None
        with ResizingByMatrices():
            picture = self.model.fidelity.restore(image, latent, fidelity, self.model.vqvae.decode_unclamped)
        return picture.clamp(-1, 1)


@torch.no_grad()
def parts_of(model: RestoreVAR, size: Grid, scales: int) -> dict[str, Part]:
    """The graphs' modules by file name, with inputs computed by torch to trace them with.

    `size` in pixels, which the model must take; `scales` of the rollout. The model itself is left as it is.
    """
    model = _traceable(model)
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    # Run once by hand: tables of positions are cached, and must be cached as numbers, not as what tracing puts there.
    condition = ConditionPart(model)(image)
    latent, hidden, _ = RolloutPart(model, scales)(condition)
    refined = RefinerPart(model)(latent, hidden)
    parts: dict[str, Part] = {
        "condition.onnx": (ConditionPart(model), (image,), ["image"], ["condition"]),
        "rollout.onnx": (RolloutPart(model, scales), (condition,), ["condition"], ["latent", "hidden", "tokens"]),
        "refiner.onnx": (RefinerPart(model), (latent, hidden), ["latent", "hidden"], ["refined"]),
    }
    if model.fidelity is None:
        parts["decoder.onnx"] = (DecoderPart(model), (refined,), ["refined"], ["restored"])
    else:
        inputs = (refined, image, torch.tensor(model.fidelity_weight(None)))
        parts["decoder.onnx"] = (FidelityDecoderPart(model), inputs, ["refined", "image", "fidelity"], ["restored"])
    return parts


def _traceable(model: RestoreVAR) -> RestoreVAR:
    """A copy whose choices are made and whose cache grows, so that nothing in it depends on computed numbers."""
    model = copy.deepcopy(model).float().cpu().eval().requires_grad_(False)
    quantizer, transformer = model.vqvae.quantizer, model.transformer
    phis = [quantizer.phi(k) for k in range(len(quantizer.scales))]
    quantizer.phi = phis.__getitem__  # type: ignore[method-assign, assignment]
    transformer.begin = _GrowingTransformer(transformer)  # type: ignore[method-assign]
    return model
