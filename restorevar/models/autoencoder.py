"""Encoder and decoder of the VQVAE: residual convolution blocks over a few resolutions."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from .config import VQVAEConfig


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel. Free of copies for channels-last tensors."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return super().forward(x_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def norm_layer(kind: str, width: int) -> nn.Module:
    return nn.GroupNorm(32, width, eps=1e-6) if kind == "group" else ChannelNorm(width, eps=1e-6)


class ResBlock(nn.Module):
    """norm, SiLU, 3x3, norm, SiLU, 3x3, plus the input (through a 1x1 where the width changes)."""

    def __init__(self, width_in: int, width_out: int, norm: str):
        super().__init__()
        self.norm1 = norm_layer(norm, width_in)
        self.conv1 = nn.Conv2d(width_in, width_out, 3, padding=1)
        self.norm2 = norm_layer(norm, width_out)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1)
        self.shortcut = nn.Conv2d(width_in, width_out, 1) if width_in != width_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return self.shortcut(x) + h


class PixelAttention(nn.Module):
    """Single-head attention among all pixels of the coarsest level."""

    def __init__(self, width: int, norm: str):
        super().__init__()
        self.norm = norm_layer(norm, width)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.proj = nn.Conv2d(width, width, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        qkv = self.qkv(self.norm(x_BCHW)).flatten(2).transpose(1, 2).unsqueeze(1)
        q, k, v = qkv.chunk(3, dim=-1)
        out = F.scaled_dot_product_attention(q, k, v)
        return x_BCHW + self.proj(out.squeeze(1).transpose(1, 2).reshape(x_BCHW.shape))


class Downsample(nn.Module):
    """Stride-2 convolution, padded on the right and below only (as published)."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest neighbour, then a convolution."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class Level(nn.Module):
    """The blocks of one resolution, each followed by attention at the coarsest one, then the resampling."""

    def __init__(
        self, width_in: int, width: int, blocks: int, config: VQVAEConfig, attention: bool, resample: nn.Module | None
    ):
        super().__init__()
        self.blocks = nn.ModuleList(ResBlock(width_in if i == 0 else width, width, config.norm) for i in range(blocks))
        self.attentions = nn.ModuleList(PixelAttention(width, config.norm) for _ in range(blocks if attention else 0))
        self.resample = resample

    def run_blocks(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.blocks):
            x = block(x)
            if self.attentions:
                x = self.attentions[i](x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        x = self.run_blocks(x)
        return x if self.resample is None else self.resample(x)


def middle(width: int, config: VQVAEConfig) -> nn.Sequential:
    attention = PixelAttention(width, config.norm) if config.attention else nn.Identity()
    return nn.Sequential(ResBlock(width, width, config.norm), attention, ResBlock(width, width, config.norm))


class Encoder(nn.Module):
    """Image (B, 3, H*s, W*s) in [-1, 1] -> latent (B, C, H, W), with s = config.downsample."""

    def __init__(self, config: VQVAEConfig):
        super().__init__()
        widths = config.widths
        self.patch = config.patch
        self.conv_in = nn.Conv2d(3 * config.patch**2, widths[0], 3, padding=1)
        self.levels = nn.ModuleList()
        for i, width in enumerate(widths):
            last = i == len(widths) - 1
            resample = None if last else Downsample(width)
            self.levels.append(
                Level(widths[max(i - 1, 0)], width, config.blocks, config, config.attention and last, resample)
            )
        self.middle = middle(widths[-1], config)
        self.norm_out = norm_layer(config.norm, widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], config.latent_channels, 3, padding=1)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        h = self.conv_in(F.pixel_unshuffle(image_B3HW, self.patch))
        for level in self.levels:
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(self.middle(h))))


#: Called by the decoder after the blocks of a level: (level index, finest = 0; features) -> features.
Inject = Callable[[int, Tensor], Tensor]


class Decoder(nn.Module):
    """Latent (B, C, H, W) -> image (B, 3, H*s, W*s), not clamped. One more block a level than the encoder."""

    def __init__(self, config: VQVAEConfig):
        super().__init__()
        widths = config.widths
        self.patch = config.patch
        self.conv_in = nn.Conv2d(config.latent_channels, widths[-1], 3, padding=1)
        self.middle = middle(widths[-1], config)
        self.levels = nn.ModuleList()
        for i, width in enumerate(widths):  # kept finest first, run coarsest first
            last = i == len(widths) - 1
            resample = Upsample(width) if i > 0 else None
            above = widths[min(i + 1, len(widths) - 1)]
            self.levels.append(Level(above, width, config.blocks + 1, config, config.attention and last, resample))
        self.norm_out = norm_layer(config.norm, widths[0])
        self.conv_out = nn.Conv2d(widths[0], 3 * config.patch**2, 3, padding=1)

    def forward(self, latent_BCHW: Tensor, inject: Inject | None = None) -> Tensor:
        h = self.middle(self.conv_in(latent_BCHW))
        for i in reversed(range(len(self.levels))):
            level: Level = self.levels[i]  # type: ignore[assignment]
            h = level.run_blocks(h)
            if inject is not None:
                h = inject(i, h)
            if level.resample is not None:
                h = level.resample(h)
        return F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(h))), self.patch)
