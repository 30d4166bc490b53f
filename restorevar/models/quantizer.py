"""Multi-scale residual quantizer: latent <-> token maps, coarse to fine (paper section 3.1, VAR section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import Grid, ScaleSchedule, VQVAEConfig


class Phi(nn.Conv2d):
    """phi(h) = (1 - r) h + r conv3x3(h): smooths what upsampling left."""

    def __init__(self, channels: int, ratio: float):
        super().__init__(channels, channels, 3, padding=1)
        self.ratio = ratio

    def forward(self, h_BCHW: Tensor) -> Tensor:
        return h_BCHW * (1 - self.ratio) + super().forward(h_BCHW) * self.ratio


@dataclass
class Quantized:
    """What quantizing a latent gives for training."""

    latent_BCHW: Tensor  #: straight-through: the quantized values, the gradient of the input
    loss: Tensor  #: VQ + beta * commitment, mean over the scales
    tokens: list[Tensor]  #: one (B, l) per scale


class MultiScaleQuantizer(nn.Module):
    """One codebook shared by all scales; arithmetic in float32 whatever the rest of the model uses."""

    def __init__(self, config: VQVAEConfig, scales: ScaleSchedule, beta: float = 0.25):
        super().__init__()
        self.scales = scales
        self.beta = beta
        self.codebook = nn.Embedding(config.codebook_size, config.latent_channels)
        self.phis = nn.ModuleList(Phi(config.latent_channels, config.phi_ratio) for _ in range(config.phi_count))

    def phi(self, k: int) -> nn.Module:
        """The phi of scale k: the nearest of evenly spaced ticks to k / (K - 1)."""
        count = len(self.phis)
        margin = 1 / 3 / count if count == 4 else 1 / 2 / count  # as published
        ticks = torch.linspace(margin, 1 - margin, count, dtype=torch.float64)
        return self.phis[int((ticks - k / (len(self.scales) - 1)).abs().argmin())]

    def nearest(self, residual_BCHW: Tensor, grid: Grid) -> Tensor:
        """Area-resize the residual to the grid and take the nearest code of every cell: (B, l)."""
        if residual_BCHW.shape[-2:] != grid:
            residual_BCHW = F.interpolate(residual_BCHW, size=grid, mode="area")
        x_nC = residual_BCHW.permute(0, 2, 3, 1).reshape(-1, residual_BCHW.shape[1])
        codes_VC = self.codebook.weight
        distance = x_nC.square().sum(1, keepdim=True) + codes_VC.square().sum(1)
        distance = distance.addmm(x_nC, codes_VC.T, alpha=-2)
        return distance.argmin(1).view(residual_BCHW.shape[0], -1)

    def contribution(self, k: int, codes_BlC: Tensor, grid: Grid) -> Tensor:
        """What the codes of scale k add to the latent: bicubic to full size, then phi. (B, C, H, W)."""
        h, w = self.scales.grids(grid)[k]
        codes_BChw = codes_BlC.transpose(1, 2).unflatten(2, (h, w))
        if k < len(self.scales) - 1:
            codes_BChw = F.interpolate(codes_BChw, size=grid, mode="bicubic")
        return self.phi(k)(codes_BChw.contiguous())

    def accumulate(self, k: int, f_hat_BCHW: Tensor, tokens_Bl: Tensor) -> Tensor:
        """One step of the residual sum: f_hat after scale k."""
        return self.accumulate_codes(k, f_hat_BCHW, self.codebook(tokens_Bl))

    def accumulate_codes(self, k: int, f_hat_BCHW: Tensor, codes_BlC: Tensor) -> Tensor:
        """As `accumulate`, from code vectors: of tokens, or averaged over a distribution of tokens."""
        return f_hat_BCHW + self.contribution(k, codes_BlC, _grid(f_hat_BCHW))

    def expected_codes(self, logits_BlV: Tensor) -> Tensor:
        """The mean code under the predicted distribution: (B, l, C), float32."""
        return logits_BlV.float().softmax(-1) @ self.codebook.weight

    def next_input(self, k: int, f_hat_BCHW: Tensor) -> Tensor:
        """What the transformer reads for scale k: f_hat of the scales before, area-resized; (B, l, C)."""
        grid = self.scales.grids(_grid(f_hat_BCHW))[k]
        return F.interpolate(f_hat_BCHW, size=grid, mode="area").flatten(2).transpose(1, 2)

    @torch.no_grad()
    def tokenize(self, latent_BCHW: Tensor) -> list[Tensor]:
        """Latent -> tokens, one (B, l) int64 per scale."""
        grid = _grid(latent_BCHW)
        residual = latent_BCHW.float().clone()
        tokens = []
        for k, scale_grid in enumerate(self.scales.grids(grid)):
            tokens.append(self.nearest(residual, scale_grid))
            residual -= self.contribution(k, self.codebook(tokens[-1]), grid)
        return tokens

    def partial_latents(self, tokens: Sequence[Tensor], grid: Grid) -> list[Tensor]:
        """f_hat after every scale; the last is the quantized latent. Each (B, C, H, W)."""
        f_hat = self.zeros(tokens[0].shape[0], grid)
        partial = []
        for k, tokens_Bl in enumerate(tokens):
            f_hat = self.accumulate(k, f_hat, tokens_Bl)
            partial.append(f_hat)
        return partial

    def decode(self, tokens: Sequence[Tensor], grid: Grid) -> Tensor:
        """Tokens of all scales -> quantized latent (B, C, H, W)."""
        return self.partial_latents(tokens, grid)[-1]

    def teacher_forcing_input(self, tokens: Sequence[Tensor], grid: Grid) -> Tensor:
        """The transformer's inputs for scales 1.. from the true tokens: (B, L - l_0, C). Scale 0 has none."""
        partial = self.partial_latents(tokens[:-1], grid)
        return torch.cat([self.next_input(k + 1, f_hat) for k, f_hat in enumerate(partial)], dim=1)

    def forward(self, latent_BCHW: Tensor) -> Quantized:
        """Quantize for training. The loss compares every partial sum with the latent (VAR's VQVAE loss)."""
        latent = latent_BCHW.float()
        target = latent.detach()
        grid = _grid(latent)
        residual = target.clone()
        f_hat = torch.zeros_like(residual)
        loss = torch.zeros((), device=latent.device)
        tokens = []
        for k, scale_grid in enumerate(self.scales.grids(grid)):
            tokens.append(self.nearest(residual.detach(), scale_grid))
            f_hat = self.accumulate(k, f_hat, tokens[-1])
            residual = target - f_hat
            loss = loss + F.mse_loss(f_hat, target) + self.beta * F.mse_loss(latent, f_hat.detach())
        straight_through = latent + (f_hat - latent).detach()
        return Quantized(straight_through, loss / len(self.scales), tokens)

    def zeros(self, batch: int, grid: Grid) -> Tensor:
        """The latent before the first scale."""
        weight = self.codebook.weight
        return weight.new_zeros(batch, weight.shape[1], *grid)


def _grid(latent_BCHW: Tensor) -> Grid:
    return latent_BCHW.shape[-2], latent_BCHW.shape[-1]
