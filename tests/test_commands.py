"""degrade, train, evaluate, convert, models: end to end through the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from restorevar import checkpoints
from restorevar.cli import app
from restorevar.errors import UserError
from restorevar.evaluation.gains import Score, find_pairs, score, summarise
from restorevar.models import RestoreVAR
from restorevar.models.config import debug


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def pixels(path):
    return np.asarray(Image.open(path))


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    y, x = np.mgrid[0:64, 0:80]
    for i in range(2):
        picture = np.stack([(x * 3 + 40 * i) % 256, (y * 4) % 256, (x + y) % 256], -1)
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"p{i}.png")
    return folder


@pytest.fixture
def model_folder(tiny, tmp_path):
    checkpoints.save_model(tiny, tmp_path / "model")
    return tmp_path / "model"


def test_degrade_writes_seeded_pairs_and_the_published_manifest(photos, tmp_path):
    sheet = tmp_path / "sheet.png"
    result = run("degrade", photos, "-o", tmp_path / "a", "--task", "haze", "--task", "lowlight", "--sheet", sheet)
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "a" / "pairs.json").read_text())
    assert len(rows) == 4 and {r["degradation"] for r in rows} == {"Haze", "Low-light"}
    for row in rows:
        degraded, clean = pixels(tmp_path / "a" / row["image_path"]), pixels(tmp_path / "a" / row["target_path"])
        assert degraded.shape == clean.shape == (64, 80, 3) and not np.array_equal(degraded, clean)
    assert Image.open(sheet).size == (3 * 256, 20 + 2 * 256)
    # One photo and one task alone give the same pair: nothing depends on what else is made.
    run("degrade", photos / "p1.png", "-o", tmp_path / "b", "--task", "lowlight")
    name = "lowlight/input/p1.png"
    assert np.array_equal(pixels(tmp_path / "a" / name), pixels(tmp_path / "b" / name))
    run("degrade", photos / "p1.png", "-o", tmp_path / "c", "--task", "lowlight", "--seed", "1")
    assert not np.array_equal(pixels(tmp_path / "a" / name), pixels(tmp_path / "c" / name))


def test_degrade_shrinks_and_makes_all_tasks(photos, tmp_path):
    assert run("degrade", photos / "p0.png", "-o", tmp_path / "a", "--max-side", "40").exit_code == 0
    tasks = {task for task, _, _ in find_pairs(tmp_path / "a")}
    assert tasks == {"haze", "rain", "snow", "lowlight", "blur"}
    assert pixels(tmp_path / "a" / "snow" / "target" / "p0.png").shape == (32, 40, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.png"], "missing.png"),
        (["photos", "--task", "fog"], "fog"),
        (["photos", "--strength", "0.9", "0.2"], "0.9"),
    ],
)
def test_degrade_mistakes(photos, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    result = run("degrade", *arguments, "-o", tmp_path / "a")
    assert result.exit_code == 2 and words in result.stderr and len(result.stderr.splitlines()) == 1


def test_train_then_restore_with_the_result(photos, tmp_path):
    big = tmp_path / "big"
    big.mkdir()
    for photo in photos.iterdir():
        Image.open(photo).resize((320, 280)).save(big / photo.name)
    command = ("train", "--recipe", "debug", "--data", big, "--out", tmp_path / "run", "--budget", "5m")
    result = run(*command, "--device", "cpu", "--dtype", "fp32")
    assert result.exit_code == 0, result.output
    result = run("restore", photos, "-o", tmp_path / "out", "--model", tmp_path / "run" / "model", "--dtype", "fp32")
    assert result.exit_code == 0, result.output
    assert pixels(tmp_path / "out" / "p0.png").shape == (64, 80, 3)


def test_data_speed_reports_the_loader_alone(photos):
    big = photos.parent / "big"
    big.mkdir()
    for photo in photos.iterdir():
        Image.open(photo).resize((320, 280)).save(big / photo.name)
    result = run("data", "speed", "--data", big, "--size", "64", "--seconds", "0.5")
    assert result.exit_code == 0 and "images/s" in result.output, result.output


def test_train_mistakes(photos, tmp_path):
    for extra in (["--recipe", "nope"], ["--stage", "nope"], ["--budget", "soon"], ["--device", "abacus"]):
        result = run("train", "--data", photos, "--out", tmp_path / "run", *extra)
        assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1 and "Traceback" not in result.output


def test_evaluate_names_its_protocol_and_logs_every_image(photos, model_folder, tmp_path):
    run("degrade", photos, "-o", tmp_path / "pairs", "--task", "haze", "--task", "clean")
    log = tmp_path / "scores.jsonl"
    result = run("evaluate", tmp_path / "pairs", "--model", model_folder, "--dtype", "fp32", "--json", log)
    assert result.exit_code == 0, result.output
    assert "scikit-image" in result.output and "haze" in result.output
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(rows) == 4 and all(row["sha256"] and row["protocol"] for row in rows)
    assert all(row["psnr_input"] == 100.0 for row in rows if row["task"] == "clean")


def test_evaluate_at_several_weights_and_with_controls(photos, tmp_path):
    """W = 0 from zeros does not look at the photo at all; the controls say so where they are printed."""
    torch.manual_seed(0)
    checkpoints.save_model(RestoreVAR(debug()), tmp_path / "model")
    run("degrade", photos, "-o", tmp_path / "pairs", "--task", "haze")
    common = ("evaluate", tmp_path / "pairs", "--model", tmp_path / "model", "--dtype", "fp32")
    log = tmp_path / "weights.jsonl"
    result = run(*common, "--fidelity", "0", "--fidelity", "1", "--json", log)
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [row["fidelity"] for row in rows] == [0, 0, 1, 1]
    assert rows[0]["psnr_restored"] != rows[2]["psnr_restored"]
    for latent in ("zeros", "degraded"):
        result = run(*common, "--latent", latent)
        assert result.exit_code == 0 and f"latent: {latent}" in result.output
    result = run(*common, "--latent", "nonsense")
    assert result.exit_code == 2 and "zeros or degraded" in result.stderr


def test_scores_are_those_of_scikit_image():
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    rng = np.random.default_rng(0)
    target, degraded, restored = (rng.integers(0, 256, (16, 20, 3), np.uint8) for _ in range(3))
    values = score(restored, degraded, target)
    assert values["psnr_input"] == pytest.approx(peak_signal_noise_ratio(target, degraded))
    assert values["ssim_restored"] == pytest.approx(structural_similarity(target, restored, channel_axis=2))


def test_summary_is_the_mean_per_task():
    rows = [Score("haze", "a", 10, 14, 0.5, 0.7), Score("haze", "b", 20, 22, 0.7, 0.9), Score("rain", "a", 1, 2, 0, 1)]
    haze, rain = summarise(rows)
    assert (haze.n, haze.psnr_input, haze.gain) == (2, 15, 3) and haze.ssim_restored == pytest.approx(0.8)
    assert rain.n == 1


def test_pairs_without_target_are_named(photos, tmp_path):
    run("degrade", photos, "-o", tmp_path / "pairs", "--task", "rain")
    (tmp_path / "pairs" / "rain" / "target" / "p1.png").unlink()
    with pytest.raises(UserError, match=r"p1\.png"):
        find_pairs(tmp_path / "pairs")


def test_convert(official, tmp_path):
    for part in ("vae", "var"):
        torch.save(official[part], tmp_path / f"{part}.pth")
    files = ("--vae", tmp_path / "vae.pth", "--transformer", tmp_path / "var.pth")
    result = run("convert", *files, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert checkpoints.load_model(str(tmp_path / "out")).sha256 in result.output
    result = run("convert", "--vae", tmp_path / "no.pth", "--transformer", tmp_path / "var.pth", "-o", tmp_path / "x")
    assert result.exit_code == 2 and "no.pth" in result.stderr and not (tmp_path / "x").exists()
