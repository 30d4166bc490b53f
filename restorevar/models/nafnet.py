"""A U-Net of blocks without an activation function.

NAFNet (Chen et al. 2022, "Simple Baselines for Image Restoration", arXiv 2204.04676), with a patch of pixels folded
into channels in the place of its full-resolution level: 0.1 % of the weights, and a third of the time on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .autoencoder import ChannelNorm


class ScaledConv(nn.Conv2d):
    """1x1 convolution times a learned scale per channel that starts at zero: a residual branch starts as nothing.

    The scale is applied to the weights, not to the image (NAFNet's `beta` and `gamma`): one pass over memory less.
    """

    def __init__(self, width: int):
        super().__init__(width, width, 1)
        self.scale = nn.Parameter(torch.zeros(width))

    def forward(self, x_BDHW: Tensor) -> Tensor:
        assert self.bias is not None
        return F.conv2d(x_BDHW, self.weight * self.scale[:, None, None, None], self.bias * self.scale)


def silent_conv(width: int, width_out: int, kernel: int = 3) -> nn.Conv2d:
    """Gives nothing at the start of training."""
    conv = nn.Conv2d(width, width_out, kernel, padding=kernel // 2)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


def simple_gate(x_BDHW: Tensor) -> Tensor:
    """One half of the channels times the other (NAFNet section 4)."""
    a, b = x_BDHW.chunk(2, dim=1)
    return a * b


class NAFBlock(nn.Module):
    """norm, 1x1, depthwise 3x3, gate, channel attention, 1x1; then norm, 1x1, gate, 1x1. Both residual."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1 = ChannelNorm(width, eps=1e-6)
        self.expand1 = nn.Conv2d(width, 2 * width, 1)
        self.depthwise = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.attention = nn.Conv2d(width, width, 1)
        self.project1 = ScaledConv(width)
        self.norm2 = ChannelNorm(width, eps=1e-6)
        self.expand2 = nn.Conv2d(width, 2 * width, 1)
        self.project2 = ScaledConv(width)

    def forward(self, x_BDHW: Tensor) -> Tensor:
        h = simple_gate(self.depthwise(self.expand1(self.norm1(x_BDHW))))
        # Simplified channel attention: a weight per channel from the mean over the window.
        x = x_BDHW + self.project1(h * self.attention(h.mean((2, 3), keepdim=True)))
        return x + self.project2(simple_gate(self.expand2(self.norm2(x))))


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(NAFBlock(width) for _ in range(count)))


class Up(nn.Sequential):
    """Half the channels at twice the resolution: a 1x1 convolution, brought up smoothly.

    With `shuffled`, what distinguishes the four pixels of a cell is shuffled in (NAFNet shuffles all). Each such level
    lets its own cells be seen on smooth surfaces, in real fog as a lattice of 16 pixels (docs/log.md). Below the
    finest level little is lost without it.
    """

    def __init__(self, width: int, shuffled: bool):
        super().__init__(nn.Conv2d(width, 2 * width if shuffled else width // 2, 1, bias=False))
        self.shuffled = shuffled

    def forward(self, x_BDHW: Tensor) -> Tensor:
        weight = self[0].weight
        assert isinstance(weight, Tensor)
        common = weight.unflatten(0, (-1, 4)).mean(1) if self.shuffled else weight
        smooth = F.interpolate(F.conv2d(x_BDHW, common), scale_factor=2, mode="bilinear", align_corners=False)
        if not self.shuffled:
            return smooth
        return smooth + F.pixel_shuffle(F.conv2d(x_BDHW, weight - common.repeat_interleave(4, 0)), 2)


class NAFUNet(nn.Module):
    """Image (B, 3, Hpx, Wpx) -> features at every resolution: `width` channels, twice as many at each coarser one.

    `encoder` and `decoder` count the blocks per level, finest first; `middle` those at the coarsest resolution, below
    the levels. Of the ways up, the `shuffled` finest shuffle (see `Up`).
    """

    def __init__(
        self, width: int, encoder: Sequence[int], middle: int, decoder: Sequence[int], patch: int, shuffled: int = 1
    ):
        super().__init__()
        self.patch = patch
        widths = [width * 2**i for i in range(len(encoder) + 1)]
        self.conv_in = nn.Conv2d(3 * patch**2, width, 3, padding=1)
        self.encoder = nn.ModuleList(_blocks(w, count) for w, count in zip(widths, encoder, strict=False))
        self.downs = nn.ModuleList(nn.Conv2d(w, 2 * w, 2, stride=2) for w in widths[:-1])
        self.middle = _blocks(widths[-1], middle)
        self.ups = nn.ModuleList(Up(w, shuffled=i < shuffled) for i, w in enumerate(widths[1:]))
        self.decoder = nn.ModuleList(_blocks(w, count) for w, count in zip(widths, decoder, strict=False))

    def features(self, image_B3HW: Tensor, for_middle: Tensor | None = None, *for_first: Tensor) -> list[Tensor]:
        """What the decoder makes at each resolution, finest first; the last is the middle's.

        `for_middle` (B, C, H, W) at the coarsest resolution is added to what the middle is given, `for_first` at the
        finest one to what the first block is given.
        """
        h = sum(for_first, start=self.conv_in(self._unshuffled(image_B3HW)))
        skips = []
        for blocks, down in zip(self.encoder, self.downs, strict=True):
            skips.append(blocks(h))
            h = down(skips[-1])
        if for_middle is not None:
            h = h + for_middle
        found = [self.middle(h)]
        for i in reversed(range(len(skips))):
            found.append(self.decoder[i](self.ups[i](found[-1]) + skips[i]))
        return found[::-1]

    def _unshuffled(self, image_BCHW: Tensor) -> Tensor:
        """Patches of pixels as channels, in the precision of the weights."""
        return F.pixel_unshuffle(image_BCHW.to(self.conv_in.weight.dtype), self.patch)


def counts_for(levels: int, counts: Sequence[int]) -> tuple[int, ...]:
    """One count a level; the last one given also serves the levels after it."""
    return (*counts, *[counts[-1]] * levels)[:levels]
