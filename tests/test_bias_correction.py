"""Bias correction: what a model does to the light of clean photos is undone, and nothing else."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from restorevar import Restorer
from restorevar.bias_correction import correct_bias
from restorevar.checkpoints import load_model, save_model
from restorevar.cli import app
from restorevar.errors import UserError
from restorevar.models import RestoreVAR
from restorevar.models.config import debug


@pytest.fixture(params=[False, True], ids=["alone", "fused"])
def lightening(request):
    """A model that changes nothing but for a constant, another for each colour and place in a patch."""
    torch.manual_seed(0)
    config = debug()
    config = replace(config, fidelity=replace(config.fidelity, fuse=request.param))
    model = RestoreVAR(config).eval().requires_grad_(False)
    model.fidelity.detail.bias.copy_(torch.linspace(0.02, 0.09, 12))
    return model


@pytest.fixture
def clean(tmp_path):
    """Five photos of odd and other sizes, away from black and white; one is no clean one, but dark."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "clean"
    folder.mkdir()
    for i, (height, width) in enumerate([(40, 61), (64, 64), (33, 48), (700, 530), (50, 50)]):
        smooth = generator.uniform(90, 160, (4, 4, 3)).astype(np.uint8)
        photo = Image.fromarray(smooth if i < 4 else smooth // 16).resize((width, height), Image.Resampling.BICUBIC)
        photo.save(folder / f"{i}.png")
    return folder


def changes(model, clean):
    restorer = Restorer(model, device="cpu", dtype="fp32")
    photos = [np.asarray(Image.open(clean / f"{i}.png"))[:32, :48] for i in range(3)]
    return [restorer(photo).astype(float) - photo for photo in photos]


def test_a_constant_is_taken_back(lightening, clean):
    found = correct_bias(lightening, sorted(clean.iterdir()), "cpu")
    assert found.photos == 5 and found.before == pytest.approx(255 / 2 * 0.055, abs=0.5)
    assert abs(found.after) < 0.1
    assert lightening.fidelity.detail.bias.abs().max() < 0.005, "each colour and place by itself"


def test_what_is_changed_is_what_is_seen(lightening, clean):
    before = changes(copy.deepcopy(lightening), clean)
    assert np.mean([change.mean() for change in before]) > 5
    correct_bias(lightening, sorted(clean.iterdir()), "cpu")
    for change in changes(lightening, clean):
        assert np.abs(change).max() <= 1, "a rounding at most"


def test_progress_and_mistakes(lightening, clean, tmp_path):
    seen = []
    correct_bias(lightening, sorted(clean.iterdir())[:2], "cpu", lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    with pytest.raises(UserError, match="no photographs"):
        correct_bias(lightening, [], "cpu")
    Image.new("RGB", (300, 1)).save(tmp_path / "line.png")
    with pytest.raises(UserError, match=r"line\.png: smaller than a patch"):
        correct_bias(lightening, [tmp_path / "line.png"], "cpu")
    with pytest.raises(UserError, match="only a model with a fidelity branch"):
        correct_bias(RestoreVAR(replace(debug(), fidelity=None)), sorted(clean.iterdir()), "cpu")


def test_of_an_average_by_the_command(lightening, clean, tmp_path):
    save_model(lightening, tmp_path / "model")
    both = ("average", tmp_path / "model", tmp_path / "model")
    options = ("-o", tmp_path / "mean", "--clean", clean, "--device", "cpu", "--dtype", "bf16")
    result = CliRunner().invoke(app, [str(word) for word in (*both, *options)])
    assert result.exit_code == 0 and "5 clean photos" in result.stderr, result.output
    mean = load_model(tmp_path / "mean")
    assert mean.sha256 in result.stdout
    for change in changes(mean.model, clean):
        assert np.abs(change).max() <= 1
    config = json.loads((tmp_path / "mean" / "config.json").read_text())
    assert config["bias_corrected"]["photos"] == 5 and len(config["average_of"]) == 2
