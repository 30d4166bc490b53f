"""The focus of whole photos: what gains do to waves, what is seen of a photo, and that it can be learned."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from restorevar.data.degradations.maps import gaussian_blur
from restorevar.data.pairs import Pairs
from restorevar.models import RestoreVAR
from restorevar.models import focus as focus_module
from restorevar.models import spectrum as spectrum_module
from restorevar.models.config import debug
from restorevar.models.focus import REACH, FocusNet, luma, passed, responses
from restorevar.models.spectrum import ANGLES, FREQUENCIES, TILE, spectrum, tiles
from restorevar.training.focus_stage import NO_ERROR, gained, problems, turned

WAVES = (len(FREQUENCIES), ANGLES)
USUAL = torch.tensor([[-6.2 - 1.9 * math.log(f)] for f in FREQUENCIES])


def photo(side: int = 128) -> torch.Tensor:
    """(1, 3, side, side) in [-1, 1]."""
    pixels = torch.from_numpy(data.astronaut()[:side, 150 : 150 + side].copy())
    return pixels.permute(2, 0, 1)[None].float() / 127.5 - 1


def soft(image: torch.Tensor, sigma: float) -> torch.Tensor:
    return gaussian_blur(image.flatten(0, 1), torch.full((image.shape[0] * 3,), sigma)).view_as(image)


def wave(frequency: float, angle: float, side: int = 192) -> torch.Tensor:
    """(side, side): cycles per pixel, and radians from across."""
    y, x = torch.meshgrid(torch.arange(float(side)), torch.arange(float(side)), indexing="ij")
    return torch.sin(2 * math.pi * frequency * (x * math.cos(angle) + y * math.sin(angle)))


def sharpened_by(image: torch.Tensor, gains: torch.Tensor) -> torch.Tensor:
    return image + passed(image, gains)


def seen_in(image: torch.Tensor) -> torch.Tensor:
    return spectrum(luma(image))


@pytest.mark.parametrize(("i", "j"), [(2, 0), (5, 4), (7, 12), (10, 17), (16, 23), (20, 6)])
def test_a_gain_makes_the_waves_of_its_frequency_and_angle_stronger(i, j):
    gains = torch.zeros(1, *WAVES)
    gains[0, i, j] = 1.0
    angle = math.pi * j / ANGLES
    inside = (..., slice(REACH, -REACH), slice(REACH, -REACH))

    def factor(frequency: float, angle: float) -> float:
        image = 0.2 * wave(frequency, angle).expand(1, 3, -1, -1)
        return float((sharpened_by(image, gains)[inside] * image[inside]).mean() / image[inside].square().mean()) - 1

    at_its_own = factor(FREQUENCIES[i], angle)
    assert at_its_own > 0.15  # in a kernel of 47 pixels waves are not told apart exactly
    assert abs(factor(FREQUENCIES[i], angle + math.pi / 2)) < 0.1 * at_its_own
    assert abs(factor(FREQUENCIES[i] + 0.1 if i < 12 else FREQUENCIES[i] - 0.1, angle)) < 0.15 * at_its_own


def test_gains_alike_for_all_waves_are_a_factor_on_fine_detail():
    fine = 0.2 * wave(0.3, 0.7).expand(1, 3, -1, -1)
    inside = (..., slice(REACH, -REACH), slice(REACH, -REACH))
    sharpened = sharpened_by(fine, torch.full((1, *WAVES), 0.5))
    torch.testing.assert_close(sharpened[inside], 1.5 * fine[inside], atol=0.005, rtol=0)


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 60), width=st.integers(1, 60), level=st.floats(-1, 1))
def test_what_is_flat_stays_whatever_the_gains(height, width, level):
    image = torch.full((2, 3, height, width), level)
    torch.testing.assert_close(sharpened_by(image, torch.randn(2, *WAVES)), image, atol=1e-4, rtol=0)
    assert seen_in(image).isfinite().all()


def test_each_photo_of_a_batch_has_its_own_gains():
    images = torch.cat([photo(), photo().flip(-1)])
    gains = torch.stack([torch.zeros(WAVES), torch.ones(WAVES)])
    both = sharpened_by(images, gains)
    torch.testing.assert_close(both[:1], images[:1])
    torch.testing.assert_close(both[1:], sharpened_by(images[1:], gains[1:]))
    assert (both[1:] - images[1:]).abs().mean() > 0.01


def test_a_new_network_sharpens_nothing():
    gains = FocusNet().look(photo())
    assert gains.shape == (1, *WAVES) and gains.eq(0).all()


def test_a_change_of_what_is_coarse_is_made_in_the_halved_photo():
    """All of it where the photo at its size shows nothing to do, in every wave that the half still has."""
    net = FocusNet(hidden=8)
    calls = iter([torch.zeros(1, *WAVES), torch.full((1, *WAVES), 0.5)])
    net.look = lambda image: next(calls)
    inside = (..., slice(2 * REACH, -2 * REACH), slice(2 * REACH, -2 * REACH))
    coarse, fine = (0.2 * wave(frequency, 0.3, side=256).expand(1, 3, -1, -1) for frequency in (0.06, 0.45))
    change = net.change(coarse + fine, coarse, halvings=1)
    along = [float((change[inside] * x[inside]).mean() / x[inside].square().mean()) for x in (coarse, fine)]
    assert along[0] == pytest.approx(0.5, abs=0.05) and abs(along[1]) < 0.02


def test_the_size_that_sees_more_to_do_has_the_say():
    image, net = photo(256), FocusNet(hidden=8)

    def change(*gains: float, halvings: int = 1) -> torch.Tensor:
        calls = iter(gains)
        net.look = lambda image: torch.full((1, *WAVES), next(calls))
        return net.change(image, image, halvings)

    at_its_size = change(0.5, halvings=0)
    assert torch.equal(change(0.5, 0.0), at_its_size)  # nothing at the half takes nothing away
    torch.testing.assert_close(change(0.5, 0.02), at_its_size, atol=2e-3, rtol=0)
    torch.testing.assert_close(change(0.01, 0.5), change(0.0, 0.5), atol=0.02, rtol=0)
    assert change(0.0, 0.5).abs().mean() > 0.01 and not change(0.0, 0.0).any()


@pytest.mark.parametrize(("side", "looks"), [(64, 1), (124, 1), (128, 2), (252, 2), (256, 3), (512, 3)])
def test_what_has_no_whole_tile_is_not_looked_at(side, looks):
    """Of what is repeated to fill a tile nothing can be told."""
    net, seen = FocusNet(hidden=8), []
    net.look = lambda image: seen.append(tuple(image.shape[-2:])) or torch.zeros(1, *WAVES)
    net.change(*2 * [torch.zeros(1, 3, side, 1024)])
    assert seen == [(side >> i, 1024 >> i) for i in range(looks)]


def test_it_does_alike_whichever_way_a_photo_smears():
    """Turned by a right angle; by half of one photos differ, for people build upright."""
    net = FocusNet(hidden=16)
    torch.nn.init.normal_(net.gains.weight)
    seen = torch.randn(1, *WAVES)
    right, half = ANGLES // 2, ANGLES // 4
    torch.testing.assert_close(net(seen.roll(right, 2)), net(seen).roll(right, 2), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(net(seen.roll(half, 2)), net(seen).roll(half, 2), atol=1e-3)


def test_the_spectrum_tells_how_soft_a_photo_is_and_which_way():
    sharp, blurred = seen_in(photo()), seen_in(soft(photo(), 2.0))
    lost = (sharp - blurred).mean(2)[0]
    assert lost[0] < 0.2 and lost[10] > 1 and (lost[:12].diff() > 0).all()  # the more, the finer
    smeared = F.avg_pool2d(photo(), (1, 9), stride=1, padding=(0, 4))
    lost = (sharp - seen_in(smeared))[0]
    across, down = lost[3:8, 0], lost[3:8, ANGLES // 2]
    assert (across > down + 0.5).all() and (down < 0.35).all()


@pytest.mark.parametrize("j", range(0, ANGLES, 3))
@pytest.mark.parametrize("i", [2, 7, 15])
def test_a_wave_is_seen_at_its_frequency_and_angle(i, j):
    seen = spectrum(0.2 * wave(FREQUENCIES[i], math.pi * j / ANGLES)[None])[0] + USUAL
    found_i, found_j = divmod(int(seen.argmax()), ANGLES)
    assert found_i == i and min((found_j - j) % ANGLES, (j - found_j) % ANGLES) <= (1 if i == 2 else 0)


def test_noise_has_no_direction_and_the_power_of_its_variance():
    noise = 0.05 * torch.randn(1, 512, 512, generator=torch.Generator().manual_seed(0))
    amplitude = (spectrum(noise)[0] + USUAL).exp()
    torch.testing.assert_close(amplitude[1:], torch.full_like(amplitude[1:], 0.05), atol=0, rtol=0.15)
    torch.testing.assert_close(amplitude.mean(1)[4:], torch.full((20,), 0.05), atol=0, rtol=0.03)


def test_large_photos_are_seen_in_no_more_tiles():
    """A photo of the same stuff has the same spectrum at any size."""
    noise = torch.randn(1, 700, 1500, generator=torch.Generator().manual_seed(0))
    assert tiles(noise).shape == (1, 16 * 16, TILE, TILE)
    torch.testing.assert_close(spectrum(noise)[:, 4:], spectrum(noise[:, :300, :400])[:, 4:], atol=0.2, rtol=0)


def test_what_is_kept_for_all_devices_is_not_made_on_the_default_one():
    by_device = (spectrum_module._waves, spectrum_module._pooling, focus_module._kernels)
    for kept in (*by_device, focus_module.responses):
        kept.cache_clear()
    with torch.device("meta"), torch.inference_mode():
        image = torch.empty(1, 3, 160, 128)
        change = FocusNet().change(image, image)
        assert change.device.type == "meta" and change.shape == image.shape
    assert sharpened_by(photo(), seen_in(photo())).isfinite().all()
    made = [focus_module.responses(), *(kept(torch.device("cpu")) for kept in by_device)]
    assert not any(table.is_inference() or table.is_meta for table in made)


def test_the_spectrum_of_a_photo_is_its_own_beside_others():
    images = torch.cat([photo(), soft(photo(), 1.0)])
    torch.testing.assert_close(seen_in(images)[:1], seen_in(images[:1]))


def test_lower_precision_around_it_changes_nothing():
    gains = torch.linspace(-1, 1, math.prod(WAVES)).view(1, *WAVES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen, sharpened = seen_in(photo()), sharpened_by(photo(), gains)
    assert torch.equal(seen, seen_in(photo()))
    assert torch.equal(sharpened, sharpened_by(photo(), gains))


def test_the_stage_knows_what_the_gains_would_bring():
    """From spectra alone, against images that were sharpened; and that unblurred photos are to stay as they are."""
    model = RestoreVAR(debug()).eval()
    assert model.fidelity is not None
    model.fidelity.tone = None
    clean_u8 = ((photo(256) + 1) * 127.5).round().to(torch.uint8)
    blurred = soft(clean_u8.float() / 127.5 - 1, 1.2)
    blurred_u8 = ((blurred + 1) * 127.5).round().to(torch.uint8)
    pairs = Pairs(clean_u8.repeat(2, 1, 1, 1), blurred_u8.repeat(2, 1, 1, 1), ["blur", "haze"])
    with torch.no_grad():
        problem = problems(model.fidelity, torch.device("cpu"))(pairs)
    assert problem["wrong"][1] == 0 and not problem["common"][1].any()
    passed = responses()
    power, common = (problem[name][0].flatten() for name in ("power", "common"))
    square = (passed * power) @ passed.T
    best = torch.linalg.solve(square + 1e-4 * square.diag().mean() * torch.eye(len(square)), passed @ common)
    best = best.view(1, *WAVES)
    degraded = pairs.degraded[:1].float() / 127.5 - 1
    clean = pairs.clean[:1].float() / 127.5 - 1
    before, after = ((x - clean).square().mean() for x in (degraded, sharpened_by(degraded, best)))
    true = float(10 * ((before + NO_ERROR) / (after + NO_ERROR)).log10())
    bring = gained(problem, best.expand(2, -1, -1))
    assert true > 1.5 and float(bring[0]) == pytest.approx(true, abs=0.4)  # tiles see less of the border
    assert bring[1] < -1
    assert gained(problem, torch.zeros(2, *WAVES)).abs().max() < 1e-4


@pytest.mark.parametrize(("mirror", "transpose"), [(True, False), (False, True), (True, True)])
def test_a_problem_can_be_turned_without_its_pixels(mirror, transpose):
    def turn(image: torch.Tensor) -> torch.Tensor:
        image = image.flip(-1) if mirror else image
        return image.mT.contiguous() if transpose else image

    clean = ((photo(192) + 1) * 127.5).round()
    slanting = torch.stack([clean.roll((i, 2 * i), dims=(2, 3)) for i in range(-2, 3)]).mean(0)
    blurred = F.avg_pool2d(slanting, (1, 5), stride=1, padding=(0, 2), count_include_pad=False)
    model = RestoreVAR(debug()).eval()
    assert model.fidelity is not None
    model.fidelity.tone = None  # which turns to no side
    make = problems(model.fidelity, torch.device("cpu"))
    with torch.no_grad():
        straight = make(Pairs(clean.byte(), blurred.round().byte(), ["blur"]))
        looked_at = make(Pairs(turn(clean).byte(), turn(blurred).round().byte(), ["blur"]))
    found = turned(straight, torch.tensor([mirror]), torch.tensor([transpose]))
    assert (found["seen"] - straight["seen"]).abs().max() > 0.5
    torch.testing.assert_close(found["seen"], looked_at["seen"], atol=0.1, rtol=0)
    for name in ("power", "common", "wrong"):
        torch.testing.assert_close(found[name], looked_at[name], atol=float(looked_at[name].abs().max()) * 0.03, rtol=0)
