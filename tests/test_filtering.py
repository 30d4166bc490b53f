"""Convolution by FFT: against sums over neighbours, at any size, and by matrices where a graph is made."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from restorevar.models.filtering import convolve


def by_sums(image_BCHW: torch.Tensor, kernel_BKK: torch.Tensor) -> torch.Tensor:
    pad = kernel_BKK.shape[-1] // 2
    mode = "reflect" if pad < min(image_BCHW.shape[-2:]) else "replicate"
    wide_CBHW = F.pad(image_BCHW, [pad] * 4, mode=mode).transpose(0, 1)
    flipped_B1KK = kernel_BKK.flip(1, 2)[:, None]  # torch's convolutions are correlations
    return F.conv2d(wide_CBHW, flipped_B1KK, groups=len(kernel_BKK)).transpose(0, 1)


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), reach=st.integers(0, 12), seed=st.integers(0, 99))
def test_it_is_the_sum_over_neighbours(height, width, reach, seed):
    torch.manual_seed(seed)
    image, kernel = torch.randn(2, 3, height, width), torch.randn(2, 2 * reach + 1, 2 * reach + 1)
    kernel = kernel / kernel.square().sum((1, 2), keepdim=True).sqrt()  # what is rounded off grows with its power
    torch.testing.assert_close(convolve(image, kernel), by_sums(image, kernel), atol=8e-6, rtol=0)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(("height", "width"), [(40, 56), (31, 90), (9, 20)])
def test_graphs_do_it_by_matrices(height, width):
    image, kernel = torch.rand(2, 3, height, width), torch.rand(2, 21, 21) / 441
    graph = torch.jit.trace(convolve, (torch.zeros_like(image), torch.zeros_like(kernel)), check_trace=False)
    assert "fft" not in str(graph.inlined_graph)
    torch.testing.assert_close(graph(image, kernel), convolve(image, kernel), atol=1e-5, rtol=0)
