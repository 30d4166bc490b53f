"""The forecast counts what it says: FLOPs of the published model, memory of a real step, the days that follow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from restorevar.cli import app
from restorevar.data.pairs import PairSource
from restorevar.errors import UserError
from restorevar.models import RestoreVAR
from restorevar.models.config import debug, paper
from restorevar.training.forecast import ACCELERATORS, UTILISATION, forecast, parse_accelerator, usual_precision
from restorevar.training.meter import forward_flops, stage_cost
from restorevar.training.recipes import RECIPES
from restorevar.training.reporting import Report
from restorevar.training.run import Options, make_accelerator, plan
from restorevar.training.trainer import Setting, _freeze_all_but


def stage_of(recipe: str, name: str, *settings: str):
    config, stages = plan(Options(recipe, settings=settings))
    return config, next(stage for stage in stages if stage.name == name)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    for i in range(5):
        Image.new("RGB", (96, 80), (120, 30 * i, 200)).save(root / f"{i}.png")
    return root


# ------------------------------------------------------------------------------------------------------- FLOPs


def test_published_model_as_counted_elsewhere():
    """TFLOP of one 512 x 512 image, cross-attention's keys and values computed once."""
    parts = forward_flops(paper())
    tera = {name: sum(kinds.values()) / 1e12 for name, kinds in parts.items()}
    assert tera["encoder"] == pytest.approx(0.867, abs=0.001)
    assert tera["decoder"] == pytest.approx(1.583, abs=0.001)
    assert tera["refiner"] == pytest.approx(0.116, abs=0.001)
    assert parts["transformer"]["other"] / 1e12 == pytest.approx(1.14, abs=0.005)
    assert parts["transformer"]["attention"] / 1e12 == pytest.approx(0.36, abs=0.005)
    assert sum(tera.values()) == pytest.approx(4.07, abs=0.005)


def test_a_training_step_is_three_forward_passes():
    """Forward and backward of what is trained; the encoder runs twice, without gradients, on the pair."""
    config, stage = stage_of("paper_512", "transformer")
    cost = stage_cost(config, stage)
    parts = forward_flops(config)
    expected = 3 * parts["transformer"].total() + 2 * parts["encoder"].total()
    assert cost.flops / cost.batch == pytest.approx(expected, rel=0.1)


def test_more_devices_and_turns_share_the_same_work():
    config, stage = stage_of("debug", "refiner", "refiner.schedule.batch=16")
    whole = stage_cost(config, stage)
    config, stage = stage_of("debug", "refiner", "refiner.schedule.batch=16")
    shared = stage_cost(config, stage, processes=2, accumulate=4)
    assert (whole.batch, whole.turn, shared.batch, shared.turn) == (16, 16, 16, 2)
    assert shared.flops == pytest.approx(whole.flops, rel=0.01)
    assert shared.step_bytes < whole.step_bytes and shared.prepare_bytes < whole.prepare_bytes


def test_self_rollout_costs_and_recomputing_costs():
    none = stage_cost(*stage_of("debug", "transformer", "transformer.self_rollout=0"))
    half = stage_cost(*stage_of("debug", "transformer", "transformer.self_rollout=0.5"))
    again = stage_cost(*stage_of("debug", "transformer", "transformer.self_rollout=0"), checkpointing=True)
    assert half.flops > 1.05 * none.flops and again.flops > 1.1 * none.flops


# ------------------------------------------------------------------------------------------------------ memory


def saved_bytes(stage, photos: Path, out: Path) -> int:
    """What a real step keeps for its backward pass, by torch's own hooks."""
    torch.manual_seed(0)
    model = RestoreVAR(debug()).train()
    trained = _freeze_all_but(model, stage)
    stage.setup(model, Setting(PairSource(photos, seed=0), out, make_accelerator("cpu", torch.float32), Report(out)))
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = stage.losses(model, 0, 0)["loss"]
    loss.backward()
    assert any(p.grad is not None for p in trained.values())
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("name", ["autoencoder", "transformer", "refiner"])
def test_activations_are_those_of_a_real_step(name, photos, tmp_path):
    """The peak holds what is saved for the backward pass, and not much more than it."""
    settings = ["transformer.self_rollout=0", f"{name}.schedule.batch=8"]
    config, stage = stage_of("debug", name, *settings)
    counted = stage_cost(config, stage)
    saved = saved_bytes(stage_of("debug", name, *settings)[1], photos, tmp_path)
    assert 0.9 * saved < counted.step_bytes < 2 * saved


def test_state_is_weights_gradients_and_moments():
    config, stage = stage_of("debug", "refiner")
    cost = stage_cost(config, stage)
    model = RestoreVAR(config)
    assert cost.trained == sum(p.numel() for p in model.refiner.parameters())
    assert cost.parameters == sum(p.numel() for p in model.parameters())
    assert cost.state_bytes == 4 * (cost.parameters + 3 * cost.trained)
    averaged = stage_cost(*stage_of("debug", "refiner", "refiner.schedule.ema=0.9"))
    assert averaged.state_bytes == cost.state_bytes + 4 * cost.trained
    spread = stage_cost(*stage_of("debug", "refiner"), processes=4, shard=True)
    sent = stage_cost(*stage_of("debug", "refiner"), processes=4)
    assert spread.state_bytes < cost.state_bytes < sent.state_bytes


def test_lower_precision_and_recomputing_take_less_memory():
    def peak(**options) -> int:
        return stage_cost(*stage_of("paper_256", "transformer", "transformer.schedule.batch=4"), **options).step_bytes

    full = peak()
    assert peak(precision=torch.bfloat16) < 0.9 * full
    assert peak(checkpointing=True) < 0.3 * full


def test_leaves_nothing_behind(photos, tmp_path):
    """Meta tensors, the replaced autocast and the caches must not reach a training in the same process."""
    before = torch.autocast
    stage_cost(*stage_of("debug", "transformer"), precision=torch.bfloat16)
    assert torch.autocast is before
    saved_bytes(stage_of("debug", "transformer")[1], photos, tmp_path)


# -------------------------------------------------------------------------------------------------- the page


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe(recipe):
    text = forecast(Options(recipe, budget="1h", precision=torch.bfloat16), "h100")
    for stage in plan(Options(recipe))[1]:
        assert f"\n{stage.name} " in text
    assert "H100" in text and f"{UTILISATION:.0%}" in text


def test_the_papers_epochs():
    """138,435 published pairs x 50 epochs / 48 a step, and the days that follow from FLOPs and rate."""
    text = forecast(Options("paper_512", stage="transformer", precision=torch.bfloat16), "2xrtx4090")
    assert "138,435 samples" in text and "RESIDE OTS 72,135" in text and "144,203" in text
    cost = stage_cost(*stage_of("paper_512", "transformer"), precision=torch.bfloat16, processes=2)
    days = cost.flops * 144203 / (2 * 165.2e12 * UTILISATION) / 86400
    assert f"{days:.2g} days" in text
    assert "more than 24 GiB" in text and "48=2x24" in text


def test_own_photos_set_the_epoch(photos):
    text = forecast(Options("paper_256", data=[photos], stage="refiner"), "a100")
    assert "an epoch: 4 samples (yours)" in text


def test_without_an_end_there_are_no_days():
    text = forecast(Options("compact", stage="refiner"), "cpu2")
    assert "no end" in text and "all of them" not in text


def test_machines():
    assert parse_accelerator("8xH100") == (8, ACCELERATORS["h100"])
    assert parse_accelerator("rtx4090") == (1, ACCELERATORS["rtx4090"])
    assert usual_precision("cpu2") == torch.float32 and usual_precision("l40s") == torch.bfloat16
    for wrong in ("abacus", "0xh100", "2x", "x", ""):
        with pytest.raises(UserError, match="--accelerator"):
            parse_accelerator(wrong)


def test_command(photos, tmp_path):
    command = ["train", "--recipe", "debug", "--dry-run", "--accelerator", "2xl40s", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "2 x L40S, bfloat16" in result.output and not (tmp_path / "run").exists()
    assert CliRunner().invoke(app, [*command[:-3], "abacus"]).exit_code == 2


def test_settings_apply():
    config, stage = stage_of("debug", "decoder")
    plain = stage_cost(config, replace(stage))
    more = stage_cost(*stage_of("debug", "decoder", "decoder.loss.adversarial=0"))
    assert more.flops < plain.flops
