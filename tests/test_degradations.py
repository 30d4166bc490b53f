from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data
from torch import Generator, Tensor

from restorevar.data.degradations import (
    DEGRADATIONS,
    VARIANTS,
    blur,
    haze,
    jpeg,
    low_light,
    rain,
    shifted_jpeg,
    snow,
    to_linear,
    to_srgb,
)
from restorevar.data.degradations.lens_drops import _water, lens_drops
from restorevar.data.degradations.maps import gaussian_blur
from restorevar.data.degradations.variants import (
    among_things,
    banks_of_fog,
    broad_rain,
    drawn_rain,
    driven_snow,
    enlarged,
    grainy,
    lit_alike,
    out_of_focus,
    things,
    unevenly_lit,
)
from restorevar.data.mixes import MIXES, Mix, degrade
from restorevar.data.tones import CAST, LEAST_EXPOSURE, harder, retaken
from restorevar.errors import UserError

TASKS = list(DEGRADATIONS)
#: The engine's own five, and the other ways to make them.
MAKERS = DEGRADATIONS | {make.__name__: make for makers in VARIANTS.values() for make in makers}


def seeded(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def photo_13HW(height: int = 128, width: int = 160) -> Tensor:
    pixels = torch.from_numpy(data.astronaut()[:height, 150 : 150 + width].copy())
    return pixels.permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module")
def photos_B3HW() -> Tensor:
    return photo_13HW().repeat(8, 1, 1, 1)


def psnr_to(clean_B3HW: Tensor, other_B3HW: Tensor) -> float:
    errors_B = ((clean_B3HW - other_B3HW) ** 2).mean(dim=(1, 2, 3)).clamp(min=1e-10)
    return float((-10 * errors_B.log10()).mean())


@pytest.mark.parametrize("task", list(MAKERS))
def test_keeps_shape_and_range_and_leaves_the_input_alone(task: str, photos_B3HW: Tensor) -> None:
    before_B3HW = photos_B3HW.clone()
    strength_B = torch.linspace(0, 1, len(photos_B3HW))
    result_B3HW = MAKERS[task](photos_B3HW, strength_B, seeded())
    assert result_B3HW.shape == photos_B3HW.shape
    assert result_B3HW.dtype == torch.float32
    assert float(result_B3HW.min()) >= 0 and float(result_B3HW.max()) <= 1
    assert torch.equal(photos_B3HW, before_B3HW)


def test_what_is_out_of_focus_can_be_undone_in_part(photos_B3HW: Tensor) -> None:
    strength_B = torch.full((len(photos_B3HW),), 0.4)
    blurred_B3HW = out_of_focus(photos_B3HW, strength_B, seeded())
    smooth_B3HW = gaussian_blur(blurred_B3HW.flatten(0, 1), torch.full((3 * len(strength_B),), 2.0)).view_as(
        blurred_B3HW
    )
    sharpened_B3HW = (blurred_B3HW + 0.5 * (blurred_B3HW - smooth_B3HW)).clamp(0, 1)
    assert psnr_to(photos_B3HW, sharpened_B3HW) > psnr_to(photos_B3HW, blurred_B3HW) + 0.5
    assert (blurred_B3HW.mean(dim=(2, 3)) - photos_B3HW.mean(dim=(2, 3))).abs().max() < 0.01


def test_what_was_enlarged_is_a_small_picture_still(photos_B3HW: Tensor) -> None:
    large_B3HW = enlarged(photos_B3HW, torch.ones(len(photos_B3HW)), seeded())
    small_B3HW, shrunken_B3HW = (F.interpolate(x, scale_factor=0.25, mode="area") for x in (large_B3HW, photos_B3HW))
    assert psnr_to(shrunken_B3HW, small_B3HW) > psnr_to(photos_B3HW, large_B3HW) + 4
    again_B3HW = F.interpolate(small_B3HW, large_B3HW.shape[-2:], mode="bicubic").clamp(0, 1)
    assert psnr_to(large_B3HW, again_B3HW) > psnr_to(photos_B3HW, large_B3HW) + 4


@pytest.mark.parametrize("task", list(MAKERS))
def test_the_seed_decides_everything(task: str, photos_B3HW: Tensor) -> None:
    strength_B = torch.full((len(photos_B3HW),), 0.6)
    torch.manual_seed(1)
    first = MAKERS[task](photos_B3HW, strength_B, seeded(7))
    torch.manual_seed(2)  # the global generator must not matter
    second = MAKERS[task](photos_B3HW, strength_B, seeded(7))
    other = MAKERS[task](photos_B3HW, strength_B, seeded(8))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("task", list(MAKERS))
def test_more_strength_takes_the_image_further_from_clean(task: str, photos_B3HW: Tensor) -> None:
    clean_B3HW = photos_B3HW.repeat(3, 1, 1, 1)
    levels = [
        psnr_to(clean_B3HW, MAKERS[task](clean_B3HW, torch.full((24,), strength), seeded(3)))
        for strength in (0.0, 0.35, 0.7, 1.0)
    ]
    assert all(weak > strong + 0.3 for weak, strong in itertools.pairwise(levels)), levels


@settings(max_examples=40, deadline=None)
@given(
    task=st.sampled_from(list(MAKERS)),
    height=st.integers(8, 41),
    width=st.integers(8, 41),
    strength=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_any_size_from_eight_pixels_on(task: str, height: int, width: int, strength: float, seed: int) -> None:
    image_B3HW = torch.rand(2, 3, height, width, generator=seeded(seed))
    result_B3HW = MAKERS[task](image_B3HW, torch.full((2,), strength), seeded(seed))
    assert result_B3HW.shape == image_B3HW.shape
    assert torch.isfinite(result_B3HW).all()
    assert float(result_B3HW.min()) >= 0 and float(result_B3HW.max()) <= 1


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("task", TASKS)
def test_black_and_white_images_survive(task: str, value: float) -> None:
    result_B3HW = DEGRADATIONS[task](torch.full((4, 3, 40, 32), value), torch.rand(4), seeded())
    assert torch.isfinite(result_B3HW).all()
    assert float(result_B3HW.min()) >= 0 and float(result_B3HW.max()) <= 1


def test_three_quarters_of_thick_fog_are_lit_unevenly(photos_B3HW: Tensor) -> None:
    """And what differs is the light of the air alone: its colour is the same all over."""
    images_B3HW = photos_B3HW[:1].expand(64, -1, -1, -1)
    air_B3 = torch.tensor([[0.6, 0.65, 0.7]]).expand(64, -1)
    air_B3HW = unevenly_lit(air_B3, images_B3HW, seeded(2))
    assert air_B3HW.shape == images_B3HW.shape
    factor_B3HW = air_B3HW / air_B3[..., None, None]
    torch.testing.assert_close(factor_B3HW[:, 0], factor_B3HW[:, 2])
    span_B = factor_B3HW[:, 0].flatten(1).amax(1) - factor_B3HW[:, 0].flatten(1).amin(1)
    uneven_B = span_B > 0.03
    assert 0.6 < float(uneven_B.float().mean()) < 0.9 and float(span_B[~uneven_B].max()) < 1e-6
    assert float(span_B.max()) < 1


def test_air_is_as_dark_as_what_it_lies_over() -> None:
    """By day it keeps its light and its colour; by night it loses light alone, and never all of it."""
    air_B3 = torch.tensor([[0.9, 0.8, 0.7]])
    day, night = torch.full((1, 3, 16, 16), 0.6), torch.full((1, 3, 16, 16), 0.02)
    torch.testing.assert_close(lit_alike(air_B3, day), air_B3)
    torch.testing.assert_close(lit_alike(air_B3, night), 0.35 * air_B3)
    lamp = night.clone()
    lamp[..., :4, :4] = 1.0  # a sixteenth of it
    torch.testing.assert_close(lit_alike(air_B3, lamp), 0.35 * air_B3)
    between = lit_alike(air_B3, torch.full((1, 3, 16, 16), 0.33))
    torch.testing.assert_close(between, 0.6 * air_B3)


def test_grain_is_small_and_often_coarse() -> None:
    gray_B3HW = torch.full((64, 3, 48, 48), 0.5)
    grain_B3HW = grainy(gray_B3HW, seeded(3)) - gray_B3HW
    spread_B = grain_B3HW.flatten(1).std(1)
    assert float(spread_B.mean()) > 0.002 and float(spread_B.max()) < 0.013
    neighbours_B = (grain_B3HW[..., 1:] * grain_B3HW[..., :-1]).mean((1, 2, 3)) / grain_B3HW.square().mean((1, 2, 3))
    assert 0.4 < float((neighbours_B > 0.3).float().mean()) < 0.8 and float(neighbours_B.min()) < 0.1


def test_haze_is_the_scattering_formula(photos_B3HW: Tensor) -> None:
    """Black and white images give away A and t; with them the formula must give the photograph back."""
    batch, _, height, width = photos_B3HW.shape
    depth_BHW = torch.linspace(0.05, 1, height)[None, :, None].expand(batch, height, width)
    strength_B = torch.linspace(0, 1, batch)

    def hazy(image_B3HW: Tensor) -> Tensor:
        return haze(image_B3HW, strength_B, seeded(5), depth_BHW=depth_BHW)

    black, white = hazy(torch.zeros_like(photos_B3HW)), hazy(torch.ones_like(photos_B3HW))
    t_B3HW = white - black
    air_B3HW = black / (1 - t_B3HW)
    beta_B3HW = -t_B3HW.log() / depth_BHW[:, None]
    assert float((air_B3HW - air_B3HW.mean(dim=(2, 3), keepdim=True)).abs().max()) < 1e-3
    assert float((beta_B3HW - beta_B3HW.mean(dim=(1, 2, 3), keepdim=True)).abs().max()) < 1e-3
    restored_B3HW = (hazy(photos_B3HW) - air_B3HW * (1 - t_B3HW)) / t_B3HW
    assert torch.allclose(restored_B3HW, photos_B3HW, atol=1e-4)


def test_haze_thickens_with_depth() -> None:
    depth_BHW = torch.cat([torch.zeros(4, 32, 16), torch.ones(4, 32, 16)], dim=2)
    result_B3HW = haze(torch.zeros(4, 3, 32, 32), torch.full((4,), 0.8), seeded(), depth_BHW=depth_BHW)
    assert torch.equal(result_B3HW[..., :16], torch.zeros(4, 3, 32, 16))
    assert (result_B3HW[..., 16:] > 0.3).all()


def test_low_light_darkens_to_the_level_of_lol(photos_B3HW: Tensor) -> None:
    mild = low_light(photos_B3HW, torch.full((8,), 0.2), seeded()).mean(dim=(1, 2, 3))
    heavy = low_light(photos_B3HW, torch.full((8,), 0.9), seeded()).mean(dim=(1, 2, 3))
    assert (mild < photos_B3HW.mean(dim=(1, 2, 3))).all()
    assert 0.02 < float(heavy.mean()) < 0.2


def test_low_light_has_eight_bits(photos_B3HW: Tensor) -> None:
    levels = low_light(photos_B3HW, torch.full((8,), 0.5), seeded()) * 255
    assert torch.allclose(levels, levels.round(), atol=1e-3)


@pytest.mark.parametrize("fall", [rain, snow])
def test_rain_and_snow_brighten_dark_images(fall: Callable[..., Tensor], photos_B3HW: Tensor) -> None:
    dark_B3HW = photos_B3HW * 0.5
    result_B3HW = fall(dark_B3HW, torch.full((8,), 0.7), seeded())
    assert (result_B3HW.mean(dim=(1, 2, 3)) > dark_B3HW.mean(dim=(1, 2, 3))).all()


def test_drawn_rain_covers_what_its_strength_says_and_some_of_it_is_thick() -> None:
    """On black: between 2 and 20 % of it, times 0.3 to 1.5; lines of up to 7 px, as light in their middle."""
    black_B3HW = torch.zeros(32, 3, 128, 160)
    weak_B, strong_B = (
        (drawn_rain(black_B3HW, torch.full((32,), strength), seeded(4)).amax(1) > 0.1).float().mean((1, 2))
        for strength in (0.0, 1.0)
    )
    assert 0.005 < float(weak_B.mean()) < 0.06 and 0.1 < float(strong_B.mean()) < 0.35
    light_BHW = drawn_rain(black_B3HW, torch.full((32,), 1.0), seeded(4)).amax(1)
    inside_BHW = -torch.nn.functional.max_pool2d(-light_BHW, 5, 1)  # the least of 5 x 5 pixels
    thick_B = inside_BHW.flatten(1).amax(1) > 0.9 * light_BHW.flatten(1).amax(1)
    assert 4 <= int(thick_B.sum()) <= 28


def test_broad_rain_is_broader_than_what_falls_behind_it() -> None:
    """On black: in most samples bars of 5 pixels and more are nearly as light within as anything is, none is opaque."""
    black_B3HW = torch.zeros(32, 3, 128, 160)
    light_BHW = broad_rain(black_B3HW, torch.full((32,), 1.0), seeded(4)).amax(1)
    inside_BHW = -F.max_pool2d(-light_BHW, 5, 1)  # the least of 5 x 5 pixels
    broad_B = inside_BHW.flatten(1).amax(1) > 0.5 * light_BHW.flatten(1).amax(1)
    assert int(broad_B.sum()) >= 16
    assert float(inside_BHW.max()) < 0.95


def test_driven_snow_lies_one_way_and_darkens_nothing() -> None:
    """A photo only gets lighter; on black what is smeared is alike along one direction, which differs by sample."""
    photo_B3HW = photo_13HW().repeat(16, 1, 1, 1)
    snowy_B3HW = driven_snow(photo_B3HW, torch.full((16,), 0.8), seeded(4))
    assert float((snowy_B3HW - photo_B3HW).min()) > -1e-6
    assert (snowy_B3HW.mean((1, 2, 3)) > photo_B3HW.mean((1, 2, 3)) + 0.01).all()
    flakes_BHW = driven_snow(torch.zeros_like(photo_B3HW), torch.full((16,), 0.2), seeded(4))[:, 0]
    down_B, across_B = (flakes_BHW.diff(dim=dim).abs().mean((1, 2)) for dim in (1, 2))
    ratio_B = down_B / across_B
    assert float(ratio_B.min()) < 0.7 and float(ratio_B.max()) > 1.3


def test_fog_in_banks_is_thick_here_and_thin_there() -> None:
    """A half of the samples are dimmed by what is added (gray stays below it in parts), the others nowhere darker."""
    gray_B3HW = torch.full((32, 3, 96, 128), 0.5)
    foggy_B3HW = banks_of_fog(gray_B3HW, torch.full((32,), 0.8), seeded(4))
    smooth_BHW = gaussian_blur(foggy_B3HW[:, 1], torch.full((32,), 3.0))
    span_B = smooth_BHW.flatten(1).amax(1) - smooth_BHW.flatten(1).amin(1)
    assert float((span_B > 0.1).float().mean()) > 0.8
    dimmed_B = smooth_BHW.flatten(1).amin(1) < 0.4
    assert 8 <= int(dimmed_B.sum()) <= 24


def test_drops_on_the_lens_show_the_scene_upside_down_and_leave_the_rest_alone() -> None:
    """Over a ramp from dark to bright a lens of power 2 is a mirror: within drops, what is below is above."""
    ramp_B3HW = torch.linspace(0.1, 0.9, 96)[:, None].expand(24, 3, 96, 128).contiguous()
    changed_BHW = (lens_drops(ramp_B3HW, torch.full((24,), 0.7), seeded(4)) - ramp_B3HW).abs().amax(1)
    untouched_B = (changed_BHW < 1e-3).float().mean((1, 2))
    assert 0.3 < float(untouched_B.mean()) < 0.99
    assert int((changed_BHW.flatten(1).amax(1) > 0.1).sum()) >= 18
    water_BHW, bent_BHW2 = _water(torch.full((4,), 0.5), 96, 128, seeded(5))
    inside_BHW = water_BHW > 0.3
    slope_BHW = bent_BHW2[..., 1].diff(dim=1)[inside_BHW[:, 1:]]
    assert float((slope_BHW < 0).float().mean()) > 0.6  # the further down in a drop, the further up in the scene


def test_blur_keeps_the_mean_and_loses_detail(photos_B3HW: Tensor) -> None:
    result_B3HW = blur(photos_B3HW, torch.full((8,), 0.8), seeded())
    assert torch.allclose(result_B3HW.mean(dim=(1, 2, 3)), photos_B3HW.mean(dim=(1, 2, 3)), atol=0.03)

    def detail(image_B3HW: Tensor) -> Tensor:
        return (image_B3HW[..., 2:] - image_B3HW[..., :-2]).abs().mean(dim=(1, 2, 3))

    assert (detail(result_B3HW) < 0.8 * detail(photos_B3HW)).all()


def test_blur_leaves_flat_images_flat() -> None:
    result_B3HW = blur(torch.full((8, 3, 48, 48), 0.5), torch.full((8,), 0.9), seeded())
    assert float((result_B3HW - 0.5).abs().mean()) < 0.01


def test_srgb_and_linear_are_inverse() -> None:
    ramp = torch.linspace(0, 1, 256)
    assert torch.allclose(to_srgb(to_linear(ramp)), ramp, atol=1e-5)


def test_jpeg_of_higher_quality_is_closer(photos_B3HW: Tensor) -> None:
    pair_B3HW = photos_B3HW[:2]
    low, high = jpeg(pair_B3HW, torch.tensor([50, 95]))
    assert low.shape == high.shape == pair_B3HW.shape[1:]
    assert psnr_to(pair_B3HW[:1], high[None]) > psnr_to(pair_B3HW[:1], low[None]) > 20


def test_photos_are_met_with_blocks_that_begin_anywhere_and_some_smaller() -> None:
    """Where blocks join, neighbours differ more. Of 64 samples half have the grid of 8 pixels, at all of its places."""
    ramp_B3HW = (torch.linspace(0.2, 0.8, 96) ** 1.3).expand(64, 3, 64, 96)
    result_B3HW = shifted_jpeg(ramp_B3HW, torch.full((64,), 20), seeded(5))
    assert result_B3HW.shape == ramp_B3HW.shape and 0 <= float(result_B3HW.min()) <= float(result_B3HW.max()) <= 1
    assert psnr_to(ramp_B3HW, result_B3HW) > 30
    steps_BX = (result_B3HW.diff(dim=-1) - ramp_B3HW.diff(dim=-1)).abs().mean((1, 2))[:, 7:87]
    at_B8 = steps_BX.reshape(64, 10, 8).mean(1)
    sharp_B = at_B8.amax(1) > 3 * at_B8.median(1).values
    assert 0.3 < float(sharp_B.float().mean()) < 0.7
    assert len(set(at_B8[sharp_B].argmax(1).tolist())) >= 6


@pytest.mark.parametrize("mix", MIXES)
def test_degrade_names_what_it_did(mix: str) -> None:
    image_B3HW = photo_13HW(32, 32).repeat(64, 1, 1, 1)
    before_B3HW = image_B3HW.clone()
    result_B3HW, tasks = degrade(image_B3HW, mix, seeded(2))
    again_B3HW, tasks_again = degrade(image_B3HW, mix, seeded(2))
    assert torch.equal(image_B3HW, before_B3HW)
    assert torch.equal(result_B3HW, again_B3HW) and tasks == tasks_again
    assert len(tasks) == 64 and set(tasks) <= set(MIXES[mix].weights) and len(set(tasks)) >= 5
    assert float(result_B3HW.min()) >= 0 and float(result_B3HW.max()) <= 1


def test_clean_samples_stay_as_they_are_and_others_do_not() -> None:
    image_B3HW = photo_13HW(48, 48).repeat(32, 1, 1, 1)
    mix = Mix(weights={"clean": 1, "haze": 1, "lowlight+blur": 1}, strength=(0.3, 0.9), jpeg_probability=1.0)
    result_B3HW, tasks = degrade(image_B3HW, mix, seeded())
    untouched = [torch.equal(one, before) for one, before in zip(result_B3HW, image_B3HW, strict=True)]
    assert untouched == [task == "clean" for task in tasks]


def test_shares_of_the_train_mix() -> None:
    _, tasks = degrade(torch.rand(600, 3, 8, 8, generator=seeded()), "train", seeded())
    share = {task: tasks.count(task) / len(tasks) for task in set(tasks)}
    assert 0.18 < share["haze"] < 0.30
    assert 0.05 < share["clean"] < 0.18
    assert 0.02 < sum(part for task, part in share.items() if "+" in task) < 0.11


def test_some_are_made_by_the_variant_and_all_of_them_where_the_mix_says_so() -> None:
    image_B3HW = photo_13HW(48, 48).repeat(64, 1, 1, 1)
    made = {
        share: degrade(image_B3HW, Mix(weights={"lowlight": 1}, variants=share), seeded(4))[0] for share in (0, 0.5, 1)
    }
    plain = degrade(image_B3HW, Mix(weights={"lowlight": 1}), seeded(4))[0]
    assert torch.equal(made[0], plain)  # and the chance of the fixed test pairs is not spent on variants
    assert not torch.equal(made[0.5], made[0]) and not torch.equal(made[0.5], made[1])


def test_haze_among_things_is_even_on_each_and_steps_between_them() -> None:
    """Four blocks of one colour each; a colour counts enough for most blocks to lie at a distance of their own."""
    block_3HW = torch.rand(3, 2, 2, generator=seeded(1)).repeat_interleave(48, 1).repeat_interleave(48, 2)
    depth_BHW = things(block_3HW.expand(8, -1, -1, -1), seeded(2), most=4)
    assert depth_BHW.shape == (8, 96, 96) and depth_BHW.min() >= 0 and depth_BHW.max() <= 1
    edges = (depth_BHW.diff(dim=1).abs() > 0.01).float().mean(dim=(1, 2))
    assert (edges < 0.15).all() and (edges > 0).all()  # even nearly everywhere, and not the same everywhere
    assert all(len(one.mul(1000).round().unique()) > 2 for one in depth_BHW)


def test_the_nearest_thing_may_stay_black_before_a_veil() -> None:
    image_B3HW = torch.full((64, 3, 96, 96), 0.5)
    image_B3HW[..., 20:70, 30:60] = 0.0
    hazy_B3HW = among_things(image_B3HW, torch.full((64,), 0.7), seeded(3))
    black_B, wall_B = hazy_B3HW[..., 35:55, 40:50].mean((1, 2, 3)), hazy_B3HW[..., :15, :].mean((1, 2, 3))
    assert ((black_B < 0.15) & (wall_B > 0.65)).any() and (black_B > 0.5).any()


def test_harder_tones_only_ever_add_contrast(photos_B3HW: Tensor) -> None:
    """Darks no brighter, order of gray kept, black and white in range; a soft target would teach that haze is right."""
    ramp_3HW = torch.linspace(0, 1, 65).expand(3, 4, 65)
    for seed in range(20):
        toned_3HW = harder(ramp_3HW, seeded(seed))
        gray_W = toned_3HW.mean((0, 1))
        assert gray_W.min() == 0 and gray_W.max() > 0.999 and (gray_W.diff() >= -1e-6).all()
        assert gray_W[8] <= ramp_3HW[0, 0, 8] and gray_W[-1] - gray_W[8] >= ramp_3HW[0, 0, -1] - ramp_3HW[0, 0, 8]
        assert harder(photos_B3HW[0], seeded(seed)).shape == photos_B3HW[0].shape
    assert not torch.equal(harder(photos_B3HW[0], seeded(0)), harder(photos_B3HW[0], seeded(1)))


def test_retaken_photos_have_gray_whites_at_times_but_black_blacks(photos_B3HW: Tensor) -> None:
    """Gray whites are what a network must have seen, or it takes them for too little light; a veil it must not see."""
    ramp_3HW = torch.linspace(0, 1, 65).expand(3, 4, 65)
    ramps = [retaken(ramp_3HW, seeded(seed))[:, 0] for seed in range(60)]
    for row_3W in ramps:
        assert (row_3W[:, 0] < 1e-4).all() and (row_3W.diff() >= -1e-4).all()
        assert row_3W[:, -1].max() > LEAST_EXPOSURE ** (1 / 2.2) - 0.02
        assert row_3W[:, -1].min() > (1 - 8 * CAST) * row_3W[:, -1].max()
    whites = torch.stack([row_3W[:, -1].max() for row_3W in ramps])
    assert 0.1 < (whites < 0.99).float().mean() < 0.4
    assert any(row_3W.equal(ramp_3HW[:, 0]) for row_3W in ramps)  # three in sixteen
    assert retaken(photos_B3HW[0], seeded(3)).shape == photos_B3HW[0].shape


def test_a_mix_without_a_task_has_none_of_its_company_either() -> None:
    left = MIXES["train"].without("lowlight").weights
    assert "haze+rain" in left and not any("lowlight" in task for task in left)
    assert Mix(weights={"haze": 1}).without("haze").weights == {"clean": 1.0}


def test_one_task_by_name_in_either_order() -> None:
    image_B3HW = photo_13HW(32, 32).repeat(3, 1, 1, 1)
    one_B3HW, tasks = degrade(image_B3HW, "haze+rain", seeded())
    other_B3HW, _ = degrade(image_B3HW, "rain+haze", seeded())
    assert tasks == ["haze+rain"] * 3
    assert torch.equal(one_B3HW, other_B3HW)


def test_an_unknown_task_is_a_user_error() -> None:
    with pytest.raises(UserError, match="unknown degradation 'fog'"):
        degrade(torch.rand(1, 3, 16, 16), "haze+fog", seeded())


@pytest.mark.parametrize("fall", [rain, snow])
def test_small_crops_get_as_much_as_large_ones(fall: Callable[..., Tensor]) -> None:
    added = [
        float(fall(torch.full((32, 3, side, side), 0.2), torch.full((32,), 0.6), seeded(1)).mean()) - 0.2
        for side in (64, 256)
    ]
    assert 0.6 < added[0] / added[1] < 1.6
