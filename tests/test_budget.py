"""The error budget: its stages are those of the model, its parts add up, its command writes figures and sheets."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import wave_photos
from PIL import Image
from typer.testing import CliRunner

from restorevar import checkpoints
from restorevar.cli import app
from restorevar.errors import UserError
from restorevar.evaluation.analysis.budget import ASIDE, STAGES, Rollout, account
from restorevar.evaluation.analysis.budget_study import study_budget
from restorevar.evaluation.analysis.pyramid import pyramid_of
from restorevar.evaluation.analysis.sampling import pairs_in
from restorevar.evaluation.analysis.views import psnr, view
from restorevar.models import RegressionNet, RestoreVAR
from restorevar.models.config import debug
from restorevar.models.regression import RegressionConfig
from restorevar.pipeline import Restorer


@pytest.fixture
def photos(tmp_path):
    return [np.asarray(Image.open(path)) for path in sorted(wave_photos(tmp_path, 3, 64, 80, 8.0).glob("*.png"))]


@pytest.fixture
def pairs(photos, tmp_path):
    """Dark photos and clean ones; the third dark one is the darkest."""
    for task, divide in (("lowlight", (2, 3, 9)), ("clean", (1, 1, 1))):
        for i, by in enumerate(divide):
            for part, pixels in (("target", photos[i]), ("input", photos[i] // by)):
                path = tmp_path / "pairs" / task / part / f"p{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return tmp_path / "pairs"


@pytest.fixture
def restorer(tiny):
    return Restorer(tiny, name="tiny", device="cpu", dtype="fp32")


def views(restorer, photos):
    return view(restorer, photos[0]), view(restorer, photos[0] // 3)


@pytest.mark.parametrize("rollout", ["argmax", "expected"])
def test_the_stages_are_those_of_the_model(restorer, photos, tiny, rollout):
    tiny.config = replace(tiny.config, rollout=rollout)
    clean, degraded = views(restorer, photos)
    found = account(restorer, clean, degraded)
    assert set(found.scores) == {"input", *STAGES, *ASIDE}
    # What a user gets, and the paper's path.
    whole = degraded.crop(tiny.restore(degraded.image_B3HW, restorer.fidelity))
    torch.testing.assert_close(found.restored, whole, atol=1e-4, rtol=1e-4)
    assert found.scores["branch"].psnr == pytest.approx(psnr(whole, clean.photo_3HW), abs=1e-3)
    plain = degraded.crop(tiny.restore(degraded.image_B3HW, 0.0))
    assert found.scores["refined"].psnr == pytest.approx(psnr(plain, clean.photo_3HW), abs=1e-3)
    assert found.scores["input"].psnr == psnr(degraded.photo_3HW, clean.photo_3HW)
    assert all(0 <= score.gmsd < 1 for score in found.scores.values())


def test_true_scales_lead_from_the_rollout_to_the_quantized_photo(restorer, photos, tiny):
    clean, degraded = views(restorer, photos)
    found = account(restorer, clean, degraded)
    scales = len(tiny.config.scales)
    assert len(found.prefixes) == scales + 1
    ends = found.prefixes[0], found.prefixes[-1]
    assert ends == (found.scores["rollout"].psnr, found.scores["quantized"].psnr)
    truth = pyramid_of(tiny, clean.image_B3HW)
    partial = torch.stack(truth.parts).cumsum(0)
    condition = tiny.condition(degraded.image_B3HW)
    torch.testing.assert_close(Rollout(tiny, condition, partial).latent, truth.latent, atol=1e-5, rtol=1e-4)
    f_hat, hidden = tiny.generate(condition)
    torch.testing.assert_close(Rollout(tiny, condition, ()).latent, f_hat)
    torch.testing.assert_close(Rollout(tiny, condition, ()).hidden, hidden)
    # Before the first scale there is nothing to be forced to: both predict it alike.
    assert found.right["forced"][0] == found.right["rollout"][0]
    assert all(0 <= share <= 1 for each in found.right.values() for share in each)


def test_a_model_with_less_has_fewer_stages(photos):
    torch.manual_seed(0)
    config = replace(debug(), fidelity=None, refiner=replace(debug().refiner, kind="none", hidden=True))
    bare = Restorer(RestoreVAR(config), device="cpu", dtype="fp32")
    found = account(bare, *views(bare, photos))
    assert set(found.scores) == {"input", "autoencoder", "quantized", "forced", "rollout", "windows"}
    other = Restorer(
        RegressionNet(RegressionConfig(width=4, encoder=(1,), middle=1, decoder=(1,))), device="cpu", dtype="fp32"
    )
    with pytest.raises(UserError, match="no token maps"):
        study_budget(other, [], size=64)


def test_a_study_tells_costs_and_shows_the_worst(restorer, pairs):
    findings, sheets = study_budget(restorer, pairs_in([pairs]), size=80, worst=2)
    assert [v.subject for v in findings.verdicts] == ["clean", "lowlight"] and set(sheets) == {"clean", "lowlight"}
    assert "dB come in" in findings.verdicts[1].sentence and "Costs: " in findings.verdicts[1].sentence
    dark = [record for record in findings.records if record["task"] == "lowlight"]
    steps = findings.verdicts[1].figures
    mean = {name: np.mean([r["scores"][name]["psnr"] for r in dark]) for name in ("autoencoder", "windows")}
    assert sum(steps.values()) == pytest.approx(mean["windows"] - mean["autoencoder"])  # the costs add up
    table = next(t for t in findings.tables if t.caption.startswith("lowlight"))
    assert [row[0].split(":")[0] for row in table.rows] == ["input", *STAGES, *ASIDE]
    assert [len(t.headers) for t in findings.tables[-2:]] == [len(restorer.model.config.scales) + n for n in (2, 1)]
    assert sheets["lowlight"].height > 2 * 320 * 64 / 80  # two photos below each other
    only, _ = study_budget(restorer, pairs_in([pairs]), size=80, tasks=["clean"], limit=1)
    assert [record["image"] for record in only.records] == ["p0.png"]
    with pytest.raises(UserError, match="no pairs"):
        study_budget(restorer, pairs_in([pairs]), size=80, tasks=["fog"])


def test_the_command(tiny, pairs, tmp_path):
    checkpoints.save_model(tiny, tmp_path / "model")
    command = ["analyze", "budget", pairs, "--model", tmp_path / "model", "--size", "80", "--limit", "1"]
    command += ["--task", "lowlight", "-o", tmp_path / "worst", "--json", tmp_path / "b.json"]
    result = CliRunner().invoke(app, [str(a) for a in (*command, "--markdown", tmp_path / "b.md", "--dtype", "fp32")])
    assert result.exit_code == 0, result.output
    assert "lowlight: " in result.output and "Costs: " in result.output
    assert Image.open(tmp_path / "worst" / "worst-lowlight.png").width > 3 * 320
    told = json.loads((tmp_path / "b.json").read_text())
    assert told["about"]["fidelity"] == 1.0 and len(told["records"]) == 1 and told["verdicts"][0]["word"] is None
    assert "| quantized: " in (tmp_path / "b.md").read_text()
