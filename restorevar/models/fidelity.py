"""Fidelity branch, ours: what the latent cannot hold is taken from the degraded image itself.

The paper says that fidelity is bounded by refiner and decoder: everything passes through a small latent. Here features
of the degraded image enter the decoder at each resolution through gated convolutions whose last layer starts at zero.
A weight W in [0, 1] scales them; W = 0 is exactly the paper's path.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .autoencoder import Downsample, ResBlock, norm_layer
from .config import FidelityConfig, VQVAEConfig


class GatedFusion(nn.Module):
    """(decoder features, degraded features) -> what to add: zero_conv(a * sigmoid(b)), (a, b) = conv(both)."""

    def __init__(self, width: int, width_out: int, norm: str, kernel: int = 3):
        super().__init__()
        self.norm = norm_layer(norm, 2 * width)
        self.mix = nn.Conv2d(2 * width, 2 * width, kernel, padding=kernel // 2)
        self.out = nn.Conv2d(width, width_out, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        self.start_at([0.0] * width_out)

    def start_at(self, bias: list[float]) -> None:
        """What an untrained fusion gives, per channel, whatever it is shown."""
        self.out.bias = nn.Parameter(torch.tensor(bias))

    def forward(self, h_BCHW: Tensor, degraded_BCHW: Tensor) -> Tensor:
        return self.out(F.glu(self.mix(self.norm(torch.cat([h_BCHW, degraded_BCHW], 1))), dim=1))


class GlobalContext(nn.Module):
    """Scale and shift per channel, from the mean over the window: x * (1 + a) + b. Starts as the identity.

    Which degradation there is, and how strong, shows in the whole picture rather than in one place.
    """

    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, 2 * width)
        nn.init.zeros_(self.fc2.weight)
        nn.init.zeros_(self.fc2.bias)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        scale, shift = self.fc2(F.silu(self.fc1(x_BCHW.mean((2, 3)))))[..., None, None].chunk(2, dim=1)
        return x_BCHW * (1 + scale) + shift


class FidelityBranch(nn.Module):
    """Encodes the degraded image and offers its features to the decoder, level by level."""

    def __init__(self, config: FidelityConfig, vqvae: VQVAEConfig):
        super().__init__()
        widths, last = vqvae.widths, len(vqvae.widths) - 1
        counts = (*config.blocks, *[config.blocks[-1]] * len(widths))
        self.patch = vqvae.patch
        self.conv_in = nn.Conv2d(3 * vqvae.patch**2, widths[0], 3, padding=1)
        self.levels = nn.ModuleList(
            nn.Sequential(
                *(ResBlock(widths[max(i - 1, 0)] if b == 0 else width, width, vqvae.norm) for b in range(counts[i])),
                *([GlobalContext(width)] if i == last else []),
            )
            for i, width in enumerate(widths)
        )
        self.downs = nn.ModuleList(Downsample(width) for width in widths[:-1])
        # At the coarsest level a cell sees far by itself; 1x1 saves half of that level's weights.
        self.fusions = nn.ModuleList(
            GatedFusion(width, width, vqvae.norm, kernel=1 if 0 < i == last else 3) for i, width in enumerate(widths)
        )
        # In image space: how much of the input to keep per pixel and channel, and what to add to it.
        # Training starts from "keep all of it": restoring is then a small change, as for any residual network.
        self.to_image = GatedFusion(widths[0], 2 * 3 * vqvae.patch**2, vqvae.norm)
        self.to_image.start_at([1.0] * (3 * vqvae.patch**2) + [0.0] * (3 * vqvae.patch**2))

    def encode(self, degraded_B3HW: Tensor) -> list[Tensor]:
        """Features per level, finest first."""
        h = self.conv_in(F.pixel_unshuffle(degraded_B3HW.to(self.conv_in.weight.dtype), self.patch))
        features = []
        for i, level in enumerate(self.levels):
            h = level(h if i == 0 else self.downs[i - 1](h))
            features.append(h)
        return features

    def injector(self, degraded_B3HW: Tensor, weight: float) -> FidelityInjector:
        """The degraded image's features, ready for one pass of the decoder."""
        return FidelityInjector(self, degraded_B3HW, weight)


class FidelityInjector:
    """Called by the decoder after each level's blocks; `finish` then blends in image space."""

    def __init__(self, branch: FidelityBranch, degraded_B3HW: Tensor, weight: float):
        self.branch = branch
        self.degraded_B3HW = degraded_B3HW
        self.weight = weight
        self.features = branch.encode(degraded_B3HW)
        self.last: Tensor | None = None

    def __call__(self, level: int, h: Tensor) -> Tensor:
        h = h + self.weight * self.branch.fusions[level](h, self.features[level])
        if level == 0:
            self.last = h
        return h

    def finish(self, decoded_B3HW: Tensor) -> Tensor:
        """decoded + W (keep * (degraded - decoded) + detail), keep and detail from the finest features."""
        assert self.last is not None, "the decoder has not run"
        out = F.pixel_shuffle(self.branch.to_image(self.last, self.features[0]).float(), self.branch.patch)
        keep, detail = out.chunk(2, dim=1)
        return decoded_B3HW + self.weight * (keep * (self.degraded_B3HW.float() - decoded_B3HW) + detail)
