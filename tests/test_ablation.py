"""The ablation study: shared stages trained once, equal steps, resumed, and not stopped by one failure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import wave_photos
from safetensors.torch import load_file
from typer.testing import CliRunner

from restorevar.cli import app
from restorevar.errors import UserError
from restorevar.models import RestoreVAR
from restorevar.training import ablation
from restorevar.training.ablation import FULL, SCALES, VARIANTS, Options, Row, ablate, table
from restorevar.training.overrides import apply_overrides
from restorevar.training.recipes import STAGE_GROUPS

STAGES = ("autoencoder", "codebook", "transformer", "refiner", "decoder")
#: Two steps of two samples a stage.
TINY = [f"{stage}.schedule.{name}=2" for stage in STAGES for name in ("steps", "batch")]


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Six smooth colour pictures of 96 x 90."""
    return wave_photos(tmp_path_factory.mktemp("photos"), 6, 90, 96, wave=20)


def options(photos: Path, *only: str) -> Options:
    return Options([photos], budget="10m", only=only, settings=TINY, crops=2)


@pytest.fixture(scope="module")
def study(photos, tmp_path_factory) -> tuple[Path, list[Row]]:
    """The full model and one without a refiner."""
    out = tmp_path_factory.mktemp("study")
    return out, ablate(out, options(photos, "refiner-none"))


@pytest.fixture
def counted(monkeypatch) -> list[tuple[str, str]]:
    """(variant, stage) of everything that is trained from here on."""
    trained: list[tuple[str, str]] = []
    fit = ablation.fit

    def counting(model, stage, setting):
        trained.append((setting.folder.parent.name, stage.name))
        fit(model, stage, setting)

    monkeypatch.setattr(ablation, "fit", counting)
    return trained


def model_of(out: Path, variant: str) -> dict[str, torch.Tensor]:
    return load_file(out / variant / "decoder" / "model" / "model.safetensors")


def test_rows_and_files(study):
    out, rows = study
    assert [row.variant for row in rows] == [FULL, "refiner-none"] and not any(row.error for row in rows)
    full, without = rows
    assert full.parameters > without.parameters and without.refiner_parameters == 0
    assert full.steps == dict.fromkeys(STAGES, 2) and without.steps == {"decoder": 2}
    assert set(full.tasks) == {"haze", "rain", "snow", "blur", "lowlight"} and len(full.crops) == 10
    assert full.psnr == pytest.approx(np.mean(full.crops), abs=1e-3) and full.seconds_per_image > 0
    saved = json.loads((out / "ablation.json").read_text())
    assert [row["variant"] for row in saved["rows"]] == [FULL, "refiner-none"] and saved["about"]["scale"] == "debug"
    assert [row["variant"] for row in saved["bounds"]] == ["(degraded)", "(coded)"]
    lines = (out / "ablation.md").read_text().splitlines()
    assert len(lines) == 6 and lines[-1].startswith("| refiner-none | no refiner | table 4 |") and "±" in lines[-1]


def test_earlier_stages_are_shared(study):
    out, _ = study
    assert {p.name for p in (out / FULL).iterdir()} == set(STAGE_GROUPS)
    assert [p.name for p in (out / "refiner-none").iterdir()] == ["decoder"]
    full, without = model_of(out, FULL), model_of(out, "refiner-none")
    for name, tensor in without.items():
        if name.startswith(("transformer", "vqvae.encoder", "vqvae.quantizer")):
            assert torch.equal(tensor, full[name]), name


def test_resume_skips_what_is_done(study, photos, counted):
    out, rows = study
    told: list[str] = []
    again = ablate(out, options(photos, "refiner-none"), told.append)
    assert counted == [] and again == rows and told == [f"{row.variant}: {row.psnr:.2f} dB" for row in rows]


def test_one_failure_does_not_stop_the_others(photos, tmp_path, monkeypatch, counted):
    fit = ablation.fit

    def failing(model, stage, setting):
        if not model.config.refiner.hidden:
            raise RuntimeError("out of luck\nand of memory")
        fit(model, stage, setting)

    monkeypatch.setattr(ablation, "fit", failing)
    names = ("refiner-no-hidden", "rollout-argmax")
    rows = {row.variant: row for row in ablate(tmp_path, options(photos, *names))}
    assert rows["refiner-no-hidden"].error == "out of luck" and rows["rollout-argmax"].error is None
    assert "failed: out of luck" in (tmp_path / "ablation.md").read_text()
    assert "NaN" not in (tmp_path / "ablation.json").read_text()
    counted.clear()
    monkeypatch.setattr(ablation, "fit", fit)
    rows = {row.variant: row for row in ablate(tmp_path, options(photos, *names))}
    assert rows["refiner-no-hidden"].error is None
    assert set(counted) == {("refiner-no-hidden", "refiner"), ("refiner-no-hidden", "decoder")}


def test_stopped_and_resumed(photos, tmp_path, monkeypatch, counted):
    fit = ablation.fit

    def stopping(model, stage, setting):
        if stage.name == "refiner":
            raise KeyboardInterrupt
        fit(model, stage, setting)

    monkeypatch.setattr(ablation, "fit", stopping)
    with pytest.raises(KeyboardInterrupt):
        ablate(tmp_path, options(photos, FULL))
    monkeypatch.setattr(ablation, "fit", fit)
    ablate(tmp_path, options(photos, FULL))
    assert [stage for _, stage in counted] == list(STAGES)


def test_other_settings_need_another_folder(study, photos):
    out, _ = study
    with pytest.raises(UserError, match="other budget, seed"):
        ablate(out, replace(options(photos), budget="5m", seed=1))


def test_mistakes_are_told_in_a_line(photos, tmp_path):
    for wrong in (
        {"scale": "huge"},
        {"only": ["nope"]},
        {"budget": "soon"},
        {"data": [tmp_path / "missing"]},
        {"settings": ["refiner.nope=1"]},
    ):
        with pytest.raises(UserError) as error:
            ablate(tmp_path / "out", replace(options(photos), **wrong))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("scale", SCALES)
def test_every_variant_is_a_model_and_differs(scale):
    """Settings that no longer exist, or that change nothing, would make a row that means nothing."""
    full = apply_overrides(*SCALES[scale](), ())
    assert full[0].fidelity is None
    for variant in VARIANTS:
        config, stages = apply_overrides(*SCALES[scale](), variant.settings)
        assert variant.seed or variant.without or variant.name == FULL or (config, stages) != full, variant.name
        with torch.device("meta"):
            model = RestoreVAR(config)
        for stage in stages:  # absolute positions take windows of one size only
            assert stage.trainable(model)
            native = {(config.window, config.window): 1.0}
            assert getattr(stage, "shapes", native) == native
        decoder = next(stage for stage in stages if stage.name == "decoder")
        assert decoder.loss.perceptual_kind == "encoder"


def test_budget_is_for_all_runs():
    _, stages = SCALES["debug"]()
    seconds = ablation._share_out(600.0, stages)
    runs = {stage: sum(stage in STAGE_GROUPS[group] for v in VARIANTS for group in v.groups) for stage in STAGES}
    assert runs["autoencoder"] == 1 and runs["decoder"] > runs["refiner"] > runs["transformer"] > 1
    assert sum(seconds[stage] * runs[stage] for stage in STAGES) == pytest.approx(600)


def test_table_pairs_the_crops():
    full, other = Row(FULL, "", "", psnr=20.0, crops=[19.0, 21.0]), Row("x", "", "", psnr=21.0, crops=[20.0, 22.0])
    assert table([full, other]).splitlines()[-1].endswith("| +1.00 ± 0.00 |")


def test_command(study, photos, monkeypatch):
    out, rows = study
    arguments = ["ablate", "--data", str(photos), "-o", str(out), "--only", "refiner-none", "--device", "cpu"]
    given: list[Options] = []

    def answering(out, options, tell):
        given.append(options)
        return [*rows, Row("x", "", "", error="out of luck")]

    monkeypatch.setattr(ablation, "ablate", answering)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1 and "| refiner-none | no refiner |" in result.output
    assert (given[0].only, given[0].scale, given[0].budget) == (["refiner-none"], "debug", "20m")
    monkeypatch.undo()
    result = CliRunner().invoke(app, arguments)  # the study of the tests has other settings
    assert result.exit_code == 2 and "holds an ablation with other" in result.output
