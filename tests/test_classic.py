"""The classic methods: that they do what their papers say, for their tasks only, and stand beside the model."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from typer.testing import CliRunner

from restorevar import checkpoints
from restorevar.cli import app
from restorevar.errors import UserError
from restorevar.evaluation.beside import find_beside
from restorevar.evaluation.methods import CLASSICS, Method
from restorevar.evaluation.methods.classic.dark_channel import air_light, dark_channel
from restorevar.evaluation.methods.classic.guided_filter import guided_filter
from restorevar.evaluation.pairs import Pair
from restorevar.evaluation.results import METRICS
from restorevar.evaluation.rows import read_rows
from restorevar.models.regression import RegressionConfig, RegressionNet


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def photo() -> np.ndarray:
    """[150, 226, 3] uint8: a cat, at half the size."""
    return np.asarray(Image.fromarray(data.chelsea()).reduce(2))


def hazy(clean: np.ndarray, air: float = 0.9) -> np.ndarray:
    """Denser to the right: transmission from 0.8 to 0.4."""
    t = np.linspace(0.8, 0.4, clean.shape[1])[None, :, None]
    return np.round(255 * (clean / 255 * t + air * (1 - t))).astype(np.uint8)


def dark(clean: np.ndarray) -> np.ndarray:
    return np.round(clean * 0.15).astype(np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    a, b = (x / 255 if x.dtype == np.uint8 else x for x in (a, b))
    return float(-10 * np.log10(np.mean((a - b) ** 2)))


def restored(name: str, image: np.ndarray) -> np.ndarray:
    method: Method = CLASSICS[name]
    return method.restore(Pair("d", "haze", "a.png", Path("a.png")), image)


# ------------------------------------------------------------------------------------------------ what they do


def test_guided_filter_at_both_ends():
    """Of itself with next to no eps: itself. With a flat guide or a large eps: means of means. Not across edges."""
    plane = np.random.default_rng(0).random((40, 50))
    assert guided_filter(plane, plane, 5, 1e-9) == pytest.approx(plane, abs=1e-5)
    assert guided_filter(3 * plane + 1, plane, 5, 1e-9) == pytest.approx(3 * plane + 1, abs=1e-4)
    smooth = guided_filter(plane, plane, 5, 1e3)
    assert smooth == pytest.approx(guided_filter(plane, np.full_like(plane, 0.5), 5, 1e-3), abs=1e-3)
    assert smooth.std() < 0.2 * plane.std() and smooth.mean() == pytest.approx(plane.mean(), abs=0.02)
    step = np.where(np.arange(50) < 25, 0.2, 0.8) * np.ones((40, 1))
    noisy = step + np.random.default_rng(1).normal(0, 0.1, step.shape)
    kept = guided_filter(noisy, step, 5, 1e-3)
    assert np.abs(kept - step).mean() < 0.04 and np.ptp(kept[:, 24:26], axis=1).min() > 0.45


def test_guided_filter_counts_what_lies_inside_the_border():
    flat = np.full((20, 30), 0.7)
    assert guided_filter(flat, np.random.default_rng(0).random(flat.shape), 8, 1e-3) == pytest.approx(flat)


def test_dark_channel_by_hand():
    image = np.ones((9, 9, 3))
    image[4, 4, 1] = 0.25
    found = dark_channel(image, 3)
    assert (found[3:6, 3:6] == 0.25).all() and found.sum() == 81 - 9 * 0.75
    image[4, 4] = (1.0, 1.0, 0.95)
    image[0, 0] = image[8, 8] = 0.5
    haziest = np.where(np.arange(81) % 40 == 0, 1.0, 0.0).reshape(9, 9)  # pixels (0, 0), (4, 4), (8, 8)
    assert air_light(image, haziest, 3 / 81) == pytest.approx([1.0, 1.0, 0.95])


def test_dark_channel_takes_away_haze():
    clean = photo()
    assert psnr(restored("dark-channel", hazy(clean)), clean) > psnr(hazy(clean), clean) + 4


def test_lime_brightens_and_keeps_hue():
    clean = photo()
    found = restored("lime", dark(clean))
    assert found.mean() > 3 * dark(clean).mean() / 255
    assert psnr(found, clean) > psnr(dark(clean), clean) + 4
    # The three channels are divided by the same, so their ratios stay where nothing is cut off.
    image, inside = dark(clean) / 255, (found.max(axis=2) < 1) & (dark(clean).min(axis=2) > 5)
    ratios = found[inside] / image[inside]
    assert inside.mean() > 0.5 and np.ptp(ratios, axis=1).max() < 1e-3 * ratios.max()


def test_clahe_spreads_lightness_and_keeps_colour():
    from skimage.color import rgb2lab

    clean = photo()
    image = dark(clean)
    found = restored("clahe", image)
    assert psnr(found, clean) > psnr(image, clean) + 4
    before, after = rgb2lab(image), rgb2lab(found)
    assert after[..., 0].std() > 2 * before[..., 0].std()
    assert np.median(np.abs(after[..., 1:] - before[..., 1:])) < 1


@pytest.mark.parametrize("name", CLASSICS)
def test_whatever_the_picture(name):
    """Black, white, one pixel: numbers in [0, 1], of the same size, and the input left as it was."""
    noise = np.random.default_rng(0).integers(0, 256, (7, 23, 3), dtype=np.uint8)
    for image in (np.zeros((5, 6, 3), np.uint8), np.full((40, 30, 3), 255, np.uint8), noise[:1, :1], noise):
        given = image.copy()
        found = restored(name, image)
        assert found.shape == image.shape and found.dtype == np.float32 and np.array_equal(image, given)
        assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1
    assert CLASSICS[name].sha256 == "" and CLASSICS[name].settings


def test_without_scipy_the_remedy_is_told(monkeypatch):
    for name in [m for m in sys.modules if m.split(".")[0] in ("scipy", "skimage")]:
        monkeypatch.setitem(sys.modules, name, None)
    for name in CLASSICS:
        with pytest.raises(UserError, match=r"restorevar\[eval\]"):
            restored(name, np.zeros((20, 20, 3), np.uint8))


# -------------------------------------------------------------------------------------------------- evaluate


@pytest.fixture
def pairs(tmp_path):
    """A pair of haze, of low light and of rain each."""
    clean = photo()[:96, :128]
    for task, degraded in (("haze", hazy(clean)), ("lowlight", dark(clean)), ("rain", hazy(clean))):
        for kind, image in (("input", degraded), ("target", clean)):
            (tmp_path / "pairs" / task / kind).mkdir(parents=True)
            Image.fromarray(image).save(tmp_path / "pairs" / task / kind / "cat.png")
    return tmp_path / "pairs"


@pytest.mark.parametrize(("name", "task"), [("dark-channel", "haze"), ("clahe", "lowlight"), ("lime", "lowlight")])
def test_evaluate_scores_the_pairs_of_its_task(pairs, tmp_path, name, task):
    log = tmp_path / "rows.jsonl"
    command = ("evaluate", pairs, "--method", name, "--json", log, "--metrics", "psnr,gmsd")
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert f"2 of 3 images are left out: {name} is for {task} only" in result.stderr
    (found,) = read_rows(log)
    assert (found.method, found.task, found.sha256) == (name, task, "")
    assert found.settings == CLASSICS[name].settings and found.scores["psnr"] > found.before["psnr"] + 3
    assert "1 of 1 images are in" in run(*command).stderr


def test_evaluate_mistakes(pairs):
    result = run("evaluate", pairs / "rain", "--method", "lime")
    assert result.exit_code == 2 and "for lowlight only" in result.stderr and "Traceback" not in result.output
    result = run("evaluate", pairs, "--method", "lime", "--checkout", pairs)
    assert result.exit_code == 2 and "run here" in result.stderr
    result = run("evaluate", pairs / "rain", "--method", "lime", "--task", "lowlight", "--name", "mine")
    assert (
        result.exit_code == 0 and result.stdout.splitlines()[1].startswith("mine") and CLASSICS["lime"].name == "lime"
    )


# ---------------------------------------------------------------------------------------------------- results


@pytest.fixture
def held_out(pairs, tmp_path):
    """As `restorevar results` takes it, with a clean pair and a photo without truth."""
    root = tmp_path / "heldout"
    (root / "pairs").mkdir(parents=True)
    for task in ("haze", "lowlight"):
        (pairs / task).rename(root / "pairs" / f"{task}_cat")
    clean = Image.fromarray(photo()[:96, :128])
    for place in ("pairs/clean_cat/input", "pairs/clean_cat/target", "real/rain"):
        (root / place).mkdir(parents=True)
        clean.save(root / place / "cat.png")
    return root


def models(tiny, folder):
    torch.manual_seed(0)
    net = RegressionNet(RegressionConfig(width=8, encoder=(1, 1), middle=1, decoder=(1, 1)))
    checkpoints.save_model(tiny, folder / "ours")
    checkpoints.save_model(net, folder / "other" / "plain")
    return folder / "ours", folder / "other" / "plain"


def cells_of(section: str) -> dict[tuple[str, str], list[str]]:
    """(metric, data set) -> the cells after it, of the section's tables."""
    found = {}
    for table in section.split("### ")[1:]:
        for line in table.splitlines():
            if line.startswith("| "):
                label, *cells = (cell.strip() for cell in line.strip("|").split("|"))
                found[table.split("\n")[0], label] = cells
    return found


def test_results_beside_other_methods(held_out, tiny, tmp_path):
    ours, plain = models(tiny, tmp_path)
    out, log = tmp_path / "results.md", tmp_path / "work" / "rows.jsonl"
    command = ["results", held_out, "-o", out, "--work", log.parent, "--model", ours, "--device", "cpu"]
    command += ["--dtype", "fp32", "--protocol", "saved-8bit", "--metrics", "psnr,gmsd,sharpness,noise"]
    assert run(*command).exit_code == 0
    alone, rows = out.read_text(), read_rows(log)
    assert "Beside" not in alone and "--beside" not in alone and len(rows) == 4
    beside = ("--beside", "dark-channel", "--beside", "lime", "--beside", plain)
    result = run(*command, *beside)
    assert result.exit_code == 0, result.output
    assert f"{4 + 1 + 1 + 3} scored images" in result.output
    text = out.read_text()
    # What was there stays, the model is not restored again, and no place on this machine is told.
    assert alone.split("## ", 1)[1] in text and read_rows(log)[:4] == rows and str(tmp_path) not in text
    assert "--beside dark-channel --beside lime --beside plain`" in text
    section = text[text.index("## Beside other methods") :]
    assert "He, Sun, Tang 2009" in section and "; for haze only; omega 0.95" in section
    assert "**other/plain**: a model of the kind regression" in section
    cells = cells_of(section)
    assert list(dict.fromkeys(metric for metric, _ in cells)) == ["PSNR", "GMSD", "Sharpness"]
    ours_name = f"{tmp_path.name}/ours"
    assert cells["PSNR", "data set"] == ["n", "input", ours_name, "dark-channel", "lime", "other/plain"]
    haze, low, clean = (cells["PSNR", f"{task}_cat"] for task in ("haze", "lowlight", "clean"))
    assert haze[0] == "1" and haze[4] == low[3] == "-"
    assert haze[3].startswith("**") and low[4].startswith("**")  # the networks are untrained
    scored = {(row.method, row.dataset): row for row in read_rows(log)}
    assert float(haze[3].strip("*")) == round(scored["dark-channel", "haze_cat"].scores["psnr"], 2)
    assert float(low[1]) == round(scored["lime", "lowlight_cat"].before["psnr"], 2)
    assert cells["PSNR", "all, each set counting alike"][3:5] == ["-", "-"]
    assert clean[1] == clean[3] == clean[4] == "-" and all(float(clean[i].strip("*")) for i in (2, 5))
    assert cells["Sharpness", "clean_cat"][1] != "-" and ("PSNR", "real-rain") not in cells
    for dataset in ("haze_cat", "lowlight_cat"):  # the lower the better
        values = {cell: float(cell.strip("*")) for cell in cells["GMSD", dataset][1:] if cell != "-"}
        assert [v for c, v in values.items() if c.startswith("**")] == [min(values.values())]
    stamp = log.stat().st_mtime_ns
    assert run(*command, *beside).exit_code == 0 and log.stat().st_mtime_ns == stamp and out.read_text() == text


def test_results_beside_mistakes(held_out, tiny, tmp_path):
    ours, _ = models(tiny, tmp_path)
    command = ["results", held_out, "-o", tmp_path / "r.md", "--work", tmp_path / "w", "--model", ours]
    command += ["--device", "cpu", "--dtype", "fp32"]
    for arguments, words in (
        (["--beside", "limes"], "dark-channel, clahe, lime nor a model"),
        (["--beside", tmp_path], "config.json"),
        (["--beside", ours], "is on the page already"),
        (["--beside", "lime", "--beside", "lime"], "is on the page already"),
        (["--beside", "lime", "--protocol", "native-rgb"], "--protocol leaves out"),
        (["--beside", "lime", "--metrics", "noise,piqe"], "--metrics names none"),
    ):
        result = run(*command, *arguments)
        assert result.exit_code == 2 and words in result.stderr, result.output
        assert len(result.stderr.splitlines()) == 1 and not (tmp_path / "r.md").exists()


def test_a_method_with_no_pair_of_its_task_is_left_out(held_out, tiny, tmp_path):
    ours, _ = models(tiny, tmp_path)
    (held_out / "pairs" / "lowlight_cat").rename(tmp_path / "elsewhere")
    command = ["results", held_out, "-o", tmp_path / "r.md", "--work", tmp_path / "w", "--model", ours, "--device"]
    command += ["cpu", "--dtype", "fp32", "--protocol", "saved-8bit", "--metrics", "psnr,noise", "--beside", "lime"]
    result = run(*command)
    assert result.exit_code == 0 and "lime is left out" in result.stderr
    assert "## Beside" not in (tmp_path / "r.md").read_text()


def test_what_stands_beside_takes_only_pairs_with_truth():
    made = [Pair("d", task, f"{task}.png", Path("i"), t) for task in ("haze", "rain") for t in (Path("t"), None)]
    assert [p.image for p in find_beside("dark-channel").pairs(made)] == ["haze.png"]
    assert find_beside("clahe").pairs(made) == []
    assert "gmsd" in METRICS
