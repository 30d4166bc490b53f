"""The next-scale transformer: predicts the token maps of the clean image, coarse to fine (paper section 3.2, 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .attention import CrossAttention, KVCache, SelfAttention
from .config import Grid, ScaleSchedule, TransformerConfig
from .rope import rope_table


class FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class Block(nn.Module):
    """Self-attention, feed-forward, cross-attention, each residual. No AdaLN: the norms have no parameters."""

    def __init__(self, config: TransformerConfig, drop_path: float):
        super().__init__()
        self.drop_path = drop_path
        self.attention = SelfAttention(config.width, config.heads)
        self.ffn = FeedForward(config.width, round(config.width * config.mlp_ratio))
        self.cross = CrossAttention(config.width, config.heads)

    def forward(
        self,
        x_BlD: Tensor,
        rope: Tensor | None,
        keys_values: tuple[Tensor, Tensor],
        mask_LL: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        x = x_BlD + self._drop(self.attention(_norm(x_BlD), rope, mask_LL, cache))
        x = x + self._drop(self.ffn(_norm(x)))
        return x + self._drop(self.cross(x, keys_values, rope))

    def teacher_forced(
        self, x_BLD: Tensor, rope: Tensor | None, condition_BMD: Tensor, rope_final: Tensor | None, mask_LL: Tensor
    ) -> Tensor:
        """All scales at once, the condition's keys and values included: what checkpointing computes again."""
        return self(x_BLD, rope, self.cross.keys_values(condition_BMD, rope_final), mask_LL=mask_LL)

    def _drop(self, branch_BlD: Tensor) -> Tensor:
        """Stochastic depth: a sample loses the branch with probability `drop_path`, in training only."""
        if not self.training or self.drop_path == 0:
            return branch_BlD
        keep = 1 - self.drop_path
        mask = branch_BlD.new_empty(branch_BlD.shape[0], 1, 1).bernoulli_(keep)
        return branch_BlD * mask / keep


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


@dataclass
class Rollout:
    """What a rollout carries from scale to scale."""

    grid: Grid
    start_BlD: Tensor  #: input of scale 0
    keys_values: list[tuple[Tensor, Tensor]]  #: of the condition, per block
    caches: list[KVCache]
    aligned: list[Tensor] = field(default_factory=list)  #: projected degraded latent per scale, if configured


class NextScaleTransformer(nn.Module):
    """`forward` is teacher forcing over all scales at once; `begin` and `step` are the rollout, one scale a call.

    Embeddings and the head stay in float32; the blocks compute in the dtype of their weights.
    `checkpointing` trades time for memory in training: each block's activations are computed again for its gradient.
    """

    checkpointing: bool = False

    def __init__(self, config: TransformerConfig, scales: ScaleSchedule, latent_channels: int, codebook_size: int):
        super().__init__()
        self.config = config
        self.scales = scales
        width = config.width
        self.word_embed = nn.Linear(latent_channels, width)
        # The start vector is the last row, "no class"; the published table keeps VAR's 1000 ImageNet rows too.
        self.class_embed = nn.Embedding(config.classes + 1, width)
        self.scale_embed = nn.Embedding(len(scales), width)
        self.condition_proj = nn.Linear(latent_channels, latent_channels)
        self.condition_embed = nn.Linear(latent_channels, width)
        self.condition_level = nn.Parameter(torch.zeros(width))
        self.start_embed = nn.Linear(latent_channels, width)
        self.start_gain = nn.Parameter(torch.zeros(()))
        self.aligned_conv = self.aligned_embed = None
        if config.aligned_condition:
            self.aligned_conv = nn.Conv2d(latent_channels, latent_channels, 3, padding=1)
            self.aligned_embed = nn.Linear(latent_channels, width, bias=False)
        if config.positions == "absolute":
            h, w = scales.native
            self.positions = nn.Parameter(torch.empty(scales.length(), width))
            self.positions_condition = nn.Parameter(torch.empty(h * w, width))
        deepest = max(config.depth - 1, 1)
        self.blocks = nn.ModuleList(Block(config, config.drop_path * i / deepest) for i in range(config.depth))
        self.head = nn.Linear(width, codebook_size)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """VAR's initialisation; gains stay zero, so conditioning starts neutral."""
        std = (1 / self.config.width / 3) ** 0.5
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.trunc_normal_(module.weight, std=std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        if self.config.positions == "absolute":
            nn.init.trunc_normal_(self.positions, std=std)
            nn.init.trunc_normal_(self.positions_condition, std=std)
        with torch.no_grad():
            self.head.weight.mul_(0.02)
            for block in self.blocks:
                block.attention.proj.weight.div_((2 * len(self.blocks)) ** 0.5)  # type: ignore[union-attr, operator]
                block.ffn.fc2.weight.div_((2 * len(self.blocks)) ** 0.5)  # type: ignore[union-attr, operator]

    @torch.no_grad()
    def start_as_identity(self, quant_conv: nn.Conv2d | None, codes_VC: Tensor, sharpness: float = 0.5) -> None:
        """Initialise so that the untrained model repeats the tokens of its input. Needs `aligned_condition`.

        `quant_conv` takes the condition to the space of the codes; None for a condition that is there already.

        What is left of the degraded latent, aligned - f_hat, goes through the residual stream to the head, whose
        logits are minus its squared distance to each code: the quantizer's own rule. Training starts from "nothing
        to restore" instead of from noise. A constant, larger vector per scale keeps the norm before the head from
        erasing how large the residual is.
        """
        assert self.aligned_conv is not None and self.aligned_embed is not None, "the model has no aligned condition"
        width, channels = self.aligned_embed.weight.shape
        basis_DC = torch.linalg.qr(torch.randn(width, channels)).Q.to(codes_VC)
        if quant_conv is None:
            nn.init.dirac_(self.aligned_conv.weight)
            nn.init.zeros_(self.aligned_conv.bias)  # type: ignore[arg-type]
        else:
            self.aligned_conv.load_state_dict(quant_conv.state_dict())
        self.aligned_embed.weight.copy_(basis_DC)
        self.word_embed.weight.copy_(-basis_DC)
        outside = torch.randn_like(self.scale_embed.weight) * 0.7
        self.scale_embed.weight.copy_(outside - outside @ basis_DC @ basis_DC.T)
        self.class_embed.weight.mul_(0.1)
        self.head.weight.copy_(2 * sharpness * 0.75 * codes_VC @ basis_DC.T)  # 0.75: about the norm's usual divisor
        self.head.bias.copy_(-sharpness * codes_VC.square().sum(1))
        if self.config.positions == "absolute":  # positions must not look like a residual
            self.positions.sub_(self.positions @ basis_DC @ basis_DC.T)

    @property
    def block_dtype(self) -> torch.dtype:
        return self.head.weight.dtype if not self.blocks else self.blocks[0].ffn.fc1.weight.dtype  # type: ignore

    def forward(self, teacher_BLC: Tensor, condition_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Teacher forcing.

        teacher_BLC: (B, L - l_0, C), from `MultiScaleQuantizer.teacher_forcing_input`.
        condition_BCHW: the degraded image's latent, from `RestoreVAR.condition`.
        Returns logits (B, L, V) in float32 and the last block's hidden states (B, L, D).
        """
        grid = (condition_BCHW.shape[-2], condition_BCHW.shape[-1])
        start_BlD, condition_BMD, aligned = self._embed_condition(condition_BCHW)
        bounds = self.scales.bounds(grid)
        levels = torch.cat([torch.full((end - begin,), k) for k, (begin, end) in enumerate(bounds)])
        levels_L = levels.to(condition_BCHW.device)
        x_BLD = torch.cat([start_BlD, self.word_embed(teacher_BLC.float())], 1) + self.scale_embed(levels_L)
        if aligned:
            x_BLD = x_BLD + torch.cat(aligned, 1)
        if self.config.positions == "absolute":
            x_BLD = x_BLD + self.positions
        mask_LL = levels_L[:, None] >= levels_L[None, :]
        rope = self._rope(grid, tuple(self.scales.grids(grid)), condition_BCHW)
        rope_final = self._rope(grid, (grid,), condition_BCHW)
        x_BLD = x_BLD.to(self.block_dtype)
        for block in self.blocks:
            arguments = (x_BLD, rope, condition_BMD, rope_final, mask_LL)
            if self.checkpointing and torch.is_grad_enabled():
                x_BLD = checkpoint(block.teacher_forced, *arguments, use_reentrant=False)
            else:
                x_BLD = block.teacher_forced(*arguments)  # type: ignore[operator]
        return self.logits(x_BLD), x_BLD

    def begin(self, condition_BCHW: Tensor) -> Rollout:
        """Everything of a rollout that does not depend on the tokens."""
        grid = (condition_BCHW.shape[-2], condition_BCHW.shape[-1])
        start_BlD, condition_BMD, aligned = self._embed_condition(condition_BCHW)
        rope_final = self._rope(grid, (grid,), condition_BCHW)
        batch, length = condition_BCHW.shape[0], self.scales.length(grid)
        heads, head_width = self.config.heads, self.config.head_width
        return Rollout(
            grid=grid,
            start_BlD=start_BlD,
            keys_values=[b.cross.keys_values(condition_BMD, rope_final) for b in self.blocks],  # type: ignore
            caches=[KVCache(batch, heads, length, head_width, condition_BMD) for _ in self.blocks],
            aligned=aligned,
        )

    def step(self, k: int, input_BlC: Tensor | None, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """One scale. input_BlC is `MultiScaleQuantizer.next_input(k)`, None for scale 0.

        Returns logits (B, l, V) in float32 and the last block's hidden states (B, l, D).
        """
        x_BlD = self.embed_scale(k, input_BlC, rollout)
        rope = self.turns_of_scale(k, rollout)
        for block, keys_values, cache in zip(self.blocks, rollout.keys_values, rollout.caches, strict=True):
            x_BlD = block(x_BlD, rope, keys_values, cache=cache)
        return self.logits(x_BlD), x_BlD

    def embed_scale(self, k: int, input_BlC: Tensor | None, rollout: Rollout) -> Tensor:
        """What the first block is given of scale k: (B, l, D), in the dtype of the blocks."""
        x_BlD = rollout.start_BlD if input_BlC is None else self.word_embed(input_BlC.float())
        x_BlD = x_BlD + self.scale_embed.weight[k]
        if rollout.aligned:
            x_BlD = x_BlD + rollout.aligned[k]
        if self.config.positions == "absolute":
            begin, end = self.scales.bounds(rollout.grid)[k]
            x_BlD = x_BlD + self.positions[begin:end]
        return x_BlD.to(self.block_dtype)

    def turns_of_scale(self, k: int, rollout: Rollout) -> Tensor | None:
        """The rotary table of the tokens of scale k; None where positions are absolute."""
        return self._rope(rollout.grid, (self.scales.grids(rollout.grid)[k],), rollout.start_BlD)

    def logits(self, x_BlD: Tensor) -> Tensor:
        """Hidden states -> logits (B, l, V), computed in float32."""
        with torch.autocast(x_BlD.device.type, enabled=False):
            return self.head(_norm(x_BlD.float()))

    def _embed_condition(self, condition_BCHW: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Degraded latent -> start tokens (B, l_0, D), condition tokens (B, M, D), aligned inputs per scale."""
        grid = (condition_BCHW.shape[-2], condition_BCHW.shape[-1])
        projected_BMC = self.condition_proj(condition_BCHW.float().flatten(2).transpose(1, 2))
        condition_BMD = self.condition_embed(projected_BMC) + self.condition_level
        if self.config.positions == "absolute":
            if grid != self.scales.native:
                raise ValueError(f"this transformer has learned positions for {self.scales.native}, not {grid}")
            condition_BMD = condition_BMD + self.positions_condition
        mean_B1C = projected_BMC.mean(1, keepdim=True)
        start_B1D = self.class_embed.weight[-1] + self.start_gain * self.start_embed(mean_B1C)
        h, w = self.scales.grids(grid)[0]
        aligned = [] if self.aligned_embed is None else self._align(condition_BCHW, self.scales.grids(grid))
        return start_B1D.expand(-1, h * w, -1), condition_BMD.to(self.block_dtype), aligned

    def _align(self, condition_BCHW: Tensor, grids: Sequence[Grid]) -> list[Tensor]:
        assert self.aligned_conv is not None and self.aligned_embed is not None
        latent_BCHW = self.aligned_conv(condition_BCHW.float())
        resized = (F.interpolate(latent_BCHW.float(), size=grid, mode="area") for grid in grids)
        return [self.aligned_embed(x.flatten(2).transpose(1, 2)) for x in resized]

    def _rope(self, final: Grid, grids: tuple[Grid, ...], like: Tensor) -> Tensor | None:
        """Turns of the tokens of `grids`; None where positions are absolute."""
        if self.config.positions == "absolute":
            return None
        return rope_table(grids, final, self.config.head_width, self.config.rope_base, like.device)
