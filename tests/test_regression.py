"""The yardstick: a regression network that is trained, saved, loaded and judged like the model itself."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import wave_photos
from torch import nn
from typer.testing import CliRunner

from restorevar.acceleration import prepare
from restorevar.checkpoints import CONFIG, load_model, save_model
from restorevar.cli import app
from restorevar.data.mixes import MIXES
from restorevar.data.pairs import PairSource
from restorevar.data.synthesis import make_pairs
from restorevar.errors import UserError
from restorevar.images import from_tensor, to_tensor
from restorevar.models import RegressionConfig, RegressionNet, RestoreVAR, build_model
from restorevar.models.config import compact, debug
from restorevar.models.nafnet import NAFBlock, ScaledConv, Up
from restorevar.pipeline import MARGIN, Restorer
from restorevar.training import recipes
from restorevar.training.regression_stage import RegressionStage
from restorevar.training.reporting import Report
from restorevar.training.run import Options, make_accelerator, train
from restorevar.training.trainer import Schedule, Setting, fit

TINY = RegressionConfig(width=4, encoder=(1, 1), middle=1, decoder=(1,))
#: The same from the command line, with a schedule of two steps.
SMALL = ("model.width=4", "model.encoder=[1,1]", "model.middle=1", "model.decoder=[1]")
SHORT = ("regression.schedule.batch=2", "regression.schedule.steps=2", "regression.validation_side=32")


@pytest.fixture
def awake() -> RegressionNet:
    """Tiny, with all that starts at zero set to something, so that every part matters."""
    torch.manual_seed(0)
    model = RegressionNet(TINY).eval()
    for parameter in model.parameters():
        if parameter.abs().sum() == 0:
            nn.init.normal_(parameter, std=0.1)
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Four smooth colour pictures of 160 x 150."""
    return wave_photos(tmp_path_factory.mktemp("photos"), 4, 150, 160, wave=40)


def image(height: int, width: int, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def settings(*texts: str) -> list[str]:
    return [word for text in texts for word in ("--set", text)]


# ---------------------------------------------------------------------------------------------------- the network


@pytest.mark.parametrize(("height", "width"), [(8, 8), (32, 48), (72, 40)])
def test_any_window(awake, height, width):
    restored = awake.restore(image(height, width, 2))
    assert restored.shape == (2, 3, height, width) and restored.dtype == torch.float32
    assert restored.abs().max() <= 1 and not torch.equal(restored, image(height, width, 2))


def test_a_batch_of_two_is_two_singles(awake):
    both = image(32, 32, 2)
    singles = torch.cat([awake.restore(both[:1]), awake.restore(both[1:])])
    torch.testing.assert_close(awake.restore(both), singles, atol=1e-5, rtol=0)


def test_going_up_is_smooth_between_cells_and_sharp_within():
    """A ramp of equal cells comes up as a ramp; what tells the pixels of a cell apart lies where a shuffle puts it."""
    ramp = torch.arange(6.0).expand(1, 2, 6, 6)
    up = Up(2, shuffled=True).requires_grad_(False)
    up[0].weight.copy_(torch.tensor([0.5, 0.5]).view(1, 2, 1, 1).expand(4, 2, 1, 1))
    assert up(ramp).shape == (1, 1, 12, 12)
    torch.testing.assert_close(up(ramp)[0, 0, 5, 1:-1], torch.linspace(0.25, 4.75, 10))
    up[0].weight.copy_(torch.tensor([3.0, -1.0, -2.0, 0.0]).view(4, 1, 1, 1).expand(4, 2, 1, 1))
    torch.testing.assert_close(up(ramp), nn.functional.pixel_shuffle(up[0](ramp), 2))
    smooth = Up(2, shuffled=False).requires_grad_(False)
    smooth[0].weight.fill_(0.5)
    torch.testing.assert_close(smooth(ramp)[0, 0, 5, 1:-1], torch.linspace(0.25, 4.75, 10))


def test_only_the_finest_level_shuffles():
    """Each level that does lets its cells be seen; these are the largest."""
    assert [up.shuffled for up in RegressionNet(TINY).ups] == [True, *[False] * (len(TINY.encoder) - 1)]


def test_starts_as_the_identity():
    assert torch.equal(RegressionNet(TINY).restore(image(32, 48)), image(32, 48))
    block, h = NAFBlock(4), torch.randn(1, 4, 8, 8)
    assert torch.equal(block(h), h)


def test_every_parameter_learns(awake):
    awake.requires_grad_(True)(image(32, 32)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in awake.parameters())


def test_the_scale_is_one_of_the_output():
    conv, h = ScaledConv(3), torch.randn(2, 3, 4, 4)
    nn.init.normal_(conv.scale)
    plain = nn.functional.conv2d(h, conv.weight, conv.bias)
    torch.testing.assert_close(conv(h), plain * conv.scale[:, None, None])


def test_the_default_is_as_large_as_compact():
    with torch.device("meta"):
        ours, theirs = (sum(p.numel() for p in build_model(c).parameters()) for c in (RegressionConfig(), compact()))
    assert 0.95 * theirs < ours < 1.05 * theirs
    assert RegressionConfig().downsample == compact().downsample
    assert RegressionConfig(patch=1).downsample == 8 and RegressionConfig(patch=1).features_per_pixel == 64


@pytest.mark.parametrize("shape", [(1, 3, 32, 33), (1, 3, 0, 8), (1, 1, 32, 32), (3, 32, 32)])
def test_impossible_shapes(awake, shape):
    with pytest.raises(ValueError, match=r"multiples of 8|shape"):
        awake.restore(torch.zeros(shape))


def test_there_is_no_fidelity_to_weigh(awake):
    assert awake.fidelity_weight(None) == awake.fidelity_weight(0) == 0
    for call in (lambda: awake.fidelity_weight(0.5), lambda: awake.restore(image(8, 8), fidelity=1.0)):
        with pytest.raises(ValueError, match="no fidelity branch"):
            call()
    with pytest.raises(UserError, match="no fidelity branch"):
        Restorer(awake, device="cpu", fidelity=0.5)


# ----------------------------------------------------------------------------------------------------- the config


def test_config_there_and_back():
    config = RegressionConfig(width=6, encoder=(1, 0), decoder=(2, 1), middle=0, patch=1)
    assert RegressionConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"width": 0}, "width"),
        ({"patch": 0}, "patch"),
        ({"middle": -1}, "negative"),
        ({"decoder": (1, 1, 1, 1)}, "no more levels"),
        ({"encoder": ()}, "no more levels"),
        ({"encoder": (1, -1), "decoder": (1, 1)}, "negative"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_impossible_configs(values, words):
    with pytest.raises(ValueError, match=words):
        RegressionConfig.from_dict(values)


# ------------------------------------------------------------------------------------------- folders and restoring


def test_there_and_back(awake, tmp_path):
    save_model(awake, tmp_path)
    assert json.loads((tmp_path / CONFIG).read_text())["kind"] == "regression"
    loaded = load_model(str(tmp_path)).model
    assert isinstance(loaded, RegressionNet) and loaded.config == TINY and not loaded.training
    assert torch.equal(loaded.restore(image(32, 32)), awake.restore(image(32, 32)))


def test_folders_without_a_kind_hold_restorevar(tiny, tmp_path):
    save_model(tiny, tmp_path)
    description = json.loads((tmp_path / CONFIG).read_text())
    assert description.pop("kind") == "restorevar"
    (tmp_path / CONFIG).write_text(json.dumps(description))
    assert isinstance(load_model(str(tmp_path)).model, RestoreVAR)


@pytest.mark.parametrize("kind", ["gan", None, ["regression"], "restorevar"])
def test_the_wrong_kind_is_told_in_one_line(awake, tmp_path, kind):
    save_model(awake, tmp_path, metadata={"kind": kind})
    with pytest.raises(UserError, match="not a model config") as error:
        load_model(str(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (50, 71), (150, 90)])
def test_the_restorer_takes_it_on_odd_sizes(awake, height, width):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    restored = Restorer(awake, device="cpu", dtype="fp32", tile=64)(pixels)
    assert restored.shape == pixels.shape and restored.dtype == np.uint8
    assert not np.array_equal(restored, pixels)


def test_a_whole_photo_is_what_the_network_makes_of_it(awake):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    worker = Restorer(awake, device="cpu", dtype="fp32")
    assert worker.unit == 8 and worker.settings["fidelity"] == 0
    around = np.pad(pixels, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), "reflect")
    expected = from_tensor(awake.restore(to_tensor(around)[None])[0])[MARGIN:-MARGIN, MARGIN:-MARGIN]
    assert np.array_equal(worker.restore_pixels(pixels), expected)


def test_bf16_stays_close(awake):
    exact = awake.restore(image(64, 64))
    low = prepare(awake, torch.device("cpu"), torch.bfloat16).restore(image(64, 64))
    assert low.dtype == torch.float32 and (low - exact).abs().mean() < 0.01


# ------------------------------------------------------------------------------------------------------- training


def setting(photos, out) -> Setting:
    return Setting(PairSource(photos, seed=0), out, make_accelerator("cpu", torch.float32), Report(out))


def test_it_learns(photos, tmp_path):
    torch.manual_seed(0)
    model = RegressionNet(replace(TINY, width=8))
    schedule = Schedule(lr=1e-2, batch=4, steps=120, warmup_steps=5)
    stage = RegressionStage(schedule, shapes={(32, 32): 0.7, (48, 48): 0.3}, validation_side=32)
    fit(model, stage, setting(photos, tmp_path))
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < 0.8 * losses[0]
    figures = stage.validate(model.eval())
    assert set(figures) == {"haze", "rain", "snow", "lowlight", "blur", "clean", "ssim", "mean_gain"}
    assert figures["mean_gain"] > 0.5 and stage.score(figures) == figures["mean_gain"]
    preview = stage.preview(model)
    assert len(preview.rows) == 3 and all(len(row) == len(preview.columns) == 6 for row in preview.rows)


def test_the_first_figures_are_those_of_doing_nothing(photos, tmp_path):
    stage = RegressionStage(Schedule(lr=1e-3, batch=2), validation_side=32)
    model = RegressionNet(TINY)
    stage.setup(model, setting(photos, tmp_path))
    figures = stage.validate(model)
    assert all(abs(figures[task]) < 1e-4 for task in ("haze", "rain", "mean_gain")) and figures["clean"] > 20


def test_it_may_be_shown_what_the_branch_is_shown(photos, tmp_path):
    stage = RegressionStage(Schedule(lr=1e-3, batch=2), shapes={(32, 32): 1.0}, mix="detail")
    given = setting(photos, tmp_path)
    stage.setup(RegressionNet(TINY), given)
    assert stage.source.fingerprint() == given.source.drawn_by(MIXES["detail"]).fingerprint()
    drawn = [given.source.drawn_by(MIXES[name]).pairs("x", range(2), 32, 32) for name in ("detail", "train")]
    assert not torch.equal(drawn[0].degraded, drawn[1].degraded)
    assert torch.equal(stage.source.pairs("x", range(2), 32, 32).degraded, drawn[0].degraded)


def test_from_the_command_line(photos, tmp_path):
    """Trains, goes on where it was, is evaluated."""
    run, pairs = tmp_path / "run", tmp_path / "pairs"
    command = ["train", "--recipe", "regression", "--data", str(photos), "--out", str(run)]
    command += ["--device", "cpu", "--dtype", "fp32", "--budget", "30m", *settings(*SMALL, *SHORT)]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    about = json.loads((run / "run.json").read_text())
    assert about["model"]["width"] == 4 and load_model(str(run / "model")).model.config == TINY
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0, again.output
    make_pairs([photos], pairs, ["haze"])
    scored = CliRunner().invoke(app, ["evaluate", str(pairs), "--model", str(run / "model"), "--device", "cpu"])
    assert scored.exit_code == 0 and "haze" in scored.output, scored.output


def test_resumes_to_the_same_weights(photos, tmp_path):
    """Stopped in the middle, the run ends as one that was not."""

    class Stopped(RegressionStage):
        def after_step(self, model, step):
            if step == 4:
                raise KeyboardInterrupt

    ends = []
    for name, stages in (("whole", [RegressionStage]), ("stopped", [Stopped, RegressionStage])):
        for kind in stages:
            torch.manual_seed(0)
            model = RegressionNet(TINY)
            schedule = Schedule(lr=1e-3, batch=2, steps=6, ema=0.9, checkpoint_seconds=0.0)
            stage = kind(schedule, shapes={(32, 32): 0.5, (48, 48): 0.5}, validation_side=32)
            try:
                fit(model, stage, setting(photos, tmp_path / name))
            except KeyboardInterrupt:
                assert kind is Stopped
        ends.append(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ends[0].values(), ends[1].values(), strict=True))


def test_the_recipe_is_one_stage_of_the_whole_budget():
    (stage,) = recipes.regression()
    assert isinstance(stage, RegressionStage) and stage.share == 1.0 and stage.schedule.decay == "cosine"
    judged = next(s for s in recipes.compact() if s.name == "branch")
    assert stage.loss == judged.loss and math.prod(next(iter(judged.shapes))) == stage.validation_side**2


def test_mistakes_are_told_in_a_line(photos, tmp_path):
    good = Options("regression", [photos], settings=(*SMALL, *SHORT))
    save_model(RestoreVAR(debug()), tmp_path / "other" / "model")
    for out, options, words in (
        ("run", replace(good, stage="decoder"), "has no stage 'decoder'"),
        ("run", replace(good, settings=("model.refiner.kind=none",)), "no 'refiner' there"),
        ("run", replace(good, settings=("model.decoder=[1,1,1,1]",)), "no more levels"),
        ("run", replace(good, settings=("fidelity.crop=16",)), "no part 'fidelity'"),
        (
            "run",
            replace(
                good,
                settings=(*good.settings, "regression.loss.perceptual=1", "regression.loss.perceptual_kind=encoder"),
            ),
            "a model with a VQVAE",
        ),
        ("other", good, "another kind"),
    ):
        with pytest.raises(UserError, match=words) as error:
            train(tmp_path / out, options)
        assert "\n" not in str(error.value)
