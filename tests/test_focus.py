"""The focus of whole photos: what sharpening with shares does, what is seen of a photo, and that it can be learned."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from restorevar.data.degradations.maps import gaussian_blur
from restorevar.data.pairs import Pairs
from restorevar.models import RestoreVAR
from restorevar.models.config import debug
from restorevar.models.focus import (
    DIRECTIONS,
    LOOKED_AT,
    SHARES,
    FocusNet,
    apply_focus,
    curvature,
    sharpeners,
    statistics,
)
from restorevar.training.focus_stage import NO_ERROR, gained, problems


def photo(side: int = 128) -> torch.Tensor:
    """(1, 3, side, side) in [-1, 1]."""
    pixels = torch.from_numpy(data.astronaut()[:side, 150 : 150 + side].copy())
    return pixels.permute(2, 0, 1)[None].float() / 127.5 - 1


def soft(image: torch.Tensor, sigma: float) -> torch.Tensor:
    return gaussian_blur(image.flatten(0, 1), torch.full((image.shape[0] * 3,), sigma)).view_as(image)


def test_curvature_is_the_second_difference_at_each_distance():
    """Of a paraboloid, which smoothing leaves as curved as it is: away from the border, where it is reflected."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    paraboloid = (0.5 * x * x + 1.5 * y * y + 0.25 * x * y)[None]
    of_all = curvature(paraboloid)[0].unflatten(0, (-1, 3))
    sharpening = torch.stack(list(sharpeners(paraboloid)), dim=1)[0].unflatten(0, (-1, 6))
    for found in (of_all[:4], sharpening[:, :3]):
        for values, reach in zip(found[..., 28:36, 28:36], (1, 1, 2, 4), strict=True):
            for value, expected in zip(values, (1.0, 3.0, 0.25), strict=True):
                torch.testing.assert_close(value, torch.full_like(value, expected * reach**2), atol=1e-2, rtol=1e-3)
    assert sharpening[:, 3:, 28:36, 28:36].abs().max() < 0.05  # its curvature is the same everywhere


def test_there_are_as_many_sharpeners_as_shares():
    assert len(list(sharpeners(photo()))) == SHARES == FocusNet().look(photo()).shape[1]


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), level=st.floats(-1, 1))
def test_what_is_flat_stays_whatever_the_shares(height, width, level):
    image = torch.full((2, 3, height, width), level)
    torch.testing.assert_close(apply_focus(image, torch.randn(2, SHARES)), image, atol=1e-4, rtol=0)
    assert statistics(image).isfinite().all()


def test_each_photo_of_a_batch_has_its_own_shares():
    images = torch.cat([photo(), photo().flip(-1)])
    shares = torch.stack([torch.zeros(SHARES), -torch.ones(SHARES)])
    both = apply_focus(images, shares)
    torch.testing.assert_close(both[:1], images[:1])
    torch.testing.assert_close(both[1:], apply_focus(images[1:], shares[1:]))
    assert (both[1:] - images[1:]).abs().mean() > 0.01


def test_a_new_network_sharpens_nothing():
    assert FocusNet().look(photo()).eq(0).all()


def test_the_statistics_tell_how_soft_a_photo_is_and_which_way():
    sharp, blurred = statistics(photo()), statistics(soft(photo(), 2.0))
    bands = DIRECTIONS * (1 + len(LOOKED_AT))
    lost = (sharp - blurred)[0, :bands]
    assert (lost > 0).all() and lost[0] > 2 * lost[-1]  # most where it is fine
    smeared = torch.nn.functional.avg_pool2d(photo(), (1, 9), stride=1, padding=(0, 4))
    across, down = (sharp - statistics(smeared))[0, :2]
    assert across > down + 0.5


def test_the_statistics_of_a_photo_are_its_own_beside_others():
    images = torch.cat([photo(), soft(photo(), 1.0)])
    torch.testing.assert_close(statistics(images)[:1], statistics(images[:1]))


def test_lower_precision_around_it_changes_nothing():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen, sharpened = statistics(photo()), apply_focus(photo(), -torch.ones(1, SHARES))
    assert torch.equal(seen, statistics(photo()))
    assert torch.equal(sharpened, apply_focus(photo(), -torch.ones(1, SHARES)))


def test_the_stage_knows_what_the_shares_would_bring():
    """The quadratic form, against images that were sharpened; and that unblurred photos are to stay as they are."""
    model = RestoreVAR(debug()).eval()
    clean_u8 = ((photo() + 1) * 127.5).round().to(torch.uint8)
    blurred = soft(clean_u8.float() / 127.5 - 1, 1.2)
    blurred_u8 = ((blurred + 1) * 127.5).round().to(torch.uint8)
    pairs = Pairs(clean_u8.repeat(2, 1, 1, 1), blurred_u8.repeat(2, 1, 1, 1), ["blur", "haze"])
    with torch.no_grad():
        problem = problems(model.fidelity, torch.device("cpu"))(pairs)
    assert problem["wrong"][1] == 0 and not problem["cross"][1].any()
    best = torch.linalg.solve(problem["square"][0] + 1e-6 * torch.eye(SHARES), problem["cross"][0])
    degraded = pairs.degraded[:1].float() / 127.5 - 1
    clean = pairs.clean[:1].float() / 127.5 - 1
    before, after = ((x - clean).square().mean() for x in (degraded, apply_focus(degraded, best[None])))
    expected = 10 * ((before + NO_ERROR) / (after + NO_ERROR)).log10()
    bring = gained(problem, torch.stack([best, best]))
    assert float(bring[0]) == pytest.approx(float(expected), abs=0.01) and bring[0] > 1
    assert bring[1] < -1
    assert gained(problem, torch.zeros(2, SHARES)).abs().max() < 1e-4
