"""Latent refiner transformer (LRT): discrete latent + hidden states -> continuous latent (paper section 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .attention import attend, join_heads, split_heads
from .config import Grid, RefinerConfig, ScaleSchedule
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
        if rope is not None:
            q = apply_rope(q, rope)
            k = apply_rope(k, rope if rope_other is None else rope_other)
        return self.proj(join_heads(attend(q, k, v)))


class RefinerLayer(nn.Module):
    """Self-attention, feed-forward, cross-attention to the hidden states of all scales, each residual."""

    def __init__(self, config: RefinerConfig):
        super().__init__()
        self.attention = RefinerAttention(config.width, config.heads, cross=False)
        self.ffn = nn.Sequential(
            nn.LayerNorm(config.width),
            nn.Linear(config.width, config.mlp_width),
            nn.GELU(),
            nn.Linear(config.mlp_width, config.width),
        )
        self.cross = RefinerAttention(config.width, config.heads, cross=True)

    def forward(self, x_BMD: Tensor, hidden_BLD: Tensor, rope: Tensor | None, rope_hidden: Tensor | None) -> Tensor:
        x = x_BMD + self.attention(x_BMD, rope)
        x = x + self.ffn(x)
        return x + self.cross(x, rope, hidden_BLD, rope_hidden)


class LatentRefiner(nn.Module):
    """f_refined = f_hat + LRT(f_hat, hidden). Computes in the dtype of its weights, returns float32."""

    def __init__(self, config: RefinerConfig, scales: ScaleSchedule, latent_channels: int, hidden_width: int):
        super().__init__()
        self.config = config
        self.scales = scales
        self.norm_in = nn.LayerNorm(latent_channels)
        self.norm_hidden = nn.LayerNorm(hidden_width)
        self.proj_in = nn.Linear(latent_channels, config.width, bias=False)
        self.proj_hidden = nn.Linear(hidden_width, config.width, bias=False)
        if config.positions == "learned":
            self.positions = nn.Parameter(torch.empty(scales.sides[-1] ** 2, config.width))
            self.positions_hidden = nn.Parameter(torch.empty(scales.length(), config.width))
            nn.init.trunc_normal_(self.positions, std=0.02)
            nn.init.trunc_normal_(self.positions_hidden, std=0.02)
        self.layers = nn.ModuleList(RefinerLayer(config) for _ in range(config.depth))
        self.norm_out = nn.LayerNorm(config.width)
        self.proj_out = nn.Linear(config.width, latent_channels, bias=False)
        nn.init.zeros_(self.proj_out.weight)  # a new refiner changes nothing

    def forward(self, f_hat_BCHW: Tensor, hidden_BLD: Tensor) -> Tensor:
        """f_hat_BCHW: quantized latent; hidden_BLD: last block's states of all scales. Returns (B, C, H, W)."""
        dtype = self.proj_in.weight.dtype
        grid = (f_hat_BCHW.shape[-2], f_hat_BCHW.shape[-1])
        f_hat_BMC = f_hat_BCHW.flatten(2).transpose(1, 2)
        x_BMD = self.proj_in(self.norm_in(f_hat_BMC.to(dtype)))
        hidden = self.proj_hidden(self.norm_hidden(hidden_BLD.to(dtype)))
        rope = rope_hidden = None
        if self.config.positions == "learned":
            if grid != self.scales.native:
                raise ValueError(f"this refiner has learned positions for {self.scales.native}, not {grid}")
            x_BMD, hidden = x_BMD + self.positions, hidden + self.positions_hidden
        else:
            rope, rope_hidden = (
                self._rope(grid, (grid,), x_BMD),
                self._rope(grid, tuple(self.scales.grids(grid)), x_BMD),
            )
        for layer in self.layers:
            x_BMD = layer(x_BMD, hidden, rope, rope_hidden)
        residual_BMC = self.proj_out(self.norm_out(x_BMD)).float()
        return f_hat_BCHW + residual_BMC.transpose(1, 2).reshape(f_hat_BCHW.shape)

    def _rope(self, final: Grid, grids: tuple[Grid, ...], like: Tensor) -> Tensor:
        return rope_table(grids, final, self.config.width // self.config.heads, 10000.0, like.device)
