"""The degradation report: what it looks at, what is shipped, the commands, and photos left alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import wave_photos
from PIL import Image
from torch import nn
from typer.testing import CliRunner, Result

from restorevar import checkpoints
from restorevar.cli import app
from restorevar.data import mixes
from restorevar.data.degradations import DEGRADATIONS
from restorevar.data.synthesis import make_pairs, seed_for
from restorevar.diagnosis import NAMES, Diagnosis, diagnose
from restorevar.diagnosis.examples import make
from restorevar.diagnosis.measures import BLOCK_MEASURES, GRID, WHOLE_MEASURES, measure
from restorevar.diagnosis.network import DiagnosisNetwork
from restorevar.diagnosis.report import strength_of
from restorevar.diagnosis.training import thresholds_for
from restorevar.diagnosis.view import AREA, MIN_SIDE, view
from restorevar.diagnosis.weights import load_head, save_head, shipped_head
from restorevar.errors import UserError
from restorevar.evaluation.diagnosing import Judged, figures
from restorevar.images import photo_from_pil, read_photo
from restorevar.models import RestoreVAR
from restorevar.models.config import debug

EXAMPLES = Path(__file__).parent.parent / "examples"
PHOTOS = sorted((EXAMPLES / "photos").glob("*.jpg"))
TRUTHS = sorted((EXAMPLES / "truth").glob("*.jpg"))
THRESHOLDS = dict.fromkeys(NAMES, 0.3)


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


# ---------------------------------------------------------------------------------------------------- the report


def found(**strengths: float) -> Diagnosis:
    return Diagnosis({name: strengths.get(name, 0.0) for name in NAMES}, THRESHOLDS)


def test_what_is_seen_is_told_strongest_first() -> None:
    told = found(haze=0.35, lowlight=0.9, rain=0.5, blur=0.29)
    assert told.seen == ("lowlight", "rain", "haze")
    assert told.sentence == "shows strong low light, rain and a little haze"
    assert not told.needs_nothing


def test_what_reaches_no_threshold_needs_nothing() -> None:
    told = found(haze=0.29)
    assert told.needs_nothing and told.seen == ()
    assert str(told) == "needs nothing (haze 0.29, rain 0.00, snow 0.00, lowlight 0.00, blur 0.00)"
    assert told.as_json()["strengths"]["haze"] == 0.29


def test_strength_tells_barely_visible_from_nothing() -> None:
    assert strength_of(0) == 0.2 and strength_of(1) == 1
    assert found(snow=1.0).sentence == "shows strong snow"


# ----------------------------------------------------------------------------------------------- what is looked at


@pytest.mark.parametrize("size", [(1, 1), (3, 3000), (96, 64), (512, 768), (1500, 2000), (2000, 1500)])
def test_any_size_is_shrunken_to_what_is_known(size: tuple[int, int]) -> None:
    seen = view(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    height, width = seen.shape[1:]
    assert min(height, width) >= MIN_SIDE and height * width <= max(AREA * 1.01, 3000 * MIN_SIDE)
    blocks, whole = measure(seen)
    assert blocks.shape == (GRID**2, BLOCK_MEASURES) and whole.shape == (WHOLE_MEASURES,)
    assert blocks.isfinite().all() and whole.isfinite().all()


@pytest.mark.parametrize("level", [0, 128, 255])
def test_measures_of_nothing_are_finite(level: int) -> None:
    blocks, whole = measure(view(np.full((80, 90, 3), level, np.uint8)))
    assert blocks.isfinite().all() and whole.isfinite().all()


def test_sixteen_bits_are_seen_as_eight() -> None:
    pixels = np.asarray(Image.open(PHOTOS[0]))
    assert torch.equal(view(pixels), view(pixels.astype(np.uint16) * 257))


# ----------------------------------------------------------------------------------------------- what is shipped


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_shipped_weights_see_what_the_examples_suffer_from(path: Path) -> None:
    told = diagnose(path)
    assert told.seen[:1] == (path.stem.split("_")[0],)
    assert not told.needs_nothing


@pytest.mark.parametrize("path", TRUTHS, ids=lambda path: path.stem)
def test_shipped_weights_leave_clean_examples_alone(path: Path) -> None:
    assert diagnose(path).needs_nothing, str(diagnose(path))


def test_the_same_however_the_photo_is_given() -> None:
    path = PHOTOS[0]
    image = Image.open(path)
    ways = [path, str(path), image, photo_from_pil(image), read_photo(path), np.asarray(image)]
    assert len({str(diagnose(way)) for way in ways}) == 1


def test_a_large_photo_is_told_as_its_small_self() -> None:
    image = Image.open(EXAMPLES / "photos" / "lowlight_astronaut.jpg")
    large = image.resize((2500, 2500), Image.Resampling.BICUBIC)
    assert diagnose(np.asarray(large)).seen == ("lowlight",)


@pytest.mark.parametrize("thing", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3)), 7])
def test_other_things_are_refused(thing: object) -> None:
    with pytest.raises(UserError, match="cannot diagnose"):
        diagnose(thing)  # type: ignore[arg-type]


def test_shipped_weights_are_small_and_say_where_from() -> None:
    folder = Path(checkpoints.__file__).parents[1] / "weights" / "diagnosis"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2e6
    described = json.loads((folder / "config.json").read_text())
    assert described["sha256"] == checkpoints.file_sha256(folder / "model.safetensors") == shipped_head().sha256
    assert described["training"]["photos"] > 400


def test_weights_come_back_as_they_were(tmp_path: Path) -> None:
    network = DiagnosisNetwork(8).eval()
    digest = save_head(network, THRESHOLDS, tmp_path, {})
    head = load_head(tmp_path)
    blocks, whole = torch.randn(2, GRID**2, BLOCK_MEASURES), torch.randn(2, WHOLE_MEASURES)
    assert torch.equal(head.network(blocks, whole), network(blocks, whole))
    assert head.thresholds == THRESHOLDS and head.sha256 == digest


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_head(tmp_path)
    save_head(DiagnosisNetwork(8), THRESHOLDS, tmp_path, {})
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + b"x")
    with pytest.raises(UserError, match="damaged"):
        load_head(tmp_path)
    weights.write_bytes(good)
    described = json.loads(config.read_text())
    config.write_text(json.dumps({**described, "model": {"width": 9}}))
    with pytest.raises(UserError, match="does not fit its config"):
        load_head(tmp_path)
    config.write_text(json.dumps({**described, "thresholds": {}}))
    with pytest.raises(UserError, match="not the config of a diagnosis"):
        load_head(tmp_path)


# -------------------------------------------------------------------------------------------------- the training


def test_an_example_depends_on_its_seed_alone() -> None:
    clean = torch.randint(0, 256, (3, 300, 400), dtype=torch.uint8)
    (one, its), (same, too) = (make(clean, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, same) and torch.equal(its, too)
    assert one.dtype == torch.uint8 and its.shape == (5,) and (its >= 0).all() and (its <= 1).all()


def test_thresholds_let_few_clean_examples_through() -> None:
    answers = torch.rand(1000, 5, generator=torch.Generator().manual_seed(0)) * 0.8
    strengths = torch.zeros(1000, 5)
    strengths[500:, 0] = 0.5  # what these are told does not count
    answers[500:] = 1
    limits = thresholds_for(answers, strengths)
    for i, name in enumerate(NAMES):
        assert 0.005 < (answers[:500, i] >= limits[name]).float().mean() < 0.035


def test_training_makes_weights_that_diagnose_takes(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    wave_photos(photos, 4, 100, 120, wave=6)
    options = ("--examples", 2, "--epochs", 1, "--workers", 1)
    lines = [run("train-diagnosis", photos, "--out", tmp_path / name, *options).stdout for name in ("a", "b")]
    assert "measured 4 of 4 photographs" in lines[0] and "false alarms on clean examples" in lines[0]
    digests = {json.loads((tmp_path / name / "config.json").read_text())["sha256"] for name in ("a", "b")}
    assert len(digests) == 1, "the same seed gives other weights"
    assert run("diagnose", photos / "0.png", "--weights", tmp_path / "a").exit_code == 0


def test_training_needs_photographs(tmp_path: Path) -> None:
    wave_photos(tmp_path, 2, 64, 64, wave=6)
    result = run("train-diagnosis", tmp_path, "--out", tmp_path / "out")
    assert result.exit_code == 2 and "at least 4 are needed" in result.stderr


# -------------------------------------------------------------------------------------------------- the commands


def test_a_line_a_photo_and_a_bad_file_costs_only_its_own(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no photo")
    result = run("diagnose", PHOTOS[0], bad, TRUTHS[0], "--json", tmp_path / "found.json")
    assert result.exit_code == 1
    assert [line.split(": ")[0] for line in result.stdout.splitlines()] == [str(PHOTOS[0]), str(TRUTHS[0])]
    assert len(result.stderr.splitlines()) == 1 and "bad.jpg" in result.stderr
    first, second = json.loads((tmp_path / "found.json").read_text())
    assert first["input"] == str(PHOTOS[0]) and first["seen"] and set(first["strengths"]) == set(NAMES)
    assert second["needs_nothing"] and second["sentence"] == "needs nothing"


@pytest.mark.parametrize("arguments", [[], ["photo.jpg", "--score", "pairs"], ["no_such_folder/*.jpg"]])
def test_wrong_usage(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("diagnose", *arguments).exit_code == 2


def test_score_of_pairs_with_known_strengths(tmp_path: Path) -> None:
    clean = tmp_path / "clean"
    clean.mkdir()
    for path in TRUTHS[:3]:
        Image.open(path).resize((160, 120)).save(clean / f"{path.stem}.png")
    make_pairs([clean], tmp_path / "pairs", ["lowlight", "haze"])
    result = run("diagnose", "--score", tmp_path / "pairs", "--json", tmp_path / "score.json")
    assert result.exit_code == 0 and "| lowlight | 3 |" in result.stdout
    told = json.loads((tmp_path / "score.json").read_text())
    assert told["tasks"]["clean"]["images"] == 6  # the targets, for want of others
    assert 0 <= told["degradations"]["haze"]["strength_error"] < 0.6


def test_score_of_folders_without_truth(tmp_path: Path) -> None:
    for path in PHOTOS:
        (tmp_path / path.stem.split("_")[0]).mkdir()
        (tmp_path / path.stem.split("_")[0] / path.name).write_bytes(path.read_bytes())
    told = run("diagnose", "--score", tmp_path, "--json", tmp_path / "score.json")
    assert told.exit_code == 0
    rows = json.loads((tmp_path / "score.json").read_text())["degradations"]
    assert all(row["recall"] == 1 and row["auc"] == 1 and row["strength_error"] is None for row in rows.values())


def test_figures_by_hand() -> None:
    judged = [
        Judged("haze", Path("a"), found(haze=0.8), 0.6),
        Judged("haze", Path("b"), found(haze=0.1), 0.2),
        Judged("clean", Path("c"), found(haze=0.4)),
        Judged("clean", Path("d"), found()),
    ]
    haze = figures(judged)["degradations"]["haze"]
    assert haze["precision"] == haze["recall"] == 0.5
    assert haze["auc"] == 0.75
    assert haze["strength_error"] == pytest.approx(0.15) and haze["strength_bias"] == pytest.approx(0.05)
    assert figures(judged)["tasks"]["clean"]["needs_nothing"] == 0.5


def test_manifests_tell_the_strength_that_was_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[float] = []
    blur: Callable[..., torch.Tensor] = DEGRADATIONS["blur"]

    def noting(image: torch.Tensor, strength: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        used.append(float(strength))
        return blur(image, strength, generator)

    monkeypatch.setitem(mixes.DEGRADATIONS, "blur", noting)
    (pair,) = make_pairs([TRUTHS[0]], tmp_path, ["blur"], seed=5, max_side=64)
    assert pair.strength == pytest.approx(used[0], abs=1e-4)
    assert mixes.drawn_strength("blur", (0.2, 0.9), seed_for(5, TRUTHS[0].stem, "blur")) == used[0]


# ---------------------------------------------------------------------------------------------- photos left alone


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    small = RestoreVAR(debug())
    nn.init.normal_(small.fidelity.to_image.out.bias)  # an untrained branch gives the input back
    checkpoints.save_model(small, folder)
    return str(folder)


def test_restore_if_needed_copies_what_needs_nothing(model: str, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.open(EXAMPLES / "photos" / "haze_rocket.jpg").resize((320, 214)).save(photos / "haze.jpg", quality=95)
    (photos / TRUTHS[0].name).write_bytes(TRUTHS[0].read_bytes())
    out, log = tmp_path / "out", tmp_path / "log.jsonl"
    result = run("restore", photos, "-o", out, "--model", model, "--device", "cpu", "--if-needed", "--json", log)
    assert result.exit_code == 0 and "needs nothing, left as it is" in result.stdout
    assert "1 untouched, 1 restored" in result.stdout
    alone, worked = map(json.loads, log.read_text().splitlines())
    assert alone["status"] == "untouched" and alone["diagnosis"]["needs_nothing"]
    assert worked["status"] == "restored" and worked["diagnosis"]["seen"] == ["haze"]
    assert (out / TRUTHS[0].name).read_bytes() == TRUTHS[0].read_bytes()
    assert (out / "haze.jpg").read_bytes() != (photos / "haze.jpg").read_bytes()


def test_another_format_is_written_with_the_same_pixels(model: str, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    options = ("--model", model, "--device", "cpu", "--if-needed", "--batch", 4)
    assert run("restore", TRUTHS[0], "-o", out, *options).exit_code == 0
    assert np.array_equal(np.asarray(Image.open(out)), read_photo(TRUTHS[0]).rgb)
    assert Image.open(out).format == "PNG"


def test_without_being_asked_every_photo_is_restored(model: str, tmp_path: Path) -> None:
    small = tmp_path / "small.png"
    Image.open(TRUTHS[0]).resize((96, 64)).save(small)
    log = tmp_path / "log.jsonl"
    run("restore", small, "-o", tmp_path / "out", "--model", model, "--device", "cpu", "--json", log)
    record = json.loads(log.read_text())
    assert record["status"] == "restored" and record["diagnosis"] is None
