"""The rollout of the transformer in fewer, larger steps.

What is constant is computed once (temperatures, biases, gains, turns of the positions), queries and keys are
normalised and turned together, and keys go straight into the cache. The arithmetic is that of models/attention.py
in another order; no weight is copied.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.attention import MAX_LOG_SCALE, CosineAttention, KVCache, attend, join_heads
from ..models.transformer import Block, NextScaleTransformer, Rollout
from .twin import Twin

#: Below this length a vector counts as this long (torch.nn.functional.normalize).
_SHORTEST = 1e-12


class LeanRollout(Twin):
    """Of `NextScaleTransformer.step`, for the weights that the transformer has now."""

    def __init__(self, transformer: NextScaleTransformer):
        self.transformer = transformer
        self.blocks = [LeanBlock(block) for block in transformer.blocks]  # type: ignore[arg-type]

    def __call__(self, k: int, input_BlC: Tensor | None, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """See `NextScaleTransformer.step`."""
        transformer = self.transformer
        x_BlD = transformer.embed_scale(k, input_BlC, rollout)
        turns = _turns(transformer.turns_of_scale(k, rollout))
        for block, keys_values, cache in zip(self.blocks, rollout.keys_values, rollout.caches, strict=True):
            x_BlD = block(x_BlD, turns, keys_values, cache)
        return transformer.logits(x_BlD), x_BlD


class LeanBlock:
    """Twin of `Block.forward` with a cache, in eval mode."""

    def __init__(self, block: Block):
        self.block = block
        attention, cross = block.attention, block.cross
        self.heads = attention.heads
        self.bias = torch.cat([attention.q_bias, torch.zeros_like(attention.q_bias), attention.v_bias]).detach()
        # (2, N, 1): queries by their temperature, keys by one.
        self.scales = torch.stack([_temperature(attention), torch.ones_like(_temperature(attention))])
        self.scale_cross = _temperature(cross)
        self.gain = float(cross.gain)

    def __call__(
        self, x_BlD: Tensor, turns: Tensor | None, keys_values: tuple[Tensor, Tensor], cache: KVCache
    ) -> Tensor:
        block = self.block
        x = x_BlD + self._attend_self(x_BlD, turns, cache)
        x += block.ffn(_norm(x))
        return torch.add(x, self._attend_condition(x, turns, keys_values), alpha=self.gain)

    def _attend_self(self, x_BlD: Tensor, turns: Tensor | None, cache: KVCache) -> Tensor:
        attention = self.block.attention
        qkv = F.linear(_norm(x_BlD), attention.qkv.weight, self.bias).unflatten(-1, (3, self.heads, -1))
        qk_Bl2NK = _turned(qkv[:, :, :2], self.scales, turns)
        k_BNLK, v_BNLK = cache.append(qk_Bl2NK[:, :, 1].transpose(1, 2), qkv[:, :, 2].transpose(1, 2))
        q_BNlK = qk_Bl2NK[:, :, 0].transpose(1, 2).to(x_BlD.dtype)
        return attention.proj(join_heads(attend(q_BNlK, k_BNLK, v_BNLK, scale=1.0)))

    def _attend_condition(self, x_BlD: Tensor, turns: Tensor | None, keys_values: tuple[Tensor, Tensor]) -> Tensor:
        cross = self.block.cross
        q_BlNK = cross.q(cross.norm_q(x_BlD)).unflatten(-1, (self.heads, -1))
        q_BNlK = _turned(q_BlNK, self.scale_cross, turns).transpose(1, 2).to(x_BlD.dtype)
        return cross.proj(join_heads(attend(q_BNlK, *keys_values, scale=1.0)))


def _temperature(attention: CosineAttention) -> Tensor:
    """(N, 1), float32."""
    return attention.log_scale.detach().float().clamp_max(MAX_LOG_SCALE).exp().view(-1, 1)


def _turned(x_BlNK: Tensor, scale: Tensor, turns: Tensor | None) -> Tensor:
    """Of length `scale`, and turned; (B, l, ..., K), in float32. Turning keeps lengths, so the order is free."""
    x = x_BlNK.float()
    factor = scale / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min_(_SHORTEST)
    if turns is None:
        return x * factor
    turns = turns.view(turns.shape[0], *[1] * (x.ndim - 3), -1)  # the same for queries, keys and all heads
    turned = torch.view_as_complex(x.unflatten(-1, (-1, 2))) * turns
    return torch.view_as_real(turned).flatten(-2).mul_(factor)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _turns(table_2lk: Tensor | None) -> Tensor | None:
    """(cos, sin) -> cos + i sin, (l, k). The tables are cached themselves, and so are the same objects each time."""
    return None if table_2lk is None else torch.complex(table_2lk[0], table_2lk[1])


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)
