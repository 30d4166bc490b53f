"""Attention of the next-scale transformer: self-attention with a cache, cross-attention to the condition."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .rope import apply_rope

MAX_LOG_SCALE = math.log(100.0)


def split_heads(x_BLD: Tensor, heads: int) -> Tensor:
    """(B, L, D) -> (B, N, L, K)."""
    return x_BLD.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(x_BNLK: Tensor) -> Tensor:
    """(B, N, L, K) -> (B, L, D)."""
    return x_BNLK.transpose(1, 2).flatten(2)


def attend(
    q_BNlK: Tensor, k_BNLK: Tensor, v_BNLK: Tensor, mask_lL: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """softmax(scale * q k^T) v; `mask_lL` True = may look; scale defaults to 1 / sqrt(K). (B, N, l, K).

    torch's fused attention everywhere but for bf16 on CPUs, where two plain matrix products are three times as fast
    (docs/log.md).
    """
    if q_BNlK.device.type != "cpu" or q_BNlK.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(q_BNlK, k_BNLK, v_BNLK, attn_mask=mask_lL, scale=scale)
    scores_BNlL = q_BNlK * (q_BNlK.shape[-1] ** -0.5 if scale is None else scale) @ k_BNLK.transpose(-1, -2)
    if mask_lL is not None:
        scores_BNlL = scores_BNlL.masked_fill(~mask_lL, -torch.inf)
    return scores_BNlL.softmax(-1, dtype=torch.bfloat16) @ v_BNLK


class KVCache:
    """Keys and values of the scales done so far, in memory taken once for all L tokens."""

    def __init__(self, batch: int, heads: int, length: int, head_width: int, like: Tensor):
        self.k_BNLK = like.new_empty(batch, heads, length, head_width)
        self.v_BNLK = torch.empty_like(self.k_BNLK)
        self.filled = 0

    def append(self, k_BNlK: Tensor, v_BNlK: Tensor) -> tuple[Tensor, Tensor]:
        """Store one scale; returns views on everything stored."""
        end = self.filled + k_BNlK.shape[2]
        self.k_BNLK[:, :, self.filled : end] = k_BNlK
        self.v_BNLK[:, :, self.filled : end] = v_BNlK
        self.filled = end
        return self.k_BNLK[:, :, :end], self.v_BNLK[:, :, :end]


class CosineAttention(nn.Module):
    """What both attentions share: q and k of unit length, a learned temperature per head, then RoPE.

    The temperature is exp(min(log_scale, log 100)) and starts at 4; the usual 1 / sqrt(K) is not applied.
    Rotary tables are None in a transformer with absolute positions.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.log_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(4.0)))

    def queries(self, q_BNlK: Tensor, rope_q: Tensor | None) -> Tensor:
        scale = self.log_scale.float().clamp_max(MAX_LOG_SCALE).exp()
        return apply_rope(F.normalize(q_BNlK.float(), dim=-1) * scale, rope_q).to(q_BNlK.dtype)

    def keys(self, k_BNlK: Tensor, rope_k: Tensor | None) -> Tensor:
        return apply_rope(F.normalize(k_BNlK.float(), dim=-1), rope_k).to(k_BNlK.dtype)


class SelfAttention(CosineAttention):
    """Attention among the tokens of all scales. q and v have a bias, k has none."""

    def __init__(self, width: int, heads: int):
        super().__init__(width, heads)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(
        self, x_BlD: Tensor, rope: Tensor | None, mask_LL: Tensor | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """`mask_LL` (True = may look) for teacher forcing, `cache` for rollouts; shapes (B, l, D)."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        q, k, v = F.linear(x_BlD, self.qkv.weight, bias).chunk(3, dim=-1)
        q_BNlK = self.queries(split_heads(q, self.heads), rope)
        k_BNLK = self.keys(split_heads(k, self.heads), rope)
        v_BNLK = split_heads(v, self.heads)
        if cache is not None:
            k_BNLK, v_BNLK = cache.append(k_BNLK, v_BNLK)
        out = attend(q_BNlK, k_BNLK, v_BNLK, mask_LL, scale=1.0)
        return self.proj(join_heads(out))


class CrossAttention(CosineAttention):
    """Attention to the latent of the degraded image. The gain starts at zero: a new layer changes nothing."""

    def __init__(self, width: int, heads: int):
        super().__init__(width, heads)
        self.norm_q = nn.LayerNorm(width)
        self.norm_kv = nn.LayerNorm(width)
        self.q = nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(width, 2 * width, bias=False)
        self.proj = nn.Linear(width, width)
        self.gain = nn.Parameter(torch.zeros(()))

    def keys_values(self, condition_BMD: Tensor, rope_k: Tensor | None) -> tuple[Tensor, Tensor]:
        """The condition is the same at every scale: its keys and values are computed once per image."""
        k, v = self.kv(self.norm_kv(condition_BMD)).chunk(2, dim=-1)
        return self.keys(split_heads(k, self.heads), rope_k), split_heads(v, self.heads)

    def forward(self, x_BlD: Tensor, keys_values: tuple[Tensor, Tensor], rope_q: Tensor | None) -> Tensor:
        q_BNlK = self.queries(split_heads(self.q(self.norm_q(x_BlD)), self.heads), rope_q)
        out = attend(q_BNlK, *keys_values, scale=1.0)
        return self.gain * self.proj(join_heads(out))
