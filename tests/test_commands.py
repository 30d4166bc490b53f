"""degrade, train, convert, models: end to end through the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from restorevar import checkpoints
from restorevar.cli import app
from restorevar.evaluation.pairs import find_pairs


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
    assert {pair.task for pair in find_pairs(tmp_path / "a")} == {"haze", "rain", "snow", "lowlight", "blur"}
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


def test_average(tiny, tmp_path):
    checkpoints.save_model(tiny, tmp_path / "a")
    result = run("average", tmp_path / "a", tmp_path / "a", "--share", "1", "--share", "3", "-o", tmp_path / "mean")
    assert result.exit_code == 0, result.output
    assert checkpoints.load_model(tmp_path / "mean").sha256 in result.output
    wrong = (
        (("--share", "1"), "1 shares"),
        (("--dtype", "int8"), "int8"),
        (("--clean", tmp_path / "none"), "none: not a folder"),
    )
    for extra, words in wrong:
        result = run("average", tmp_path / "a", tmp_path / "a", "-o", tmp_path / "x", *extra)
        assert result.exit_code == 2 and words in result.stderr and len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "x").exists()


def test_convert(official, tmp_path):
    for part in ("vae", "var"):
        torch.save(official[part], tmp_path / f"{part}.pth")
    files = ("--vae", tmp_path / "vae.pth", "--transformer", tmp_path / "var.pth")
    result = run("convert", *files, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert checkpoints.load_model(str(tmp_path / "out")).sha256 in result.output
    result = run("convert", "--vae", tmp_path / "no.pth", "--transformer", tmp_path / "var.pth", "-o", tmp_path / "x")
    assert result.exit_code == 2 and "no.pth" in result.stderr and not (tmp_path / "x").exists()
