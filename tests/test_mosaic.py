"""Maps of large photos from maps of their parts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from restorevar.mosaic import Mosaic

MARGIN, CELL = 8, 4
PADDED = (64 + 2 * MARGIN, 64 + 2 * MARGIN)


def window(top: int, left: int) -> tuple[slice, slice]:
    return slice(top, top + 64), slice(left, left + 64)


def mosaic(height: int, width: int, look) -> Mosaic:
    return Mosaic((height, width), (64, 64), MARGIN, PADDED, look)


def sees_where(places) -> list[Tensor]:
    """Maps that say of each cell where in the photo it lies, in 10 x 10 cells."""
    cells = (torch.arange(10) + 0.5) * PADDED[0] / 10 - MARGIN
    return [
        torch.stack(torch.meshgrid(rows.start + cells, columns.start + cells, indexing="ij"))
        for rows, columns in places
    ]


@settings(max_examples=30, deadline=None)
@given(height=st.integers(64, 200), width=st.integers(64, 200), down=st.floats(0, 1), across=st.floats(0, 1))
def test_what_parts_agree_upon_is_what_windows_are_told(height: int, width: int, down: float, across: float) -> None:
    top, left = round(down * (height - 64)), round(across * (width - 64))
    told = mosaic(height, width, sees_where).at(*window(top, left), CELL)
    wanted = (torch.arange(PADDED[0] // CELL) + 0.5) * CELL - MARGIN
    assert told.shape == (2, 20, 20)
    # Beyond the middles of the first and the last cell of a part its maps go on as they are.
    inner = (slice(None), slice(2, -2), slice(2, -2))
    expected = torch.stack(torch.meshgrid(top + wanted, left + wanted, indexing="ij"))
    torch.testing.assert_close(told[inner], expected[inner], atol=1e-3, rtol=0)


def test_windows_are_told_the_same_of_what_they_share() -> None:
    generator = torch.Generator().manual_seed(0)
    guesses = mosaic(150, 170, lambda places: [torch.randn(3, 5, 6, generator=generator) for _ in places])
    first, second = guesses.at(*window(0, 20), CELL), guesses.at(*window(16, 40), CELL)
    shift_down, shift_across = 16 // CELL, 20 // CELL
    edge = MARGIN // CELL  # around the photo what is beyond its end counts as the end
    torch.testing.assert_close(
        first[:, edge + shift_down :, shift_across:], second[:, edge : 20 - shift_down, : 20 - shift_across]
    )
    assert first.std() > 0.1


def test_the_mean_of_parts_that_differ_goes_from_one_to_the_next_without_a_step() -> None:
    kinds = iter((0.0, 1.0, 0.0))
    row = mosaic(64, 128, lambda places: [torch.full((1, 4, 4), next(kinds)) for _ in places])
    across = torch.cat([row.at(*window(0, left), CELL)[0, 5, 2:-2] for left in (0, 64)])
    assert across[0] < 0.02 and across[-1] < 0.02 and across.max() > 0.95
    assert across.diff().abs().max() < 0.25


def test_each_row_is_looked_at_once_and_when_it_is_needed() -> None:
    asked: list[list[tuple[int, int]]] = []

    def look(places):
        asked.append([(rows.start, columns.start) for rows, columns in places])
        return sees_where(places)

    lazy = mosaic(160, 128, look)
    assert not asked
    lazy.at(*window(0, 0), CELL)
    assert len(asked) == 3  # the third for the margin below
    lazy.at(*window(0, 64), CELL)
    assert len(asked) == 3
    lazy.at(*window(96, 0), CELL)
    assert asked == [[(top, left) for left in (0, 32, 64)] for top in (0, 32, 64, 96)]


@pytest.mark.parametrize("height, width", [(64, 300), (300, 64), (40, 300)])
def test_a_strip_has_parts_along_its_length(height: int, width: int) -> None:
    strip = mosaic(height, width, lambda places: [torch.ones(1, 3, 3) for _ in places])
    assert (len(strip.parts.tops) == 1) == (height <= 64) and len(strip.parts) > 5
    torch.testing.assert_close(strip.at(*window(0, 0), CELL), torch.ones(1, 20, 20))
