"""Convolution with kernels too large for sums over neighbours, each image with its own; lines between cells."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def convolve(image_BCHW: Tensor, kernel_BKK: Tensor) -> Tensor:
    """Convolve each image with its own kernel of odd side, by FFT, mirrored at the border (repeated in tiny images)."""
    height, width = (int(side) for side in image_BCHW.shape[-2:])
    side = int(kernel_BKK.shape[-1])
    pad = side // 2
    mode = "reflect" if pad < min(height, width) else "replicate"
    padded_BCHW = F.pad(image_BCHW, (pad, pad, pad, pad), mode=mode)
    size = (_fast_length(height + 2 * pad), _fast_length(width + 2 * pad))
    if torch.jit.is_tracing():
        full_BCHW = _by_matrices(padded_BCHW, kernel_BKK, size)
    else:
        spectrum = torch.fft.rfft2(padded_BCHW, s=size) * torch.fft.rfft2(kernel_BKK, s=size)[:, None]
        full_BCHW = torch.fft.irfft2(spectrum, s=size)
    return full_BCHW[..., 2 * pad : 2 * pad + height, 2 * pad : 2 * pad + width]


def between_cells(place: Tensor, cells: int) -> Tensor:
    """[n, cells]: values of the line drawn through the middles of cells, at places from 0 to 1 of the side."""
    position = (place * cells - 0.5).clamp(0, cells - 1)
    return (1 - (position[:, None] - torch.arange(cells, device=place.device)).abs()).clamp(min=0)


def _by_matrices(image_BCHW: Tensor, kernel_BKK: Tensor, size: tuple[int, int]) -> Tensor:
    """The circular convolution in `size` by products with waves: graphs know neither FFT nor complex numbers."""
    (down_c, down_s), (across_c, across_s) = (_waves(length) for length in size)
    half = size[1] // 2 + 1

    def transform(x: Tensor) -> tuple[Tensor, Tensor]:
        high, wide = (int(side) for side in x.shape[-2:])
        even, odd = x @ across_c[:wide, :half], x @ across_s[:wide, :half]
        return down_c[:, :high] @ even - down_s[:, :high] @ odd, -(down_c[:, :high] @ odd + down_s[:, :high] @ even)

    (real, imaginary), (kernel_real, kernel_imaginary) = transform(image_BCHW), transform(kernel_BKK[:, None])
    real, imaginary = (
        real * kernel_real - imaginary * kernel_imaginary,
        real * kernel_imaginary + imaginary * kernel_real,
    )
    even, odd = down_c @ real - down_s @ imaginary, down_c @ imaginary + down_s @ real
    # Those that are not stored are the others' conjugates.
    counted = torch.full((half, 1), 2.0)
    counted[[0, -1]] = 1.0
    counted = counted / math.prod(size)
    return even @ (counted * across_c[:half]) - odd @ (counted * across_s[:half])


def _waves(length: int) -> tuple[Tensor, Tensor]:
    """(length, length) cosines and sines; the phase is reduced in whole numbers, where it is exact."""
    place = torch.arange(length)
    phase = (place[:, None] * place % length).float() * (2 * math.pi / length)
    return phase.cos(), phase.sin()


def _fast_length(length: int) -> int:
    """The next even length with no prime factor above 5, for which FFTs are quick."""
    candidate = length + length % 2
    while True:
        rest = candidate
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return candidate
        candidate += 2
