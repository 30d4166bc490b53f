"""Contracts between the networks, on tiny random models."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restorevar.models import RestoreVAR, RestoreVARConfig, ScaleSchedule
from restorevar.models.attention import KVCache
from restorevar.models.config import PRESETS, TransformerConfig, VQVAEConfig, debug
from restorevar.models.fidelity import CALM, FidelityBranch, Shown
from restorevar.models.focus import passed
from restorevar.models.rope import apply_rope, rope_table
from restorevar.models.veil import lift_veil

sizes = st.integers(1, 6).map(lambda n: 8 * n)


def image(height, width, batch=1, seed=0):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@settings(max_examples=15, deadline=None)
@given(height=sizes, width=sizes)
def test_restore_keeps_shape_and_range_for_any_window(height, width):
    torch.manual_seed(0)
    restored = RestoreVAR(debug()).eval().restore(image(height, width))
    assert restored.shape == (1, 3, height, width) and restored.dtype == torch.float32
    assert restored.abs().max() <= 1 and torch.isfinite(restored).all()


@pytest.mark.parametrize("size", [(32, 32), (48, 24), (8, 8)])
def test_rollout_steps_equal_teacher_forcing(tiny, size):
    """Mask, cache, rotary offsets and reuse of the condition's keys agree between training and rollout."""
    condition = tiny.vqvae.encode_condition(image(*size, batch=2))
    tokens = tiny.vqvae.tokenize(image(*size, batch=2, seed=1))
    quantizer, grid = tiny.vqvae.quantizer, condition.shape[-2:]
    teacher = quantizer.teacher_forcing_input(tokens, tuple(grid))
    logits_BLV, hidden_BLD = tiny.transformer(teacher, condition)
    rollout = tiny.transformer.begin(condition)
    f_hat = quantizer.zeros(2, rollout.grid)
    steps = []
    for k, tokens_Bl in enumerate(tokens):
        steps.append(tiny.transformer.step(k, quantizer.next_input(k, f_hat) if k else None, rollout))
        f_hat = quantizer.accumulate(k, f_hat, tokens_Bl)
    torch.testing.assert_close(torch.cat([s[0] for s in steps], 1), logits_BLV, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(torch.cat([s[1] for s in steps], 1), hidden_BLD, atol=1e-5, rtol=1e-4)


def test_accumulate_equals_decode(tiny):
    tokens = tiny.vqvae.tokenize(image(32, 48))
    f_hat = tiny.vqvae.quantizer.zeros(1, (4, 6))
    for k, tokens_Bl in enumerate(tokens):
        f_hat = tiny.vqvae.quantizer.accumulate(k, f_hat, tokens_Bl)
    assert torch.equal(f_hat, tiny.vqvae.quantizer.decode(tokens, (4, 6)))


def test_training_quantizer_chooses_the_same_tokens(tiny):
    latent = tiny.vqvae.encode(image(32, 32, batch=2))
    quantized = tiny.vqvae.quantizer(latent)
    for a, b in zip(quantized.tokens, tiny.vqvae.quantizer.tokenize(latent), strict=True):
        assert torch.equal(a, b)
    torch.testing.assert_close(
        quantized.latent_BCHW, tiny.vqvae.quantizer.decode(quantized.tokens, (4, 4)), atol=1e-6, rtol=1e-5
    )


def test_quantizer_gradients_reach_codebook_and_encoder(tiny):
    latent = torch.randn(1, 8, 4, 4, requires_grad=True)
    quantizer = tiny.vqvae.quantizer.requires_grad_(True)
    quantized = quantizer(latent)
    (quantized.loss + quantized.latent_BCHW.sum()).backward()
    assert quantizer.codebook.weight.grad.abs().sum() > 0
    assert torch.isfinite(latent.grad).all() and latent.grad.abs().sum() > 0


def test_batch_of_two_equals_two_singles(tiny):
    pair = image(32, 40, batch=2)
    together = tiny.restore(pair)
    for i in range(2):
        torch.testing.assert_close(tiny.restore(pair[i : i + 1])[0], together[i], atol=1e-5, rtol=1e-4)


def test_scales_are_reported_in_order_and_the_last_is_the_result(tiny):
    events = []
    condition = tiny.vqvae.encode_condition(image(32, 32))
    f_hat, _ = tiny.generate(condition, events.append)
    assert [event.scale for event in events] == list(range(4)) and events[0].scales == 4
    assert torch.equal(events[-1].f_hat_BCHW, f_hat)
    assert [event.tokens_Bl.shape[1] for event in events] == [1, 4, 9, 16]
    assert all(torch.equal(e.logits_BlV.argmax(-1), e.tokens_Bl) for e in events)


def test_restored_depends_on_every_part(tiny):
    """A part that is not wired in would go unnoticed by shape tests."""
    degraded = image(32, 32)
    reference = tiny.restore(degraded)
    for part in ("vqvae.encoder", "vqvae.decoder", "vqvae.quantizer", "transformer", "refiner", "fidelity"):
        parameter = next(p for p in tiny.get_submodule(part).parameters() if p.ndim > 1)
        saved = parameter.clone()
        parameter.copy_(parameter.flip(0) * 1.7)
        assert not torch.equal(tiny.restore(degraded), reference), part
        parameter.copy_(saved)


def test_fidelity_zero_is_the_papers_path(tiny):
    degraded = image(32, 32)
    f_hat, hidden = tiny.generate(tiny.vqvae.encode_condition(degraded))
    plain = tiny.vqvae.decode(tiny.refine(f_hat, hidden))
    assert torch.equal(tiny.restore(degraded, fidelity=0.0), plain)
    assert not torch.equal(tiny.restore(degraded, fidelity=1.0), plain)
    assert torch.equal(tiny.restore(degraded), tiny.restore(degraded, fidelity=1.0))  # the debug model's default


def test_new_fidelity_branch_keeps_the_input():
    """Training starts from the degraded image at W = 1; in between, from a blend."""
    torch.manual_seed(0)
    model = RestoreVAR(debug()).eval()
    degraded = image(32, 32)
    torch.testing.assert_close(model.restore(degraded, fidelity=1.0), degraded)
    half = (degraded + model.restore(degraded, fidelity=0.0)) / 2
    torch.testing.assert_close(model.restore(degraded, fidelity=0.5), half, atol=0.02, rtol=0)


def test_the_branch_follows_the_restored_latent_where_it_is_shown(tiny):
    """Not at first: what it has learned by itself is kept until it learns better."""
    model = copy.deepcopy(tiny)
    torch.nn.init.normal_(model.fidelity.detail.weight)
    for block in model.fidelity.middle:
        torch.nn.init.normal_(block.project1.scale)
    degraded, latent = image(32, 32), torch.randn(1, 8, 4, 4)
    torch.nn.init.zeros_(model.fidelity.from_latent.weight)
    with torch.inference_mode():
        blind = model.fidelity.alone(model.fidelity.show(degraded), latent)
        assert torch.equal(blind, model.fidelity.alone(model.fidelity.show(degraded), -latent))
        torch.nn.init.normal_(model.fidelity.from_latent.weight)
        assert not torch.equal(
            model.fidelity.alone(model.fidelity.show(degraded), latent),
            model.fidelity.alone(model.fidelity.show(degraded), -latent),
        )


def shown_the_veil() -> RestoreVAR:
    torch.manual_seed(0)
    config = debug()
    assert config.fidelity is not None
    return RestoreVAR(
        replace(config, fidelity=replace(config.fidelity, fuse=False, dark_channel=True, tone=True, focus=True))
    )


def hazy(height: int, width: int) -> torch.Tensor:
    return 0.3 * image(height, width) + 0.5


def test_what_the_branch_may_take_changes_nothing_at_first():
    """Weights from before these parts can go on: until they have learned, the picture is the one without them."""
    model = shown_the_veil()
    branch = model.fidelity
    torch.nn.init.normal_(branch.detail.weight, std=0.05)
    plain = FidelityBranch(
        replace(model.config.fidelity, dark_channel=False, tone=False, focus=False), model.config.vqvae
    )
    plain.load_state_dict(branch.state_dict(), strict=False)
    degraded, latent = hazy(32, 48), torch.randn(1, 8, 4, 6)
    with torch.inference_mode():
        pictures = [b.restore(degraded, latent, 1.0, model.vqvae.decode_unclamped) for b in (branch, plain)]
    torch.testing.assert_close(*pictures, atol=1e-6, rtol=0)
    new = branch.state_dict().keys() - plain.state_dict().keys()
    added = {"from_lifted", "lifts", "tone", "from_degraded", "returns", "focus"}
    assert {name.split(".")[0] for name in new} == added


def test_the_branch_may_take_what_lies_behind_the_veil():
    model = shown_the_veil()
    branch, degraded, latent = model.fidelity, hazy(32, 48), torch.randn(1, 8, 4, 6)
    with torch.inference_mode():
        torch.nn.init.constant_(branch.lifts.bias, 1 / CALM)
        torch.testing.assert_close(
            branch.alone(branch.show(degraded), latent), lift_veil(degraded)[:, :3], atol=1e-6, rtol=0
        )
        torch.nn.init.constant_(branch.lifts.bias, 0.5 / CALM)
        half = (degraded + lift_veil(degraded)[:, :3]) / 2
        torch.testing.assert_close(branch.alone(branch.show(degraded), latent), half, atol=1e-6, rtol=0)


def test_the_branch_sees_and_adds_to_the_toned_picture():
    model = shown_the_veil()
    branch, degraded, latent = model.fidelity, image(32, 48), torch.randn(1, 8, 4, 6)
    with torch.inference_mode():
        torch.nn.init.constant_(branch.detail.bias, 0.1)
        branch.tone.maps.bias[6:9] = 0.05  # an offset, of light in [0, 1]
        picture = branch.restore(degraded, latent, 1.0, model.vqvae.decode_unclamped)
        torch.testing.assert_close(picture, degraded + 0.1 + 0.1, atol=1e-5, rtol=0)
        torch.testing.assert_close(model.restore(degraded, fidelity=0.0), model.vqvae.decode(refined(model, degraded)))


@pytest.mark.parametrize("fuse", [False, True])
def test_the_branch_sharpens_its_picture_last(fuse):
    model = shown_the_veil()
    model = RestoreVAR(replace(model.config, fidelity=replace(model.config.fidelity, fuse=fuse))).eval()
    branch, degraded, latent = model.fidelity, image(32, 48), torch.randn(1, 8, 4, 6)
    gains = torch.linspace(-0.5, 0.2, 24)[None, :, None].expand(1, 24, 24)
    with torch.inference_mode():
        torch.nn.init.constant_(branch.detail.bias, 0.1)
        before, decoded = (branch.restore(degraded, latent, w, model.vqvae.decode_unclamped) for w in (1.0, 0.0))
        branch.focus.gains.bias.copy_(gains[0, :, 0])
        after, half = (branch.restore(degraded, latent, w, model.vqvae.decode_unclamped) for w in (1.0, 0.5))
    torch.testing.assert_close(after, before + passed(before, gains), atol=1e-5, rtol=0)
    torch.testing.assert_close(half, (after + decoded) / 2, atol=1e-5, rtol=0)


def refined(model, degraded):
    return model.refine(*model.generate(model.condition(degraded)))


def test_the_branch_may_go_back_from_a_mistaken_tone():
    model = shown_the_veil()
    branch, degraded, latent = model.fidelity, image(32, 48), torch.randn(1, 8, 4, 6)
    with torch.inference_mode():
        branch.tone.maps.bias[6:9] = 0.3
        assert (branch.alone(branch.show(degraded), latent) - degraded).min() > 0.2
        torch.nn.init.constant_(branch.returns.bias, 1 / CALM)
        torch.testing.assert_close(branch.alone(branch.show(degraded), latent), degraded, atol=1e-5, rtol=0)


def test_a_part_may_be_restored_by_the_veil_of_its_whole_photo():
    """The air of a part without sky is not to be seen in it."""
    model = shown_the_veil()
    branch, latent = model.fidelity, torch.randn(1, 8, 4, 8)
    degraded = hazy(64, 64)
    degraded[..., :32, :] = 0.9
    lower = (..., slice(32, 64), slice(None))
    with torch.inference_mode():
        torch.nn.init.constant_(branch.lifts.bias, 1 / CALM)
        whole = branch.show(degraded)
        part = Shown(whole.degraded_B3HW[lower], whole.toned_B3HW[lower], whole.lifted_B4HW[lower])
        restored = branch.alone(part, latent)
        torch.testing.assert_close(restored, lift_veil(degraded)[lower][:, :3], atol=1e-6, rtol=0)
        assert not torch.allclose(branch.alone(branch.show(degraded[lower]), latent), restored, atol=0.05)


def test_with_fusions_too_the_branch_takes_what_it_may():
    config = replace(shown_the_veil().config.fidelity, fuse=True)
    torch.manual_seed(0)
    model = RestoreVAR(replace(debug(), fidelity=config)).eval()
    degraded, latent = hazy(32, 48), torch.randn(1, 8, 4, 6)
    with torch.inference_mode():
        torch.nn.init.constant_(model.fidelity.lifts.bias, 1 / CALM)
        taken = model.decode_unclamped(latent, degraded, 1.0)
        torch.testing.assert_close(taken, lift_veil(degraded)[:, :3], atol=1e-5, rtol=0)


def test_a_branch_that_leaves_the_decoder_alone_makes_the_picture_by_itself(tiny):
    model = copy.deepcopy(tiny)
    torch.nn.init.normal_(model.fidelity.detail.weight, std=0.05)
    degraded, latent = image(32, 32), torch.randn(1, 8, 4, 4)
    with torch.inference_mode():
        shown = model.fidelity.show(degraded)
        alone = model.fidelity.finished(model.fidelity.alone(shown, latent), shown)
        assert not torch.allclose(model.decode_unclamped(latent, degraded, 1.0), alone, atol=1e-3)
        model.fidelity.leave_decoder_alone()
        torch.testing.assert_close(model.decode_unclamped(latent, degraded, 1.0), alone, atol=1e-5, rtol=0)
        half = (alone + model.decode_unclamped(latent, degraded, 0.0)) / 2
        torch.testing.assert_close(model.decode_unclamped(latent, degraded, 0.5), half, atol=1e-5, rtol=0)


def test_a_part_takes_the_tone_that_it_is_told(tiny):
    degraded = image(64, 64)
    own = tiny.look(degraded)
    assert own.shape[:2] == (1, 10)
    told = tiny.restore(degraded, maps_B10hw=own + 0.3)
    assert not torch.allclose(told, tiny.restore(degraded, maps_B10hw=own), atol=0.01)
    assert torch.equal(tiny.restore(degraded, fidelity=0.0, maps_B10hw=own), tiny.restore(degraded, fidelity=0.0))
    for stranger, size, cause in (
        (tiny, 60, "multiples of"),
        (RestoreVAR(replace(debug(), fidelity=None)), 64, "no tone"),
    ):
        with pytest.raises(ValueError, match=cause):
            stranger.look(image(size, size))


def test_without_fusions_two_pictures_are_mixed_and_only_those_that_are_needed_are_made(tiny):
    config = replace(debug(), fidelity=replace(debug().fidelity, fuse=False))
    model = RestoreVAR(config).eval()
    torch.nn.init.normal_(model.fidelity.detail.weight, std=0.05)
    assert not any("fusions" in name or "to_image" in name for name in model.state_dict())
    degraded, latent = image(32, 32), torch.randn(1, 8, 4, 4)
    decoded_times = []
    model.vqvae.decoder.register_forward_hook(lambda *_: decoded_times.append(1))
    with torch.inference_mode():
        at_1 = model.decode_unclamped(latent, degraded, 1.0)
        assert torch.equal(at_1, model.fidelity.alone(model.fidelity.show(degraded), latent)) and not decoded_times
        at_0 = model.decode_unclamped(latent, degraded, 0.0)
        assert torch.equal(at_0, model.vqvae.decode_unclamped(latent))
        mixed = model.decode_unclamped(latent, degraded, 0.25)
        torch.testing.assert_close(mixed, 0.75 * at_0 + 0.25 * at_1)


@pytest.mark.parametrize("fidelity", [-0.1, 1.5])
def test_fidelity_out_of_range_is_refused(tiny, fidelity):
    with pytest.raises(ValueError, match="between 0 and 1"):
        tiny.restore(image(32, 32), fidelity=fidelity)


def test_impossible_shapes_are_refused_with_a_sentence(tiny, official):
    with pytest.raises(ValueError, match="multiples of 8"):
        tiny.restore(image(30, 32))
    with pytest.raises(ValueError, match="expected images"):
        tiny.restore(torch.zeros(3, 32, 32))
    from restorevar.official_weights import load_official

    published = load_official(official["vae"], official["var"])
    with pytest.raises(ValueError, match="64x64"):
        published.restore(image(32, 64))
    with pytest.raises(ValueError, match="no fidelity branch"):
        published.restore(image(64, 64), fidelity=0.5)


def test_stochastic_depth_only_in_training():
    torch.manual_seed(0)
    values = debug().to_dict()
    values["transformer"]["drop_path"] = 0.9
    model = RestoreVAR(RestoreVARConfig.from_dict(values))
    teacher, condition = torch.randn(32, 29, 8), torch.randn(32, 8, 4, 4)  # enough that two draws differ
    model.eval()
    assert torch.equal(model.transformer(teacher, condition)[1], model.transformer(teacher, condition)[1])
    model.train()
    assert not torch.equal(model.transformer(teacher, condition)[1], model.transformer(teacher, condition)[1])


def test_later_scales_cannot_be_seen():
    torch.manual_seed(0)
    model = RestoreVAR(debug()).eval()
    teacher, condition = torch.randn(1, 29, 8), torch.randn(1, 8, 4, 4)
    before = model.transformer(teacher, condition)[0]
    teacher[:, 13:] += 1  # inputs of the last scale
    after = model.transformer(teacher, condition)[0]
    assert torch.equal(before[:, :14], after[:, :14]) and not torch.equal(before[:, 14:], after[:, 14:])


@pytest.mark.parametrize("name", PRESETS)
def test_config_there_and_back_through_json(name):
    config = PRESETS[name]()
    assert RestoreVARConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_impossible_configs_are_refused():
    for make in (
        lambda: ScaleSchedule((1,)),
        lambda: ScaleSchedule((2, 2)),
        lambda: ScaleSchedule((0, 1)),
        lambda: VQVAEConfig(widths=(33,)),
        lambda: VQVAEConfig(widths=()),
        lambda: TransformerConfig(width=100, heads=16),
        lambda: RestoreVARConfig.from_dict({"surprise": 1}),
        lambda: RestoreVARConfig.from_dict({"refiner": {"surprise": 1}}),
    ):
        with pytest.raises(ValueError):
            make()


@given(st.integers(1, 100), st.integers(1, 100))
def test_schedule_of_any_window(height, width):
    scales = ScaleSchedule()
    grids = scales.grids((height, width))
    assert len(grids) == 10 and grids[-1] == (height, width)
    assert all(1 <= a <= b for g, n in pairwise(grids) for a, b in zip(g, n, strict=True))
    assert scales.length((height, width)) == sum(h * w for h, w in grids) == scales.bounds((height, width))[-1][1]


def test_native_schedule_is_the_papers():
    scales = ScaleSchedule()
    assert scales.length() == 2240
    assert scales.grids() == [(s, s) for s in (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)]
    assert PRESETS["paper"]().window == 512 and PRESETS["compact"]().window == 512


def test_rope_depends_on_distance_only():
    table = rope_table(((8, 8),), (8, 8), 16, 10000.0, torch.device("cpu"))
    q, k = torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)
    turned_q = apply_rope(q.expand(1, 1, 64, 16), table)[0, 0]
    turned_k = apply_rope(k.expand(1, 1, 64, 16), table)[0, 0]
    score = turned_q @ turned_k.T
    torch.testing.assert_close(score[0, 9], score[18, 27])  # one down, one right, from two places
    torch.testing.assert_close(turned_q.norm(dim=-1), q.norm().expand(64))


def test_cache_views_grow():
    cache = KVCache(1, 2, 5, 4, torch.zeros(1))
    first = torch.ones(1, 2, 2, 4)
    assert cache.append(first, first)[0].shape[2] == 2
    k, v = cache.append(first[:, :, :1] * 3, first[:, :, :1])
    assert k.shape[2] == 3 and k[0, 0, :, 0].tolist() == [1, 1, 3] and v.shape == k.shape


@torch.no_grad()
def test_identity_start_repeats_the_input():
    """Before any training the rollout is nearly what quantizing the degraded latent gives."""
    torch.manual_seed(0)
    model = RestoreVAR(debug()).eval()
    vqvae = model.vqvae
    degraded = image(32, 48, batch=4)
    vqvae.quant_conv.weight.div_(vqvae.encode(degraded).std())  # a trained latent has about unit variance
    latent = vqvae.encode(degraded)
    vqvae.quantizer.codebook.weight.copy_(latent.permute(0, 2, 3, 1).flatten(0, 2)[:32])  # codes that fit
    best = (vqvae.quantizer.decode(vqvae.tokenize(degraded), (4, 6)) - latent).square().mean()

    def error() -> float:
        f_hat, _ = model.generate(vqvae.encode_condition(degraded))
        return (f_hat - latent).square().mean()

    from_noise = error()
    model.transformer.start_as_identity(vqvae.quant_conv, vqvae.quantizer.codebook.weight)
    assert error() < 0.3 * from_noise and error() < 4 * best


def test_expected_rollout_of_a_sure_transformer_is_the_argmax_rollout(tiny):
    """The published rule is the limit of a transformer without doubt; the tokens reported are its argmax."""
    condition = tiny.vqvae.encode_condition(image(32, 32))
    tiny.transformer.head.weight.mul_(1e7)
    argmax, _ = tiny.generate(condition)
    values = tiny.config.to_dict() | {"rollout": "expected"}
    expected = RestoreVAR(RestoreVARConfig.from_dict(values)).eval().requires_grad_(False)
    expected.load_state_dict(tiny.state_dict())
    torch.testing.assert_close(expected.generate(condition)[0], argmax, atol=1e-4, rtol=1e-4)
    expected.transformer.head.weight.mul_(1e-7)
    assert not torch.allclose(expected.generate(condition)[0], argmax)
    with pytest.raises(ValueError, match="rollout"):
        RestoreVARConfig.from_dict(values | {"rollout": "surprise"})
