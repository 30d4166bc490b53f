"""The veil and what lies behind it, on pictures of which both are known."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from restorevar.models.config import VEIL_CELL
from restorevar.models.veil import LEAST, _without_blots, _without_grain, lift_veil


def scene(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """(1, 3, H, W) in [0, 1]: saturated colours in squares of 8 pixels, so that somewhere near all is dark in one."""
    generator = torch.Generator().manual_seed(seed)
    colours = torch.rand(1, 3, -(-height // 8), -(-width // 8), generator=generator)
    colours = (colours - colours.amin(1, keepdim=True)) * 0.9
    return colours.repeat_interleave(8, 2).repeat_interleave(8, 3)[..., :height, :width]


def model_range(image: torch.Tensor) -> torch.Tensor:
    return image * 2 - 1


@pytest.mark.parametrize("through", [0.3, 0.6])
def test_even_haze_is_lifted(through):
    """Koschmieder's law backwards, where the air is to be seen in one corner."""
    clean, air = scene(96, 128), torch.tensor([0.9, 0.85, 0.8])[None, :, None, None]
    haze = clean * through + air * (1 - through)
    haze[..., :32, :32] = air
    lifted = (lift_veil(model_range(haze)) + 1) / 2
    far = (..., slice(64, 96), slice(64, 128))
    # A twentieth of the veil is left on purpose.
    left = 1 - 0.95 * (1 - through)
    found = lifted[:, 3:] * 2 - 1
    torch.testing.assert_close(found[far], torch.full_like(found[far], left), atol=0.03, rtol=0)
    before, after = ((x[far] - clean[far]).abs().mean() for x in (haze, lifted[:, :3]))
    assert after < 0.2 * before


def test_a_photo_without_veil_is_left_alone():
    clean = model_range(scene(96, 128))
    lifted = lift_veil(clean)
    torch.testing.assert_close(lifted[:, :3], clean, atol=0.02, rtol=0)
    assert lifted[:, 3:].min() > 0.98


def test_blocks_before_a_dense_veil_are_not_lifted_with_it():
    """Steps of one level of 255, as JPEG leaves them in even fog, stay what they are; edges of the scene are lifted."""
    blocks = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).round()
    blocks = (blocks.repeat_interleave(8, 2).repeat_interleave(8, 3) - 0.5) / 255
    fog = torch.full((1, 3, 128, 128), 0.7) + blocks
    fog[..., 88:, :] -= 0.3
    dense, clear = torch.full((1, 1, 128, 128), 0.1), torch.ones(1, 1, 128, 128)
    even = (..., slice(0, 64), slice(None))
    small = F.avg_pool2d(fog, VEIL_CELL)
    found = _without_grain(fog, small, dense)
    assert found[even].std() < 0.4 * blocks[even].std()
    torch.testing.assert_close(_without_grain(fog, small, clear), fog, atol=1e-3, rtol=0)
    edge = found[..., 88:, :].mean() - found[even].mean()
    assert edge == pytest.approx(-0.3, abs=0.01)


@pytest.mark.parametrize("through, levels, kept", [(0.1, 1, (0, 0.3)), (0.1, 25, (0.95, 1)), (1.0, 1, (0.99, 1))])
def test_a_trace_of_colour_in_dense_fog_is_none(through, levels, kept):
    """Lifted by ten, it would be a blot; what has a colour keeps it, and light is never changed."""
    colour = torch.tensor([1.0, -1.0, 0.0])[None, :, None, None].expand(1, 3, 8, 8) * levels / 255
    found = _without_blots(colour - 0.2, torch.full((1, 1, 8, 8), through))
    torch.testing.assert_close(found.mean(1), torch.full((1, 8, 8), -0.2))
    share = float((found[:, 0] - found[:, 1]).mean() / (colour[:, 0] - colour[:, 1]).mean())
    assert kept[0] <= share <= kept[1]


def test_each_photo_of_a_batch_has_air_of_its_own():
    photos = torch.cat([model_range(scene(64, 64, seed) * 0.5 + 0.2 * seed) for seed in range(3)])
    for i, lifted in enumerate(lift_veil(photos)):
        torch.testing.assert_close(lifted[None], lift_veil(photos[i : i + 1]), atol=1e-5, rtol=0)


@settings(max_examples=25, deadline=None)
@given(
    high=st.integers(1, 12),
    wide=st.integers(1, 12),
    low=st.floats(-1, 1),
    spread=st.floats(0, 2),
    seed=st.integers(0, 9),
)
def test_ranges_hold_for_any_picture(high, wide, low, spread, seed):
    picture = torch.rand(2, 3, 4 * high, 4 * wide, generator=torch.Generator().manual_seed(seed))
    lifted = lift_veil((low + spread * picture).clamp(-1, 1))
    assert lifted.shape == (2, 4, 4 * high, 4 * wide) and lifted.dtype == torch.float32
    assert lifted[:, :3].abs().max() <= 1 and lifted[:, 3].min() >= LEAST and lifted[:, 3].max() <= 1


def test_it_asks_for_no_gradient_and_takes_half_precision():
    picture = model_range(scene(32, 32)).requires_grad_()
    assert not lift_veil(picture).requires_grad
    assert lift_veil(picture.bfloat16()).dtype == torch.float32
