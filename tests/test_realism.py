"""Synthetic photos compared with real ones: what the statistics see, what is covered, the command and its page."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from restorevar.cli import app
from restorevar.data.degradations import DEGRADATIONS
from restorevar.errors import UserError
from restorevar.evaluation.analysis import realism
from restorevar.evaluation.analysis.photo_statistics import FREQUENCIES, SMALLEST, STATISTICS, Measured, measurer
from restorevar.evaluation.analysis.realism import HEADERS, Kind, Options, Sample, study_realism
from restorevar.evaluation.report.distributions import plot

SIDE = 96


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def scene(seed, side=SIDE):
    """Coloured waves with soft noise: bright enough for low light, with detail to lose."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side]
    waves = [
        120 + 40 * np.sin(x / rng.uniform(3, 12) + y / rng.uniform(3, 12) + rng.uniform(0, 6)) + rng.uniform(-20, 20)
        for _ in range(3)
    ]
    return np.clip(np.stack(waves, -1) + rng.normal(0, 6, (side, side, 3)), 0, 255).astype(np.uint8)


def degraded(task, seed=0, strength=0.8):
    image = torch.from_numpy(scene(seed)).permute(2, 0, 1)[None].float() / 255
    made = DEGRADATIONS[task](image, torch.tensor([strength]), torch.Generator().manual_seed(seed))
    return (made[0].permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy()


@pytest.fixture(scope="module")
def measure():
    return measurer()


@pytest.fixture
def folders(tmp_path):
    """Three clean photos; of "real" ones three of low light, darker than any we make, of haze, a kind too many."""
    for i in range(3):
        files = {
            "clean": scene(i, 128),
            "real/Low-light": scene(10 + i, 120) // 250,
            "real/haze": scene(20 + i, 100),
            "real/people": scene(30 + i),
        }
        for folder, pixels in files.items():
            path = tmp_path / folder / f"p{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return tmp_path / "real", tmp_path / "clean"


# -------------------------------------------------------------------------------------------------- the statistics


def test_every_statistic_is_measured_and_finite(measure):
    for photo in (scene(0), np.zeros((64, 70, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8)):
        found = measure(photo)
        assert [*found.figures] == [s.name for s in STATISTICS]
        assert np.isfinite([*found.figures.values()]).all() and found.spectrum_K.shape == FREQUENCIES.shape


@pytest.mark.parametrize(
    ("task", "more", "less"),
    [
        ("haze", ["luma", "dark channel"], ["contrast", "gradient", "saturation"]),
        ("rain", ["specks"], []),
        ("snow", ["specks", "flakes"], []),
        ("lowlight", [], ["luma", "luma spread", "dark channel"]),
        ("blur", ["blur"], ["gradient", "edges", "octave", "slope"]),
    ],
)
def test_each_degradation_moves_its_statistics(measure, task, more, less):
    before, after = measure(scene(0)).figures, measure(degraded(task)).figures
    assert all(after[name] > before[name] for name in more), (before, after)
    assert all(after[name] < before[name] for name in less), (before, after)


def test_directions_and_shares(measure):
    standing = np.zeros((SIDE, SIDE, 3), np.uint8)
    standing[:, ::8] = standing[:, 1::8] = 255
    upright, lying = measure(standing).figures, measure(standing.swapaxes(0, 1)).figures
    assert upright["upright"] > 0.95 and lying["upright"] < -0.95
    assert upright["anisotropy"] > 0.95 and lying["anisotropy"] > 0.95
    assert upright["white"] == pytest.approx(25) and upright["black"] == pytest.approx(75)
    assert upright["specks"] == pytest.approx(25) and upright["flakes"] == 0
    noise = np.random.default_rng(0).normal(128, 10, (128, 128, 1)).repeat(3, -1).round().astype(np.uint8)
    white = measure(noise).figures
    assert white["noise"] == pytest.approx(10, rel=0.1) and abs(white["slope"]) < 0.3 and white["anisotropy"] < 0.1


# -------------------------------------------------------------------------------------------------- the comparison


def samples(values):
    return [
        Sample(f"p{i}", Measured({s.name: float(v) for s in STATISTICS}, np.zeros(15))) for i, v in enumerate(values)
    ]


def test_coverage_counts_what_lies_in_the_middle_of_the_synthetic():
    kind = Kind("rain", samples([-1, 2, 50, 95, 99, 101]), samples(range(101)), samples([0]))
    found = realism._compare(kind, STATISTICS[0])
    assert (found.below, found.inside, found.above) == (2, 2, 2) and found.coverage == pytest.approx(1 / 3)
    assert kind.outside(kind.real[0]) == [s.name for s in STATISTICS] and kind.outside(kind.real[2]) == []
    hardly = Kind("rain", samples([0.004, 0.006]), samples([0, 0, 0]), samples([0]))  # told apart as printed
    assert realism._compare(hardly, STATISTICS[0]).above == 1 and hardly.outside(hardly.real[0]) == ["contrast"]


def test_alike_and_apart():
    same = Kind("rain", samples(range(50)), samples(range(50)), samples([0]))
    found = realism._compare(same, STATISTICS[0])
    assert (found.ks, found.auc) == (0, 0.5) and found.coverage == pytest.approx(0.88)  # 44 of 50 between the ends
    more = realism._compare(Kind("rain", samples(range(100, 120)), samples(range(50)), samples([0])), STATISTICS[0])
    assert (more.ks, more.auc, more.coverage, more.above) == (1, 1, 0, 20) and more.p < 0.01


def test_the_same_cuts_for_each_kind_and_the_same_seed_the_same_figures(folders):
    real, clean = folders
    told = []
    first, again, other = (
        {kind.name: kind for kind in study_realism(Options(real, clean, 3, 64, seed), warn=told.append)}
        for seed in (0, 0, 1)
    )
    assert [*first] == ["haze", "lowlight"] and len(told) == 3 and "people" in told[0]  # in the order of DEGRADATIONS
    figures = [[s.figures for s in kinds["haze"].synthetic] for kinds in (first, again, other)]
    assert figures[0] == figures[1] != figures[2]
    assert [s.figures for s in first["haze"].clean] == [s.figures for s in first["lowlight"].clean]
    assert np.array_equal(first["haze"].clean[0].pixels, first["lowlight"].clean[0].pixels)
    assert not np.array_equal(first["haze"].synthetic[0].pixels, first["haze"].clean[0].pixels)


def test_real_photos_are_never_enlarged(folders):
    real, clean = folders
    kinds = study_realism(Options(real, clean, 2, 160), warn=lambda text: None)
    assert [sample.pixels.shape for kind in kinds for sample in kind.real] == [(100, 100, 3)] * 2 + [(120, 120, 3)] * 2
    assert all(sample.pixels.shape == (160, 160, 3) for kind in kinds for sample in kind.synthetic)


def test_what_is_dark_by_nature_makes_no_low_light(folders):
    real, clean = folders
    for path in clean.iterdir():
        Image.fromarray(np.asarray(Image.open(path)) // 8).save(path)
    told = []
    assert [k.name for k in study_realism(Options(real, clean, 2, 64), warn=told.append)] == ["haze"]
    assert "no clean photo bright enough" in told[-1]


# ----------------------------------------------------------------------------------------------------- the command


def test_command(folders, tmp_path):
    real, clean = folders
    (real / "haze" / "broken.png").write_bytes(b"no photo")
    Image.fromarray(scene(0, SMALLEST - 1)).save(real / "haze" / "tiny.png")
    out, figures, text = (tmp_path / f"r.{suffix}" for suffix in ("html", "json", "md"))
    common = ("analyze", "realism", real, "--photos", clean, "--per-task", 8, "--side", 64)
    result = run(*common, "-o", out, "--json", figures, "--markdown", text)
    assert result.exit_code == 0, result.output
    warnings = result.stderr.splitlines()
    assert len(warnings) == 3 and all("left out" in line for line in warnings)
    assert "people" in warnings[0] and "broken.png" in warnings[1] and "tiny.png" in warnings[2]

    told = json.loads(figures.read_text())
    haze, dark = told["verdicts"]
    assert (haze["subject"], dark["subject"]) == ("haze", "lowlight")
    assert dark["figures"]["luma"] == 0 and "luma 0 % (3 below)" in dark["sentence"]
    groups = [(r["kind"], r["group"]) for r in told["records"]]
    assert groups.count(("lowlight", "real")) == 3 and groups.count(("haze", "clean")) == 8
    assert {r["image"] for r in told["records"] if r["group"] == "real"} >= {"haze/p0.png", "Low-light/p2.png"}
    recorded = [r for r in told["records"] if r["kind"] == "lowlight"]
    medians = [
        np.median([r["luma"] for r in recorded if r["group"] == group]) for group in ("real", "synthetic", "clean")
    ]
    row = next(row for row in told["tables"][2]["rows"] if row[0] == "luma")
    assert [float(cell.split()[0]) for cell in row[1:4]] == pytest.approx(medians, abs=0.006)

    assert text.read_text().count(" | ".join(HEADERS)) == 2 and (tmp_path / "r-spectra.svg").exists()
    page = out.read_text()
    assert page.count('<img src="data:image/webp') == 3 + 8 + 3 + 8 and "http-equiv" in page
    assert page.count('class="plot"') == 2 * len(STATISTICS) and not re.search(r'(src|href)="https?:', page)


def test_mistakes_are_one_line(folders, tmp_path):
    real, clean = folders
    empty = tmp_path / "empty"
    (empty / "haze").mkdir(parents=True)
    cases = {
        "not a folder": (tmp_path / "none", "--photos", clean),
        "no subfolder named": (clean, "--photos", clean),
        "no photographs found": (real, "--photos", empty),
        "could be compared": (empty, "--photos", clean),
        "--side": (real, "--photos", clean, "--side", 32),
        "--per-task": (real, "--photos", clean, "--per-task", 1),
        "name it .html": (real, "--photos", clean, "-o", tmp_path / "r.pdf"),
        "is a folder": (real, "--photos", clean, "--json", tmp_path),
    }
    for words, arguments in cases.items():
        result = run("analyze", "realism", *arguments)
        errors = [line for line in result.stderr.splitlines() if "error" in line]
        assert result.exit_code == 2 and len(errors) == 1 and words in errors[0], (words, result.stderr)
        assert "Traceback" not in result.output
    (real / "lowlight").mkdir()
    with pytest.raises(UserError, match="same kind"):
        study_realism(Options(real, clean), warn=lambda text: None)


def test_a_plot_of_values_needs_no_zero():
    values = {("real", "real"): [("a", 5.0), ("b", 6.0)]}
    plain, signed = (plot("t", "x", values, ["real"], from_zero=zero) for zero in (False, True))
    assert "a: 5<" in plain and "a: +5<" in signed and ">0</text>" not in plain and ">0</text>" in signed
