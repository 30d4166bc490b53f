"""Latent refiner transformer (LRT): discrete latent + hidden states -> continuous latent (paper section 3.4).

All refiners (table 4) have one interface: `forward(f_hat_BCHW, hidden_BLD)` gives the refined latent,
`loss(f_hat_BCHW, hidden_BLD, target_BCHW)` the scalar to minimise. `build_refiner` makes the configured one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import attend, join_heads, split_heads
from .config import Grid, RefinerConfig, ScaleSchedule
from .diffusion_refiner import DiffusionRefiner
from .rope import apply_rope, rope_table


class RefinerAttention(nn.Module):
    """Pre-norm attention of `x` to itself, or to `other` where given; rotary positions where tables are given."""

    def __init__(self, width: int, heads: int, cross: bool):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.norm_other = nn.LayerNorm(width) if cross else None
        self.q = nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(width, 2 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(
        self, x_BMD: Tensor, rope: Tensor | None, other_BLD: Tensor | None = None, rope_other: Tensor | None = None
    ) -> Tensor:
        x = self.norm(x_BMD)
        other = x if self.norm_other is None else self.norm_other(other_BLD)
        q = split_heads(self.q(x), self.heads)
        k, v = (split_heads(t, self.heads) for t in self.kv(other).chunk(2, dim=-1))
        q = apply_rope(q, rope)
        k = apply_rope(k, rope if rope_other is None else rope_other)
        return self.proj(join_heads(attend(q, k, v)))


class RefinerLayer(nn.Module):
    """Self-attention, feed-forward, cross-attention to the hidden states of all scales (if used), each residual."""

    def __init__(self, config: RefinerConfig):
        super().__init__()
        self.attention = RefinerAttention(config.width, config.heads, cross=False)
        self.ffn = nn.Sequential(
            nn.LayerNorm(config.width),
            nn.Linear(config.width, config.mlp_width),
            nn.GELU(),
            nn.Linear(config.mlp_width, config.width),
        )
        self.cross = RefinerAttention(config.width, config.heads, cross=True) if config.hidden else None

    def forward(
        self, x_BMD: Tensor, rope: Tensor | None, hidden_BLD: Tensor | None, rope_hidden: Tensor | None
    ) -> Tensor:
        x = x_BMD + self.attention(x_BMD, rope)
        x = x + self.ffn(x)
        return x if self.cross is None else x + self.cross(x, rope, hidden_BLD, rope_hidden)


class LatentRefiner(nn.Module):
    """f_refined = f_hat + LRT(f_hat, hidden). Computes in the dtype of its weights, returns float32."""

    def __init__(self, config: RefinerConfig, scales: ScaleSchedule, latent_channels: int, hidden_width: int):
        super().__init__()
        self.config = config
        self.scales = scales
        self.norm_in = nn.LayerNorm(latent_channels)
        if config.hidden:
            self.norm_hidden = nn.LayerNorm(hidden_width)
        self.proj_in = nn.Linear(latent_channels, config.width, bias=False)
        if config.hidden:
            self.proj_hidden = nn.Linear(hidden_width, config.width, bias=False)
        if config.positions == "learned":
            self.positions = self._table(scales.sides[-1] ** 2)
            if config.hidden:
                self.positions_hidden = self._table(scales.length())
        self.layers = nn.ModuleList(RefinerLayer(config) for _ in range(config.depth))
        self.norm_out = nn.LayerNorm(config.width)
        self.proj_out = nn.Linear(config.width, latent_channels, bias=False)
        nn.init.zeros_(self.proj_out.weight)  # a new refiner changes nothing

    def _table(self, length: int) -> nn.Parameter:
        return nn.Parameter(nn.init.trunc_normal_(torch.empty(length, self.config.width), std=0.02))

    def forward(self, f_hat_BCHW: Tensor, hidden_BLD: Tensor) -> Tensor:
        """f_hat_BCHW: quantized latent; hidden_BLD: last block's states of all scales, or of
        the coarser ones of a rollout that ended early. Returns (B, C, H, W)."""
        grid = (f_hat_BCHW.shape[-2], f_hat_BCHW.shape[-1])
        if self.config.positions == "learned" and grid != self.scales.native:
            raise ValueError(f"this refiner has learned positions for {self.scales.native}, not {grid}")
        x_BMD, rope = self._embed_latent(f_hat_BCHW, grid)
        hidden, rope_hidden = self._embed_hidden(hidden_BLD, grid) if self.config.hidden else (None, None)
        for layer in self.layers:
            x_BMD = layer(x_BMD, rope, hidden, rope_hidden)
        residual_BMC = self.proj_out(self.norm_out(x_BMD)).float()
        return f_hat_BCHW + residual_BMC.transpose(1, 2).reshape(f_hat_BCHW.shape)

    def loss(self, f_hat_BCHW: Tensor, hidden_BLD: Tensor, target_BCHW: Tensor) -> Tensor:
        """L1 to the clean image's continuous latent, as published."""
        return F.l1_loss(self(f_hat_BCHW, hidden_BLD), target_BCHW)

    def _embed_latent(self, f_hat_BCHW: Tensor, grid: Grid) -> tuple[Tensor, Tensor | None]:
        """One token per cell (B, M, D), and their turns where positions are rotary."""
        f_hat_BMC = f_hat_BCHW.flatten(2).transpose(1, 2)
        x_BMD = self.proj_in(self.norm_in(f_hat_BMC.to(self.proj_in.weight.dtype)))
        if self.config.positions == "learned":
            return x_BMD + self.positions, None
        return x_BMD, self._rope(grid, (grid,), x_BMD)

    def _embed_hidden(self, hidden_BLD: Tensor, grid: Grid) -> tuple[Tensor, Tensor | None]:
        """The hidden states in the refiner's width, and their turns where positions are rotary."""
        x_BLD = self.proj_hidden(self.norm_hidden(hidden_BLD.to(self.proj_hidden.weight.dtype)))
        if self.config.positions == "learned":
            return x_BLD + self.positions_hidden[: x_BLD.shape[1]], None
        bounds = zip(self.scales.grids(grid), self.scales.bounds(grid), strict=True)
        grids = tuple(scale_grid for scale_grid, (_, end) in bounds if end <= x_BLD.shape[1])
        return x_BLD, self._rope(grid, grids, x_BLD)

    def _rope(self, final: Grid, grids: tuple[Grid, ...], like: Tensor) -> Tensor:
        return rope_table(grids, final, self.config.width // self.config.heads, 10000.0, like.device)


class NoRefiner(nn.Module):
    """The first row of table 4: the discrete latent is decoded as it is. Nothing to train."""

    def forward(self, f_hat_BCHW: Tensor, hidden_BLD: Tensor) -> Tensor:
        return f_hat_BCHW

    def loss(self, f_hat_BCHW: Tensor, hidden_BLD: Tensor, target_BCHW: Tensor) -> Tensor:
        return f_hat_BCHW.new_zeros(())


Refiner = LatentRefiner | DiffusionRefiner | NoRefiner


def build_refiner(config: RefinerConfig, scales: ScaleSchedule, latent_channels: int, hidden_width: int) -> Refiner:
    """The refiner of `config.kind`; `hidden_width` is the width of the transformer."""
    if config.kind == "none":
        return NoRefiner()
    if config.kind == "diffusion":
        return DiffusionRefiner(config, latent_channels, hidden_width)
    return LatentRefiner(config, scales, latent_channels, hidden_width)
