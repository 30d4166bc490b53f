"""The yardstick: a network that regresses the clean image directly, of the size of `compact`.

NAFNet (Chen et al. 2022, "Simple Baselines for Image Restoration", arXiv 2204.04676): a U-Net of blocks without an
activation function. What next-scale prediction is worth shows beside it, trained on the same pairs for as long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .autoencoder import ChannelNorm


@dataclass(frozen=True)
class RegressionConfig:
    """A U-Net of NAFBlocks. `width` channels at the finest level, twice as many at each coarser one.

    `encoder` and `decoder` count the blocks per level, finest first; the decoder's last number also serves the levels
    after it. `middle` counts those at the coarsest resolution, below the levels. `patch` folds a patch x patch square
    of pixels into channels before the first level, as in the VQVAE.
    The defaults are NAFNet's for SIDD (width 32: 2, 2, 4, 8 blocks, 12, 2, 2, 2, 2) from its second level on: the
    patch stands for the first, full-resolution one, which has 0.1 % of the weights and takes a third of the time on
    a CPU.
    """

    width: int = 64
    encoder: tuple[int, ...] = (2, 4, 8)
    middle: int = 12
    decoder: tuple[int, ...] = (2,)
    patch: int = 2

    def __post_init__(self) -> None:
        if self.width < 1 or self.patch < 1 or self.middle < 0:
            raise ValueError("a regression network needs a width and a patch of 1 or more, and no negative counts")
        if not 1 <= len(self.decoder) <= len(self.encoder):
            raise ValueError(f"the decoder has no more levels than the encoder, not {self.decoder} for {self.encoder}")
        if min(*self.encoder, *self.decoder) < 0:
            raise ValueError(f"no negative counts of blocks, not {self.encoder} and {self.decoder}")

    @property
    def downsample(self) -> int:
        """Window sides are multiples of this many pixels."""
        return self.patch * 2 ** len(self.encoder)

    @property
    def window(self) -> int:
        """Side in pixels; there is no native window, this is the one of the models to be compared with."""
        return 512

    @property
    def any_window(self) -> bool:
        """Convolutions have no table of positions."""
        return True

    @property
    def features_per_pixel(self) -> float:
        """Numbers per pixel in one feature map of the finest level: what memory is estimated from."""
        return self.width / self.patch**2

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, the inverse of `from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RegressionConfig:
        """Raises ValueError with a sentence for unknown fields and impossible values."""
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        try:
            return cls(**fields)
        except TypeError as error:
            raise ValueError(f"{cls.__name__}: {error}") from None


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


def _up(width: int) -> nn.Sequential:
    """Half the channels at twice the resolution."""
    return nn.Sequential(nn.Conv2d(width, 2 * width, 1, bias=False), nn.PixelShuffle(2))


class RegressionNet(nn.Module):
    """Degraded image -> clean image in one pass. Takes the place of `RestoreVAR` wherever photos are restored.

    Images are (B, 3, Hpx, Wpx) in [-1, 1]; sides are multiples of `config.downsample`. An untrained network gives its
    input back.
    """

    def __init__(self, config: RegressionConfig):
        super().__init__()
        self.config = config
        pixels = 3 * config.patch**2
        levels = len(config.encoder)
        widths = [config.width * 2**i for i in range(levels + 1)]
        decoder = (*config.decoder, *[config.decoder[-1]] * levels)[:levels]
        self.conv_in = nn.Conv2d(pixels, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(_blocks(w, count) for w, count in zip(widths, config.encoder, strict=False))
        self.downs = nn.ModuleList(nn.Conv2d(w, 2 * w, 2, stride=2) for w in widths[:-1])
        self.middle = _blocks(widths[-1], config.middle)
        self.ups = nn.ModuleList(_up(w) for w in widths[1:])
        self.decoder = nn.ModuleList(_blocks(w, count) for w, count in zip(widths, decoder, strict=False))
        self.conv_out = nn.Conv2d(widths[0], pixels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    @torch.inference_mode()
    def restore(self, degraded_B3HW: Tensor, fidelity: float | None = None) -> Tensor:
        """Restored image, same shape, in [-1, 1], float32.

        Raises ValueError for shapes that the model cannot take and for a fidelity other than 0.
        """
        self.check(degraded_B3HW)
        self.fidelity_weight(fidelity)
        return self(degraded_B3HW).clamp(-1, 1)

    def forward(self, degraded_B3HW: Tensor) -> Tensor:
        """As `restore`, with a gradient and not clamped: for training."""
        h = self.conv_in(F.pixel_unshuffle(degraded_B3HW.to(self.conv_in.weight.dtype), self.config.patch))
        skips = []
        for blocks, down in zip(self.encoder, self.downs, strict=True):
            skips.append(blocks(h))
            h = down(skips[-1])
        h = self.middle(h)
        for i in reversed(range(len(skips))):
            h = self.decoder[i](self.ups[i](h) + skips[i])
        return degraded_B3HW.float() + F.pixel_shuffle(self.conv_out(h), self.config.patch).float()

    def fidelity_weight(self, fidelity: float | None) -> float:
        """0; raises ValueError for any other: everything here comes from the input, there is nothing to weigh."""
        if fidelity:
            raise ValueError("this model has no fidelity branch; leave fidelity out or set it to 0")
        return 0.0

    def check(self, degraded_B3HW: Tensor) -> None:
        """Raises ValueError for shapes that this model cannot take."""
        if degraded_B3HW.ndim != 4 or degraded_B3HW.shape[1] != 3:
            raise ValueError(f"expected images of shape (B, 3, H, W), not {tuple(degraded_B3HW.shape)}")
        height, width = degraded_B3HW.shape[-2:]
        unit = self.config.downsample
        if height % unit or width % unit or not height or not width:
            raise ValueError(f"window sides must be multiples of {unit} pixels, not {height}x{width}")

    def count_parameters(self) -> dict[str, int]:
        """Parameters per part."""
        return {name: sum(p.numel() for p in part.parameters()) for name, part in self.named_children()}
