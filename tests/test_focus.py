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
from restorevar.models import spectrum as spectrum_module
from restorevar.models.config import debug
from restorevar.models.focus import (
    DETAILS,
    SEEN,
    SHARES,
    FocusNet,
    apply_focus,
    curvature,
    sharpeners,
    statistics,
)
from restorevar.models.spectrum import ANGLES, FREQUENCIES, spectrum
from restorevar.training.focus_stage import NO_ERROR, gained, problems, turned


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


def waves_of(seen: torch.Tensor) -> torch.Tensor:
    """(frequencies, angles) of the first photo's statistics."""
    return seen[0, DETAILS:].unflatten(0, (-1, ANGLES))


def test_the_statistics_tell_how_soft_a_photo_is_and_which_way():
    sharp, blurred = statistics(photo()), statistics(soft(photo(), 2.0))
    assert sharp.shape == (1, SEEN)
    lost = (waves_of(sharp) - waves_of(blurred)).mean(1)
    assert lost[0] < 0.2 and lost[6] > 1 and (lost[:-1].diff() > -0.05).all()  # the more, the finer
    smeared = torch.nn.functional.avg_pool2d(photo(), (1, 9), stride=1, padding=(0, 4))
    lost = waves_of(sharp) - waves_of(statistics(smeared))
    across, down = lost[5:9, 0], lost[5:9, ANGLES // 2]
    assert (across > down + 1).all() and (down < 0.35).all()


@pytest.mark.parametrize("angle", range(ANGLES))
def test_a_wave_is_seen_at_its_frequency_and_angle(angle):
    y, x = torch.meshgrid(torch.arange(160.0), torch.arange(160.0), indexing="ij")
    turn = torch.tensor(angle * torch.pi / ANGLES)
    wave = torch.sin(2 * torch.pi * FREQUENCIES[6] * (x * turn.cos() + y * turn.sin()))
    seen = spectrum(0.2 * wave[None]).unflatten(1, (-1, ANGLES))[0]
    assert divmod(int(seen.argmax()), ANGLES) == (6, angle)


def test_noise_has_no_direction_and_the_power_of_its_variance():
    noise = 0.05 * torch.randn(1, 512, 512, generator=torch.Generator().manual_seed(0))
    usual = torch.tensor([-6.2 - 1.9 * torch.tensor(f).log() for f in FREQUENCIES])
    amplitude = (spectrum(noise).unflatten(1, (-1, ANGLES))[0] + usual[:, None]).exp()
    torch.testing.assert_close(amplitude, torch.full_like(amplitude, 0.05), atol=0, rtol=0.15)
    torch.testing.assert_close(amplitude[4:], torch.full_like(amplitude[4:], 0.05), atol=0, rtol=0.05)


def test_large_photos_are_seen_in_no_more_tiles():
    """A photo of the same stuff has the same spectrum at any size."""
    noise = torch.randn(1, 700, 1500, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(spectrum(noise)[:, 32:], spectrum(noise[:, :300, :400])[:, 32:], atol=0.06, rtol=0)


def test_what_is_kept_for_all_devices_is_not_made_on_the_default_one():
    for kept in (spectrum_module._waves, spectrum_module._pooling):
        kept.cache_clear()
    with torch.device("meta"), torch.inference_mode():
        image = torch.empty(1, 3, 96, 96)
        assert statistics(image).device.type == "meta"
    assert statistics(photo()).isfinite().all()
    assert not spectrum_module._pooling().is_inference()


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


@pytest.mark.parametrize(("mirror", "transpose"), [(True, False), (False, True), (True, True)])
def test_a_problem_can_be_turned_without_its_pixels(mirror, transpose):
    def turn(image: torch.Tensor) -> torch.Tensor:
        image = image.flip(-1) if mirror else image
        return image.mT.contiguous() if transpose else image

    clean = ((photo() + 1) * 127.5).round()
    slanting = torch.stack([clean.roll((i, 2 * i), dims=(2, 3)) for i in range(-2, 3)]).mean(0)
    blurred = torch.nn.functional.avg_pool2d(slanting, (1, 5), stride=1, padding=(0, 2), count_include_pad=False)
    model = RestoreVAR(debug()).eval()
    assert model.fidelity is not None
    model.fidelity.tone = None  # which turns to no side
    make = problems(model.fidelity, torch.device("cpu"))
    with torch.no_grad():
        straight, looked_at = (
            make(Pairs(change(clean).byte(), change(blurred).round().byte(), ["blur"]))
            for change in (lambda x: x, turn)
        )
    found = turned(straight, torch.tensor([mirror]), torch.tensor([transpose]))
    assert (found["seen"] - straight["seen"]).abs().max() > 0.5
    torch.testing.assert_close(found["seen"], looked_at["seen"], atol=0.05, rtol=0)
    for name in ("square", "cross", "wrong"):
        torch.testing.assert_close(found[name], looked_at[name], atol=1e-6, rtol=1e-4)
