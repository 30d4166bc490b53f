"""Every stage runs, learns, resumes and leaves a loadable model; on tiny models and made-up photographs."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from restorevar.checkpoints import load_model
from restorevar.data.pairs import PairSource
from restorevar.errors import UserError
from restorevar.models import RestoreVAR
from restorevar.models.config import debug
from restorevar.training import recipes
from restorevar.training.losses import gradient_l1, psnr, ssim
from restorevar.training.replay import Replay, ShapedReplay
from restorevar.training.run import parse_budget, train
from restorevar.training.trainer import Average, Schedule, fit
from restorevar.training.vqvae_stage import AutoencoderStage, CodebookStage


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Six smooth colour pictures of 300 x 280."""
    root = tmp_path_factory.mktemp("photos")
    y, x = np.mgrid[0:280, 0:300] / 60
    for i in range(6):
        waves = [128 + 100 * np.sin(x * (1 + i / 3) + c) * np.cos(y + i * c) for c in range(3)]
        Image.fromarray(np.stack(waves, -1).astype(np.uint8)).save(root / f"{i}.png")
    return root


def log_of(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_all_stages_end_to_end(photos, tmp_path):
    folder = train("debug", photos, tmp_path / "run", budget="10m", precision=torch.float32)
    done = [row["stage"] for row in log_of(tmp_path / "run") if row.get("event") == "done"]
    assert done == [name for names in recipes.STAGE_GROUPS.values() for name in names]
    assert all(math.isfinite(v) for row in log_of(tmp_path / "run") for v in row.values() if isinstance(v, float))
    restored = load_model(str(folder)).model.restore(torch.zeros(1, 3, 32, 48))
    assert restored.shape == (1, 3, 32, 48)
    before = log_of(tmp_path / "run")
    train("debug", photos, tmp_path / "run", budget="10m")  # all done: nothing to do
    assert log_of(tmp_path / "run") == before


def test_one_stage_trains_only_its_parts(photos, tmp_path):
    run = tmp_path / "run"
    train("debug", photos, run, stage="vqvae", precision=torch.float32)
    before = load_model(str(run / "model")).model.state_dict()
    train("debug", photos, run, stage="transformer", precision=torch.float32)
    after = load_model(str(run / "model")).model.state_dict()
    changed = {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}
    assert changed == {"transformer"}


def test_stage_resumes_where_it_was(photos, tmp_path):
    """Interrupted after a checkpoint: the next run continues from it, with its optimiser and its average."""

    class Interrupted(AutoencoderStage):
        def after_step(self, model, step):
            if step == 5:
                raise KeyboardInterrupt

    source = PairSource(photos, 0)
    schedule = Schedule(lr=1e-3, batch=2, steps=8, ema=0.9, checkpoint_seconds=0.0)
    args = (tmp_path, torch.device("cpu"), torch.float32)
    with pytest.raises(KeyboardInterrupt):
        fit(RestoreVAR(debug()), Interrupted(source, schedule, crop=32), *args)
    assert (tmp_path / "autoencoder.checkpoint.pt").exists()
    fit(RestoreVAR(debug()), AutoencoderStage(source, schedule, crop=32), *args)
    rows = log_of(tmp_path)
    assert [r["step"] for r in rows if r.get("event")] == [5, 8]
    assert (tmp_path / "autoencoder.done").exists() and not (tmp_path / "autoencoder.checkpoint.pt").exists()


def test_autoencoder_learns(photos, tmp_path):
    torch.manual_seed(0)
    model = RestoreVAR(debug())
    stage = AutoencoderStage(PairSource(photos, 0), Schedule(lr=5e-3, batch=4, steps=80, warmup_steps=5), crop=32)
    before = stage.validate(model)["psnr"]
    fit(model, stage, tmp_path, torch.device("cpu"), torch.float32)
    assert stage.validate(model)["psnr"] > before + 3


def test_codebook_fits_the_latents_and_is_used(photos, tmp_path):
    torch.manual_seed(0)
    model = RestoreVAR(debug())
    stage = CodebookStage(PairSource(photos, 0), Schedule(lr=1e-2, batch=8, steps=60, warmup_steps=5), crop=64)
    fit(model, stage, tmp_path, torch.device("cpu"), torch.float32)
    figures = stage.validate(model)
    assert figures["variance_left"] < 0.3 and figures["codes_used"] > 0.5


def test_a_bad_batch_does_not_ruin_the_weights(photos, tmp_path):
    class Poisoned(AutoencoderStage):
        def losses(self, model, step):
            losses = super().losses(model, step)
            return losses | {"loss": losses["loss"] * math.nan} if step == 1 else losses

    model = RestoreVAR(debug())
    schedule = Schedule(lr=1e-3, batch=2, steps=3)
    fit(model, Poisoned(PairSource(photos, 0), schedule, crop=32), tmp_path, torch.device("cpu"), torch.float32)
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_pairs_are_seeded_and_validation_is_fixed(photos):
    one, two = PairSource(photos, 3), PairSource(photos, 3)
    assert torch.equal(one.pairs(2, 32, 40).degraded, two.pairs(2, 32, 40).degraded)
    first = one.validation(2, 32, 32, "haze")
    one.pairs(1, 32, 32)
    again = one.validation(2, 32, 32, "haze")
    assert torch.equal(first.degraded, again.degraded) and first.tasks == ["haze", "haze"]
    assert len(one.photos.photos) == 5 and len(one.held_out.photos) == 1


def test_replay_reuses_samples():
    made = []

    def make(count):
        made.append(count)
        return {"x": torch.full((count,), float(len(made)))}

    replay = Replay(make, size=64, reuse=4)
    for _ in range(20):
        assert replay.batch(8)["x"].shape == (8,)
    assert 40 <= sum(made) <= 100  # 160 drawn; the first fill is fresh


def test_shaped_replay_keeps_the_pixels_of_a_batch():
    replay = ShapedReplay(
        lambda n, height, width: {"x": torch.zeros(n, height, width)}, {(8, 8): 1.0, (16, 16): 1.0}, size=64
    )
    sizes = {tuple(replay.batch(8)["x"].shape) for _ in range(12)}
    assert sizes == {(8, 8, 8), (2, 16, 16)}


def test_losses_on_known_values():
    black, white = -torch.ones(1, 3, 16, 16), torch.ones(1, 3, 16, 16)
    assert psnr(black, white).item() == pytest.approx(0, abs=1e-5)
    assert psnr(black, black + 0.02).item() == pytest.approx(40, abs=1e-3)
    assert ssim(white, white).item() == pytest.approx(1) and ssim(black, white).item() < 0.01
    assert gradient_l1(black, white).item() == 0


def test_ssim_equals_scikit_image():
    from skimage.metrics import structural_similarity

    generator = torch.Generator().manual_seed(0)
    a = torch.rand(1, 3, 32, 32, generator=generator) * 2 - 1
    b = (a + 0.3 * torch.randn(1, 3, 32, 32, generator=generator)).clamp(-1, 1)
    x, y = (((t[0] + 1) / 2).permute(1, 2, 0).numpy() for t in (a, b))
    # scikit-image uses the sample covariance, n / (n - 1); the difference is below a thousandth here.
    expected = structural_similarity(x, y, channel_axis=2, data_range=1, use_sample_covariance=False)
    assert ssim(a, b).item() == pytest.approx(expected, abs=1e-4)


def test_average_follows_slowly():
    parameter = torch.nn.Parameter(torch.zeros(1))
    average = Average([parameter], 0.9)
    with torch.no_grad():
        parameter.fill_(1.0)
    average.update()
    with average.swapped():
        assert 0 < parameter.item() <= 1
    assert parameter.item() == 1


def test_schedule_warms_up_and_decays():
    schedule = Schedule(lr=1.0, batch=1, seconds=100, warmup_steps=10)
    assert schedule.rate(0, 0) == pytest.approx(0.1)
    assert schedule.rate(50, 1) > schedule.rate(50, 60) > schedule.rate(50, 100) == pytest.approx(0.02)


@pytest.mark.parametrize(("text", "seconds"), [("90m", 5400), ("2h", 7200), ("45s", 45), ("30", 30)])
def test_budgets(text, seconds):
    assert parse_budget(text) == seconds


def test_mistakes_are_told_in_a_line(photos, tmp_path):
    for arguments in (
        {"recipe": "nope", "data": photos},
        {"recipe": "debug", "data": photos, "stage": "nope"},
        {"recipe": "debug", "data": photos, "budget": "soon"},
        {"recipe": "debug", "data": tmp_path / "missing"},
        {"recipe": "debug", "data": photos, "init": "nope"},
    ):
        with pytest.raises(UserError) as error:
            train(**arguments, out=tmp_path / "run")
        assert "\n" not in str(error.value)
