"""Windows cover the photo, blend back to it exactly, and agree in tone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restorevar import tiling

sides = st.integers(1, 70)


@st.composite
def plans(draw: st.DrawFn) -> tiling.Plan:
    window = (draw(sides), draw(sides))
    overlap = draw(st.integers(0, min(window) - 1))
    return tiling.plan(draw(sides), draw(sides), window, overlap)


@given(plans(), st.integers(0, 2**31))
@settings(max_examples=200, deadline=None)
def test_merge_undoes_split(plan: tiling.Plan, seed: int) -> None:
    image = torch.rand(2, plan.height, plan.width, generator=torch.Generator().manual_seed(seed))
    merged = tiling.merge(tiling.split(image, plan), plan)
    assert merged.shape == image.shape
    assert torch.allclose(merged, image, atol=1e-6)


@given(st.integers(1, 4000), st.integers(1, 300), st.integers(0, 299))
@settings(max_examples=200, deadline=None)
def test_windows_cover_the_photo_and_overlap_as_asked(length: int, window: int, overlap: int) -> None:
    overlap %= window
    plan = tiling.plan(length, 1, (window, 1), overlap)
    side = plan.window[0]
    assert plan.tops[0] == 0 and plan.tops[-1] + side == length
    for above, below in pairwise(plan.tops):
        assert 0 < below - above <= side - overlap
    fewest = 1 if side == length else -(-(length - overlap) // (side - overlap))
    assert len(plan) == fewest


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(20, 60))
@settings(deadline=None)
def test_feathers_sum_to_one_and_fall_smoothly(steps: list[int], window: int) -> None:
    starts = np.cumsum([0, *steps]).tolist()
    total = torch.zeros(starts[-1] + window)
    for start, weight in zip(starts, tiling.feathers(starts, window), strict=True):
        assert (weight > 0).all()
        total[start : start + window] += weight
    assert torch.allclose(total, torch.ones_like(total), atol=1e-6)


def test_feathers_have_no_jumps() -> None:
    first, second = tiling.feathers([0, 48], 64)
    assert first[:48].eq(1).all() and second[16:].eq(1).all()
    assert first.diff().abs().max() < 2 / 16
    assert first[48] > 0.99 and first[-1] < 0.01


def test_impossible_plans_are_refused() -> None:
    for window, overlap in (((0, 8), 0), ((8, 8), 8), ((8, 8), -1)):
        with pytest.raises(ValueError):
            tiling.plan(100, 100, window, overlap)


def test_bands_are_streamed() -> None:
    """Rows come out before the windows below them are asked for."""
    plan = tiling.plan(300, 40, (32, 32), 8)
    asked = 0

    def windows():
        nonlocal asked
        for window in tiling.split(torch.zeros(3, 300, 40), plan):
            asked += 1
            yield window

    for row, (top, rows) in enumerate(tiling.merge_bands(windows(), plan)):
        assert top == plan.tops[row] and rows.shape[-2] <= 32
        assert asked == (row + 1) * len(plan.lefts)


def test_too_few_windows_are_noticed() -> None:
    plan = tiling.plan(64, 64, (32, 32), 0)
    with pytest.raises(ValueError, match="fewer windows"):
        tiling.merge([torch.zeros(3, 32, 32)] * 3, plan)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 200))
@settings(max_examples=50, deadline=None)
def test_padding_reflects_and_keeps_the_image(height: int, width: int, more: int) -> None:
    image = torch.arange(height * width, dtype=torch.float32).reshape(1, height, width)
    padded = tiling.pad_to(image, height + more, width + more)
    assert padded.shape == (1, height + more, width + more)
    assert torch.equal(padded[:, :height, :width], image)
    expected = np.pad(image.numpy(), ((0, 0), (0, more), (0, more)), "reflect")
    assert np.array_equal(padded.numpy(), expected)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 60), st.integers(0, 60))
@settings(max_examples=50, deadline=None)
def test_a_margin_reflects_on_all_sides_and_is_cut_off_again(height: int, width: int, margin: int, more: int) -> None:
    image = torch.arange(height * width, dtype=torch.float32).reshape(1, height, width)
    size = (height + 2 * margin + more, width + 2 * margin)
    padded = tiling.pad_to(image, *size, margin)
    assert padded.shape == (1, *size)
    assert torch.equal(tiling.Place(height, width, margin).cut(padded), image)
    around = ((0, 0), (margin, margin + more), (margin, margin))
    assert np.array_equal(padded.numpy(), np.pad(image.numpy(), around, "reflect"))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 60), st.data())
@settings(max_examples=50, deadline=None)
def test_surroundings_are_the_photos_own_and_reflected_beyond_it(
    height: int, width: int, margin: int, data: st.DataObject
) -> None:
    photo = np.arange(height * width * 3).reshape(height, width, 3)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    rows = slice(top, data.draw(st.integers(top + 1, height)))
    columns = slice(left, data.draw(st.integers(left + 1, width)))
    window = tiling.surroundings(photo, rows, columns, margin)
    around = np.pad(photo, ((margin, margin), (margin, margin), (0, 0)), "reflect")
    assert np.array_equal(
        window, around[rows.start : rows.stop + 2 * margin, columns.start : columns.stop + 2 * margin]
    )


def test_cells_of_a_place_are_all_that_have_a_part_in_it() -> None:
    assert tiling.Place(32, 40, 16).covered((64, 72), (4, 9)) == (slice(1, 3), slice(2, 7))
    assert tiling.Place(32, 40, 16).covered((64, 72), (1, 1)) == (slice(0, 1), slice(0, 1))
    assert tiling.Place(5, 64, 0).covered((64, 64), (64, 8)) == (slice(0, 5), slice(0, 8))


@pytest.mark.parametrize("shape", [(300, 200), (37, 1000), (2000, 3), (1, 90), (65, 64)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_shrunken_photos_keep_their_tone(shape: tuple[int, int], dtype: type) -> None:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (*shape, 3), dtype=dtype)
    small, scale = tiling.shrink(pixels, 64)
    assert max(small.shape[1:]) == 64 and min(small.shape) >= 1
    mean = pixels.mean(axis=(0, 1)) / np.iinfo(dtype).max * 2 - 1
    assert np.abs(small.mean((1, 2)).numpy() - mean).max() < 0.04
    for side, shrunken, factor in zip(shape, small.shape[1:], scale, strict=True):
        assert shrunken * factor >= side


def test_shrinking_keeps_places() -> None:
    """A ramp stays the ramp that the scale says it is."""
    pixels = np.broadcast_to(np.arange(1000, dtype=np.uint16)[:, None, None] * 60, (1000, 700, 3))
    small, scale = tiling.shrink(pixels, 96)
    where = (np.arange(96) + 0.5) * scale[0] - 0.5
    expected = where * 60 / 32767.5 - 1
    assert np.abs(small[0, :, 3].numpy() - expected)[1:-1].max() < 1e-5


@pytest.mark.parametrize("top, left", [(0, 0), (37, 111), (172, 200)])
def test_tone_is_exact_for_slopes(top: int, left: int) -> None:
    """A window whose tone is off by any slope gets the photo's, up to its borders; its detail stays."""
    y, x = torch.meshgrid(torch.arange(300.0), torch.arange(328.0), indexing="ij")
    change = (0.001 * x - 0.002 * y + 0.3).expand(3, -1, -1)
    factor = 4
    small = torch.nn.functional.avg_pool2d(change, factor)
    tone = tiling.Tone(small, (factor, factor), reach=16.0)
    window = (slice(top, top + 128), slice(left, left + 128))
    degraded = torch.rand(3, 128, 128, generator=torch.Generator().manual_seed(0))
    restored = degraded - 0.4 + 0.003 * x[:128, :128]
    matched = tone.match(degraded, restored, top, left)
    inside = slice(None) if 0 < top < 172 else slice(8, -8)  # at the photo's own border the copy is level
    assert (matched - degraded - change[(slice(None), *window)])[:, inside, inside].abs().max() < 2e-3


def test_a_coarse_anchor_leaves_the_content_of_a_window() -> None:
    """Where a pixel of the anchor is larger than the window, only the window's level is moved."""
    content = torch.rand(3, 64, 64)
    tone = tiling.Tone(torch.full((3, 2, 1), 0.25), (1000.0, 64.0), reach=1000.0)
    matched = tone.match(content, content, 500, 0)
    assert torch.allclose(matched, content + 0.25, atol=1e-5)
