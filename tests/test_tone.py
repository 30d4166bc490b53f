"""The tone of whole photos: what its maps do, and how it sees."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restorevar.models import RestoreVAR
from restorevar.models.config import FidelityConfig, debug
from restorevar.models.tone import (
    LEAST_LIGHT,
    MOST_GAIN,
    RANKS,
    VIEWS,
    ToneNet,
    _joined,
    apply_tone,
    darkest,
    keep_light,
)
from restorevar.models.veil import lift_veil
from restorevar.training.tone_stage import LEAST_PART, glimpses, with_others


def picture(height: int = 32, width: int = 48, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def light(image: torch.Tensor) -> torch.Tensor:
    return (image + 1) / 2


def maps(**values: float) -> torch.Tensor:
    """The same everywhere: of the colours a factor (its logarithm), a curve, an offset; a share of the lifted veil."""
    found = torch.zeros(1, 10, 8, 12)
    for i, name in enumerate(("gain", "curve", "offset")):
        found[:, 3 * i : 3 * i + 3] = values.get(name, 0.0)
    found[:, 9] = values.get("lift", 0.0)
    return found


def test_each_map_does_what_it_says():
    image = picture()
    lifted = lift_veil(image)
    x = light(image)
    for given_maps, expected in (
        (maps(), x),
        (maps(gain=math.log(3)), 3 * x),
        (maps(gain=99.0), x * math.exp(MOST_GAIN)),
        (maps(curve=0.5), x + 0.5 * x * (1 - x)),
        (maps(offset=-0.2), x - 0.2),
        (maps(lift=1.0), light(lifted[:, :3])),
        (maps(lift=0.5), (x + light(lifted[:, :3])) / 2),
    ):
        torch.testing.assert_close(light(apply_tone(image, lifted, given_maps)), expected, atol=1e-5, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(before=st.floats(0, 1), after=st.floats(0, 1.125))
def test_no_photo_loses_more_than_half_of_its_light(before, after):
    """Where it would, it is the photo and the toned one mixed; else the toned one. Each of a batch by itself."""
    image, toned = (picture() * 0.1 + 2 * before - 1).clamp(-1, 1), picture(seed=1) * 0.1 + 2 * after - 1
    other = torch.full_like(image, 0.3)
    mixed = keep_light(torch.cat([image, other]), torch.cat([toned, other]))
    torch.testing.assert_close(mixed[1:], other)
    least = LEAST_LIGHT * float(light(image).mean())
    if float(light(toned).mean()) >= least:
        torch.testing.assert_close(mixed[:1], toned)
    else:
        assert float(light(mixed[:1]).mean()) == pytest.approx(least, abs=1e-5)
        share = least / float(light(image).mean() - light(toned).mean())
        torch.testing.assert_close(mixed[:1], image + share * (toned - image), atol=1e-4, rtol=0)


@pytest.mark.parametrize("fuse", [False, True])
def test_nor_does_it_to_the_u_net(fuse):
    config = debug()
    model = RestoreVAR(replace(config, fidelity=FidelityConfig(width=8, tone=True, fuse=fuse))).eval()
    assert model.fidelity is not None
    torch.nn.init.constant_(model.fidelity.detail.bias, -1.5)  # all of it black
    image = picture(32, 32)
    left = float(light(model.restore(image, 1.0)).mean() / light(image).mean())
    assert LEAST_LIGHT <= left < LEAST_LIGHT + 0.1  # more than the least, for what is blacker than black is cut off


def test_maps_are_smooth_in_the_picture():
    """No cell of the view is to be seen as a block."""
    flat = torch.zeros(1, 3, 128, 128)
    steps = torch.zeros(1, 10, 8, 8)
    steps[:, 6:9, :, 4:] = 1.0
    row = apply_tone(flat, lift_veil(flat), steps)[0, 0, 64]
    assert row[-1] - row[0] == pytest.approx(2.0) and row.diff().abs().max() < 2.0 / 15


@settings(max_examples=25, deadline=None)
@given(high=st.integers(1, 80), wide=st.integers(1, 80), longest=st.sampled_from((48, 64, 96)))
def test_views_are_small_and_of_sides_that_the_network_takes(high, wide, longest):
    tone = ToneNet(width=4)
    view = tone.view(torch.zeros(1, 1, 8 * high, 8 * wide), longest)
    assert max(view.shape[-2:]) <= longest and not any(side % tone.unit for side in view.shape[-2:])
    wanted = min(1.0, longest / (8 * max(high, wide)))
    for side, seen in zip((8 * high, 8 * wide), view.shape[-2:], strict=True):
        assert abs(seen - side * wanted) <= max(tone.unit / 2, tone.unit - side * wanted)


def test_an_untrained_tone_changes_nothing_and_gives_a_value_for_each_cell():
    torch.manual_seed(0)
    tone = ToneNet(width=4)
    view = tone.view(picture(256, 192), 64)
    lifted = lift_veil(picture(256, 192))
    found = tone(view, tone.view(lifted, 64), darkest(picture(256, 192)))
    assert view.shape[-2:] == (64, 48) and found.shape == (1, 10, 16, 12) and not found.any()


@settings(max_examples=40, deadline=None)
@given(height=st.sampled_from((32, 64, 96)), seed=st.integers(0, 999))
def test_a_step_of_training_looks_at_the_same_part_of_each_view(height, seed):
    dice = torch.rand(5, generator=torch.Generator().manual_seed(seed))
    across = torch.linspace(0, 1, 96).expand(2, 3, height, 96)
    down = torch.linspace(0, 1, height)[:, None].expand(2, 4, height, 96)
    first, second, third = glimpses(ToneNet(width=4), [across, across[:, :1], down], dice)
    assert first.shape[-2:] == third.shape[-2:] and first.shape[-1] in (48, 64, 80, 96, 32)
    assert torch.equal(first[:, :1], second)
    step = first[0, 0, 0].diff().mean()
    assert (step < 0) == bool(dice[4] < 0.5) and (third.diff(dim=-2) > 0).all()
    assert LEAST_PART - 0.1 < abs(float(step)) * first.shape[-1] <= 1.05


class Told(ToneNet):
    """Says of each view what it is told, of both images of a batch and of their parts."""

    def __init__(self, *first: float):
        super().__init__(width=4)
        self.first, self.second = list(first), 0.5

    def forward(self, view_B3hw, lifted_B4hw, darkest_BE):
        high, wide = (side // self.patch for side in view_B3hw.shape[-2:])
        both = torch.tensor([self.first.pop(0), self.second]).repeat(5)
        return both.view(10, 1, 1, 1).expand(-1, 10, high, wide)


@pytest.mark.parametrize(
    "said, taken",
    [((0.4,) * 4, 0.4), ((0.5, 0.7) * 2, 0.6 * (1 - 0.01 / 0.36)), ((1.0, -1.0, 1.2, -1.0), 0.0)],
    ids=["agreed", "nearly", "not at all"],
)
def test_in_use_views_count_as_far_as_they_agree_each_photo_by_itself(said, taken):
    image = picture(256, 192).expand(2, -1, -1, -1)
    maps = Told(*said).look(image, lift_veil(image))
    assert maps.shape == (2, 10, 27, 18) and len(VIEWS) == len(said)  # cells of parts of 24 and 16
    torch.testing.assert_close(maps[0], torch.full_like(maps[0], taken), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(maps[1], torch.full_like(maps[1], 0.5))


class Seeing(ToneNet):
    """Says of each cell how light it is."""

    def forward(self, view_B3hw, lifted_B4hw, darkest_BE):
        return torch.nn.functional.avg_pool2d(view_B3hw[:, :1], self.patch).expand(-1, 10, -1, -1) / 2 + 0.5


@settings(max_examples=20, deadline=None)
@given(height=st.integers(3, 40), width=st.integers(3, 40))
def test_parts_are_looked_at_where_they_lie_and_their_maps_put_there(height, width):
    """What is as light as it is far to the right and down, in any shape, is told so."""
    high, wide = 32 * height, 32 * width
    down, across = torch.linspace(0, 1, high)[:, None], torch.linspace(0, 1, wide)
    image = (1 + down + across).expand(1, 3, high, wide) / 3
    maps = Seeing(width=4).look(image, lift_veil(image))
    rows, columns = ((torch.arange(side) + 0.5) / side for side in maps.shape[-2:])
    expected = (1 + rows[:, None] + columns) / 6 + 0.5
    # Views are in cells, the corners of which are not quite where those of the image are.
    torch.testing.assert_close(maps[0, 0], expected, atol=0.03, rtol=0)


def test_what_is_said_of_a_corner_counts_there_and_what_one_says_alone_hardly():
    level = torch.ones(1, 10, 8, 16)
    torch.testing.assert_close(_joined(level, [level] * 4), torch.ones(1, 10, 9, 18))
    one = _joined(level, [level, 1.5 * level, level, level])
    assert one.shape == (1, 10, 9, 18) and one.max() == one[0, 0, 0, -1]
    torch.testing.assert_close(one[0, 0, :, 0], one[0, 0, -1, :1].expand(9))  # where the corner is not seen
    assert float(one[0, 0, 0, -1] / one[0, 0, 0, 0]) == pytest.approx(1.4)  # there it is four fifths
    assert 0.95 < float(one[0, 0, 0, 0]) < 1  # shrunken a little, for they differ
    assert not _joined(level, [level, -level, -level, level]).any()


def test_the_darkest_cells_tell_haze_from_something_pale():
    """What is black may be small: a view averages it away."""
    pale = picture(256, 192) * 0.1 + 0.5
    pale[..., 16:32, 16:32] = -1
    hazy = (pale - 1) * 0.6 + 1
    seen = darkest(torch.cat([pale, hazy]))
    assert seen.shape == (2, len(RANKS))
    assert seen[0, 0] == -1 and seen[1, 0] == pytest.approx(4 * 0.4**0.5 - 1, abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40))
def test_the_darkest_cells_are_in_order_at_any_size(height, width):
    seen = darkest(picture(height, width))
    assert (seen.diff() >= 0).all() and seen.min() >= -1 and seen.max() <= 3


def test_a_tone_can_heed_the_darkest_cells():
    torch.manual_seed(0)
    tone, image = ToneNet(width=4), picture(96, 64)
    lifted = lift_veil(image)
    with torch.no_grad():
        for layer in (tone.from_darkest, tone.maps):
            torch.nn.init.normal_(layer.weight, std=0.5)
    view, seen = tone.view(image, 64), tone.view(lifted, 64)
    first, second = (tone(view, seen, torch.full((1, len(RANKS)), value)) for value in (-1.0, 1.0))
    assert (first - second).abs().mean() > 0.01


def test_in_some_photos_of_training_something_black_is_near():
    seen = torch.ones(2, len(RANKS))
    changed = with_others(seen, torch.tensor([[0.3, 0.25, 0.0, 0.0], [0.2, 0.25, 0.0, 0.0]]))
    assert torch.equal(changed[0], seen[0])
    assert changed[1].tolist() == [-0.5] * 3 + [1] * 2
