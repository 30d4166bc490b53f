"""The switches of the paper's ablations: each builds, restores, is saved and loaded, and does what it says."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from restorevar.acceleration import prepare
from restorevar.checkpoints import load_model, save_model
from restorevar.errors import UserError
from restorevar.models import RefinerConfig, RestoreVAR, RestoreVARConfig, ScaleSchedule, TransformerConfig, VQVAEConfig
from restorevar.models.config import debug, paper
from restorevar.models.diffusion_refiner import DiffusionRefiner
from restorevar.models.refiner import LatentRefiner, NoRefiner, build_refiner
from restorevar.official_weights import to_official


def ablated(transformer=None, refiner=None, **options) -> RestoreVARConfig:
    """The debug model with some options replaced."""
    config = debug()
    return replace(
        config,
        transformer=replace(config.transformer, **(transformer or {})),
        refiner=replace(config.refiner, **(refiner or {})),
        **options,
    )


ABLATIONS = {
    "discrete condition": ablated(condition="discrete"),
    "absolute positions": ablated(transformer={"positions": "absolute"}),
    "no refiner": ablated(refiner={"kind": "none"}),
    "diffusion refiner": ablated(refiner={"kind": "diffusion"}),
    "refiner without hidden": ablated(refiner={"hidden": False}),
    "learned refiner without hidden": ablated(refiner={"hidden": False, "positions": "learned"}),
}


@pytest.fixture(params=ABLATIONS)
def config(request) -> RestoreVARConfig:
    return ABLATIONS[request.param]


def build(config: RestoreVARConfig) -> RestoreVAR:
    """A model in which every gain, zero-initialised layer and measured scale is set to something."""
    torch.manual_seed(0)
    model = RestoreVAR(config).eval().requires_grad_(False)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point() and tensor.abs().sum() == 0:
            tensor.normal_(std=0.1)
    return model


def image(height, width, batch=1, seed=0):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_restores_the_same_each_time_alone_and_in_a_batch(config):
    model = build(config)
    pair = image(32, 32, batch=2)
    restored = model.restore(pair)
    assert restored.shape == pair.shape and torch.isfinite(restored).all()
    assert torch.equal(model.restore(pair), restored)
    # Rounding errors of 1e-5, which the focus sharpens like all else.
    torch.testing.assert_close(model.restore(pair[1:]), restored[1:], atol=3e-5, rtol=1e-4)


def test_differs_from_the_published_way(config):
    """The same weights wherever names agree, another result."""
    model, default = build(config), build(debug())
    model.load_state_dict(default.state_dict(), strict=False)
    degraded = image(32, 32)
    assert not torch.allclose(model.restore(degraded, fidelity=0.0), default.restore(degraded, fidelity=0.0))


def test_saved_and_loaded(config, tmp_path):
    model = build(config)
    assert RestoreVARConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    save_model(model, tmp_path)
    loaded = load_model(str(tmp_path)).model
    assert loaded.config == config
    for (key, a), (_, b) in zip(model.state_dict().items(), loaded.state_dict().items(), strict=True):
        assert torch.equal(a, b), key
    torch.testing.assert_close(loaded.restore(image(32, 32)), model.restore(image(32, 32)), atol=1e-5, rtol=1e-4)


def test_runs_in_half_precision(config):
    """Nearly the same with heavy parts in bf16: the measured scale and the sampling keep float32 arithmetic."""
    model = build(config)
    f_hat, hidden, _ = latents()
    refined = model.refine(f_hat, hidden)
    prepare(model, torch.device("cpu"), torch.bfloat16)
    half = model.refine(f_hat, hidden.bfloat16())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, refined, atol=0.05, rtol=0.05)
    assert torch.isfinite(model.restore(image(32, 32))).all()


@pytest.mark.parametrize("preset", [debug, paper])
def test_configs_from_before_the_switches_are_the_published_way(preset):
    values = preset().to_dict()
    del values["condition"], values["transformer"]["positions"]
    for name in ("kind", "hidden", "steps"):
        del values["refiner"][name]
    assert RestoreVARConfig.from_dict(json.loads(json.dumps(values))) == preset()


@pytest.mark.parametrize(
    ("match", "make"),
    [
        ("condition: one of continuous, discrete, not 'both'", lambda: ablated(condition="both")),
        ("transformer positions: one of", lambda: ablated(transformer={"positions": "learned"})),
        ("refiner kind: one of", lambda: ablated(refiner={"kind": "gan"})),
        ("refiner positions: one of", lambda: ablated(refiner={"positions": "absolute"})),
        ("without hidden states, not 'diffusion'", lambda: ablated(refiner={"kind": "diffusion", "hidden": False})),
        ("without hidden states, not 'none'", lambda: ablated(refiner={"kind": "none", "hidden": False})),
        ("1 to 1000 steps", lambda: ablated(refiner={"kind": "diffusion", "steps": 0})),
        ("divisible by 4", lambda: ablated(refiner={"width": 12, "heads": 2})),
    ],
)
def test_impossible_choices_are_refused(match, make):
    with pytest.raises(ValueError, match=match):
        make()


def test_discrete_condition_is_the_quantized_latent():
    model = build(ABLATIONS["discrete condition"])
    degraded = image(32, 40, batch=2)
    tokens = model.vqvae.tokenize(degraded)
    expected = model.vqvae.quantizer.decode(tokens, (4, 5))
    assert torch.equal(model.condition(degraded), expected)
    assert torch.equal(build(debug()).condition(degraded), model.vqvae.encode_condition(degraded))


@torch.no_grad()
@pytest.mark.parametrize("name", ["discrete condition", "absolute positions"])
def test_identity_start_repeats_the_input(name):
    """Also where the condition is in the codes' space already, and where tokens carry their positions."""
    torch.manual_seed(0)
    model = RestoreVAR(ABLATIONS[name]).eval()
    vqvae, degraded = model.vqvae, image(32, 32, batch=4)
    vqvae.quant_conv.weight.div_(vqvae.encode(degraded).std())  # a trained latent has about unit variance
    latent = vqvae.encode(degraded)
    vqvae.quantizer.codebook.weight.copy_(latent.permute(0, 2, 3, 1).flatten(0, 2)[:32])  # codes that fit
    quantized = vqvae.quantizer.decode(vqvae.tokenize(degraded), (4, 4))

    def error() -> float:
        return float((model.generate(model.condition(degraded))[0] - quantized).square().mean())

    from_noise = error()
    model.start_as_identity()
    assert error() < 0.3 * from_noise


def test_absolute_positions_in_rollout_and_teacher_forcing():
    model = build(ABLATIONS["absolute positions"])
    condition, tokens = model.condition(image(32, 32, batch=2)), model.vqvae.tokenize(image(32, 32, batch=2, seed=1))
    quantizer = model.vqvae.quantizer
    logits_BLV, hidden_BLD = model.transformer(quantizer.teacher_forcing_input(tokens, (4, 4)), condition)
    rollout, f_hat = model.transformer.begin(condition), quantizer.zeros(2, (4, 4))
    steps = []
    for k, tokens_Bl in enumerate(tokens):
        steps.append(model.transformer.step(k, quantizer.next_input(k, f_hat) if k else None, rollout))
        f_hat = quantizer.accumulate(k, f_hat, tokens_Bl)
    torch.testing.assert_close(torch.cat([s[0] for s in steps], 1), logits_BLV, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(torch.cat([s[1] for s in steps], 1), hidden_BLD, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("table", ["positions", "positions_condition"])
def test_absolute_positions_tell_tokens_apart(table):
    """One vector per token, of the sequence and of the condition; no rotary turn left that could do it."""
    model = build(ABLATIONS["absolute positions"])
    teacher, condition = torch.zeros(1, 29, 8), torch.randn(1, 8, 4, 4)
    before = model.transformer(teacher, condition)[1]
    getattr(model.transformer, table).zero_()
    assert not torch.allclose(model.transformer(teacher, condition)[1], before)
    model.transformer.positions.zero_()
    model.transformer.aligned_embed.weight.zero_()
    last = model.transformer(teacher, condition)[1][:, 14:]
    torch.testing.assert_close(last, last[:, :1].expand_as(last), atol=1e-5, rtol=1e-4)


def test_absolute_positions_fix_the_window():
    model = build(ABLATIONS["absolute positions"])
    assert not model.config.any_window and debug().any_window
    with pytest.raises(ValueError, match="32x32"):
        model.restore(image(32, 40))
    for call in (model.transformer.begin, lambda condition: model.transformer(torch.zeros(1, 40, 8), condition)):
        with pytest.raises(ValueError, match=r"learned positions for \(4, 4\), not \(4, 5\)"):
            call(torch.zeros(1, 8, 4, 5))


@pytest.mark.parametrize(("kind", "any_window"), [("lrt", False), ("none", True), ("diffusion", True)])
def test_learned_refiner_positions_matter_where_there_are_any(kind, any_window):
    config = ablated(refiner={"kind": kind, "positions": "learned"})
    assert config.any_window == any_window
    if any_window:
        assert build(config).restore(image(40, 24)).shape == (1, 3, 40, 24)


def test_parameters_of_table_4():
    rows = {
        "none": (RefinerConfig(kind="none"), 0.0),
        "diffusion": (RefinerConfig(kind="diffusion", depth=6, width=1024), 36.06),
        "without hidden": (RefinerConfig(hidden=False), 14.61),
        "lrt": (RefinerConfig(), 22.97),
    }
    for name, (config, millions) in rows.items():
        with torch.device("meta"):
            refiner = build_refiner(config, ScaleSchedule(), latent_channels=32, hidden_width=1024)
        assert round(sum(p.numel() for p in refiner.parameters()) / 1e6, 2) == millions, name


def latents(batch=4):
    generator = torch.Generator().manual_seed(0)
    f_hat = torch.randn(batch, 8, 4, 4, generator=generator)
    hidden = torch.randn(batch, 30, 32, generator=generator)
    return f_hat, hidden, f_hat + 0.3 * torch.randn(batch, 8, 4, 4, generator=generator)


def test_no_refiner_keeps_the_latent():
    model = build(ABLATIONS["no refiner"])
    f_hat, hidden, target = latents()
    assert isinstance(model.refiner, NoRefiner) and model.count_parameters()["refiner"] == 0
    assert torch.equal(model.refine(f_hat, hidden), f_hat)
    assert model.refiner.loss(f_hat, hidden, target) == 0


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("uses_hidden", [True, False])
def test_refiner_reads_hidden_states_only_where_it_should(positions, uses_hidden):
    model = build(ablated(refiner={"hidden": uses_hidden, "positions": positions}))
    f_hat, hidden, target = latents()
    assert isinstance(model.refiner, LatentRefiner)
    changed = (model.refine(f_hat, hidden) - model.refine(f_hat, hidden.flip(-1))).abs().max()
    assert changed > 1e-3 if uses_hidden else changed == 0
    assert any("hidden" in name or "cross" in name for name in model.refiner.state_dict()) == uses_hidden
    assert model.refiner.loss(f_hat, hidden, target) == (model.refine(f_hat, hidden) - target).abs().mean()


def test_diffusion_refiner_reads_the_last_scale_and_the_latent_cell_by_cell():
    refiner = build(ABLATIONS["diffusion refiner"]).refiner
    f_hat, hidden, _ = latents()
    before = refiner(f_hat, hidden) - f_hat
    hidden[:, :14] = hidden[:, :14].flip(-1)  # coarser scales
    assert torch.equal(refiner(f_hat, hidden) - f_hat, before)
    cell = 14 + 4 * 1 + 2  # row 1, column 2
    hidden[:, cell] = hidden[:, cell].flip(-1)
    changed = ((refiner(f_hat, hidden) - f_hat - before).abs() > 1e-5).any(1)
    assert changed[:, 1, 2].all() and changed.sum() == len(changed)
    f_hat = f_hat + 1
    assert not torch.allclose(refiner(f_hat, hidden) - f_hat, before, atol=1e-3)


def test_new_diffusion_refiner_changes_nothing():
    torch.manual_seed(0)
    refiner = RestoreVAR(ABLATIONS["diffusion refiner"]).refiner
    f_hat, hidden, target = latents()
    assert torch.equal(refiner(f_hat, hidden), f_hat)
    refiner.eval().loss(f_hat, hidden, target)
    assert refiner.residual_scale == 0  # validation does not measure


def test_diffusion_refiner_measures_the_residual():
    """Over all batches seen: two of different size, so that none is forgotten."""
    refiner = DiffusionRefiner(RefinerConfig(depth=1, width=8, kind="diffusion"), 8, 32).train()
    f_hat, hidden, target = latents()
    refiner.loss(f_hat, hidden, target)
    refiner.loss(f_hat, hidden, f_hat + 2 * (target - f_hat))
    expected = ((target - f_hat).square().mean() * (1 + 4) / 2).sqrt()
    torch.testing.assert_close(refiner.residual_scale, expected)


def test_diffusion_refiner_learns_the_residual():
    torch.manual_seed(0)
    refiner = DiffusionRefiner(RefinerConfig(depth=2, width=64, kind="diffusion"), 8, 32).train()
    f_hat, hidden, target = latents()
    optimizer = torch.optim.AdamW(refiner.parameters(), lr=3e-3)
    losses = []
    for _ in range(400):
        losses.append(refiner.loss(f_hat, hidden, target))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert torch.stack(losses[-20:]).mean() < 0.5 * torch.stack(losses[:20]).mean()
    refined = refiner.eval()(f_hat, hidden)
    assert (refined - target).square().mean() < 0.4 * (f_hat - target).square().mean()
    assert torch.equal(refiner(f_hat, hidden), refined)


@pytest.mark.parametrize("positions", ["rotary", "absolute"])
def test_checkpointing_gives_the_same_gradients(positions):
    """Stochastic depth included: the masks are drawn again the same."""
    torch.manual_seed(0)
    model = build(ablated(transformer={"positions": positions, "drop_path": 0.5})).transformer
    model.train().requires_grad_(True)
    teacher, condition = torch.randn(8, 29, 8), torch.randn(8, 8, 4, 4)

    def gradients(checkpointing: bool) -> list[torch.Tensor]:
        model.checkpointing = checkpointing
        torch.manual_seed(1)
        logits_BLV, hidden_BLD = model(teacher, condition)
        (logits_BLV.square().mean() + hidden_BLD.square().mean()).backward()
        found = [p.grad for p in model.parameters() if p.grad is not None]
        model.zero_grad(set_to_none=True)
        return found

    plain, checkpointed = gradients(False), gradients(True)
    assert len(plain) == len(checkpointed) > 0
    for a, b in zip(plain, checkpointed, strict=True):
        torch.testing.assert_close(a, b)


def test_checkpointing_stores_less():
    model = build(ablated(transformer={"depth": 4})).transformer.train().requires_grad_(True)
    teacher, condition = torch.randn(2, 29, 8), torch.randn(2, 8, 4, 4)

    def stored(checkpointing: bool) -> int:
        model.checkpointing = checkpointing
        sizes: list[int] = []

        def count(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            model(teacher, condition)
        return sum(sizes)

    assert stored(True) < 0.3 * stored(False)


@pytest.mark.parametrize("name", [*ABLATIONS, "published"])
def test_the_published_code_knows_none_of_them(name):
    """Only the published architecture can be written for it."""
    ablation = ABLATIONS.get(name, debug())
    config = RestoreVARConfig(
        scales=ScaleSchedule((1, 2, 3, 4)),
        vqvae=VQVAEConfig(widths=(32, 32), blocks=1, latent_channels=8, codebook_size=32),
        transformer=TransformerConfig(depth=1, width=32, heads=2, positions=ablation.transformer.positions),
        refiner=replace(ablation.refiner, positions="learned"),
        condition=ablation.condition,
    )
    model = RestoreVAR(config)
    if name == "published":
        assert len(to_official(model)) == 2
    else:
        with pytest.raises(UserError, match="published code does not know"):
            to_official(model)
