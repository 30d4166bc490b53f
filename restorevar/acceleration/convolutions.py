"""Convolutions with fewer products: upsampling by phases, scales folded into the weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.autoencoder import Upsample
from ..models.nafnet import ScaledConv
from .twin import Twin

#: Which of three taps fall on which of the two source pixels, for the first and the second pixel of a cell.
_TAPS = ((0, 1, 1), (0, 0, 1))


class UpsampleByPhases(Twin):
    """Of `Upsample.forward`: nearest-neighbour upsampling and a 3x3 convolution as one convolution before it.

    Every pixel of the doubled image sees at most two different rows and columns of the small one, so a 3x3 kernel
    is, for each of the four places that a pixel can have in its cell, a 2x2 kernel over the small image: 4 products
    a channel where the plain order takes 9, and no doubled copy of the input.
    """

    def __init__(self, upsample: Upsample):
        conv = upsample.conv
        assert conv.bias is not None
        kernels = phase_kernels(conv.weight.detach().float()).to(conv.weight.dtype)
        self.kernels = kernels.contiguous(memory_format=torch.channels_last)
        self.bias = conv.bias.detach().repeat(4)
        self.width = conv.out_channels

    def __call__(self, x_BDHW: Tensor) -> Tensor:
        """(B, D, H, W) -> (B, D, 2H, 2W)."""
        height, length = x_BDHW.shape[-2:]
        phases = F.conv2d(x_BDHW, self.kernels, self.bias, padding=1)  # (B, 4D, H + 1, W + 1)
        shape = (x_BDHW.shape[0], self.width, 2 * height, 2 * length)
        out = torch.empty(shape, dtype=phases.dtype, device=phases.device, memory_format=torch.channels_last)
        for i, phase in enumerate(phases.split(self.width, dim=1)):
            row, column = divmod(i, 2)
            out[:, :, row::2, column::2] = phase[:, :, row : row + height, column : column + length]
        return out


def phase_kernels(weight_OI33: Tensor) -> Tensor:
    """3x3 kernels (O, I, 3, 3) -> the 2x2 kernels of the four phases, one after another: (4 O, I, 2, 2)."""
    sums = weight_OI33.new_zeros(2, 2, 3)
    for phase, taps in enumerate(_TAPS):
        for tap, source in enumerate(taps):
            sums[phase, source, tap] = 1
    kernels = torch.einsum("aru,bcv,oiuv->aboirc", sums, sums, weight_OI33)
    return kernels.flatten(0, 2)


class FoldedConv(Twin):
    """Of `ScaledConv.forward`, with the scale in the weights, once and not per call."""

    def __init__(self, conv: ScaledConv):
        assert conv.bias is not None
        self.weight = (conv.weight * conv.scale[:, None, None, None]).detach()
        self.bias = (conv.bias * conv.scale).detach()

    def __call__(self, x_BDHW: Tensor) -> Tensor:
        return F.conv2d(x_BDHW, self.weight, self.bias)
