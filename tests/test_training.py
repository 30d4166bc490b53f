"""Every stage runs, learns, resumes and leaves a loadable model; on tiny models and made-up photographs."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import wave_photos
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from restorevar.checkpoints import load_model
from restorevar.cli import app
from restorevar.data.mixes import MIXES
from restorevar.data.pairs import PairSource, Source
from restorevar.data.synthesis import make_pairs
from restorevar.errors import UserError
from restorevar.models import RestoreVAR
from restorevar.models.config import debug
from restorevar.training import recipes, rollouts
from restorevar.training.average import Average
from restorevar.training.fidelity_stage import BranchStage
from restorevar.training.image_loss import ImageLoss
from restorevar.training.losses import detail_psnr, gradient_l1, psnr, ssim
from restorevar.training.overrides import apply_overrides
from restorevar.training.replay import Cache, Replay, RoundPlan, Share, _Rounds
from restorevar.training.reporting import Report
from restorevar.training.run import Options, make_accelerator, parse_budget, train
from restorevar.training.trainer import MAX_BAD_STEPS, Schedule, Setting, fit
from restorevar.training.transformer_stage import TransformerStage
from restorevar.training.vqvae_stage import AutoencoderStage, CodebookStage, TokenizerStage

STAGES = [stage.name for stage in recipes.debug()]


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Six smooth colour pictures of 300 x 280."""
    return wave_photos(tmp_path_factory.mktemp("photos"), 6, 280, 300, wave=60)


def log_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def setting(photos: Path, out: Path, **options) -> Setting:
    """What `train` would make of these."""
    out.mkdir(parents=True, exist_ok=True)
    return Setting(PairSource(photos, seed=0), out, make_accelerator("cpu", torch.float32), Report(out), **options)


def debug_stage(name: str, **schedule):
    stage = next(stage for stage in recipes.debug() if stage.name == name)
    stage.schedule = replace(stage.schedule, **schedule)
    return stage


# --------------------------------------------------------------------------------------------------- whole runs


def test_all_stages_end_to_end(photos, tmp_path):
    run = tmp_path / "run"
    folder = train(run, Options("debug", [photos], budget="10m"))
    done = [row["stage"] for row in log_of(run) if row.get("event") == "done"]
    assert done == STAGES == [name for names in recipes.STAGE_GROUPS.values() for name in names]
    assert all(math.isfinite(v) for row in log_of(run) for v in row.values() if isinstance(v, float))
    restored = load_model(str(folder)).model.restore(torch.zeros(1, 3, 32, 48))
    assert restored.shape == (1, 3, 32, 48)
    assert load_model(str(run / "best")).model.config == debug()
    assert {p.name.split("-")[0] for p in (run / "previews").iterdir()} >= {"transformer", "refiner", "fidelity"}
    assert Image.open(next((run / "previews").glob("fidelity*"))).width == 6 * 256  # a column a task
    about = json.loads((run / "run.json").read_text())
    assert about["samples"] == 5 and about["processes"] == 1 and len(about["fingerprint"]) == 64
    before = log_of(run)
    train(run, Options("debug", [photos], budget="10m"))  # all done: nothing to do
    assert log_of(run) == before


def test_the_stages_of_the_decoder_train_in_bfloat16_on_a_cpu(photos, tmp_path):
    """What lies in the pool is float16, which autocast on a CPU refuses to join."""
    command = [sys.executable, "-m", "restorevar", "train", "--recipe", "debug", "--stage", "decoder"]
    command += ["--device", "cpu", "--dtype", "bf16", "--data", str(photos), "--out", str(tmp_path / "run")]
    subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT, timeout=240)
    rows = log_of(tmp_path / "run")
    assert {row["stage"] for row in rows if row.get("event") == "done"} == set(recipes.STAGE_GROUPS["decoder"])
    assert all(math.isfinite(row["loss"]) for row in rows if "loss" in row)


def test_one_stage_trains_only_its_parts(photos, tmp_path):
    run = tmp_path / "run"
    train(run, Options("debug", [photos], stage="vqvae"))
    before = weights_of(run)
    train(run, Options("debug", [photos], stage="transformer"))
    after = weights_of(run)
    changed = {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}
    assert changed == {"transformer"}


def test_real_pairs_join_by_manifest(photos, tmp_path):
    """A manifest alone is enough, and with photographs it is mixed in by its weight."""
    make_pairs([photos], tmp_path / "pairs", ["haze", "rain"])
    manifest = tmp_path / "pairs" / "pairs.json"
    train(tmp_path / "alone", Options("debug", pairs=[manifest], stage="vqvae"))
    assert log_of(tmp_path / "alone")
    mixed = PairSource([Source(photos, 1.0)], [Source.parse(f"{manifest}=3")], seed=0)
    tasks = mixed.pairs("x", range(200), 16, 16).tasks
    real = sum(task in ("haze", "rain") for task in tasks) / len(tasks)
    assert 0.75 < real < 0.95  # three quarters, and some of the synthetic ones are haze or rain too
    assert set(mixed.validation_tasks()) == {"haze", "rain", "snow", "lowlight", "blur", "clean"}


def test_another_mix_degrades_the_same_photos_otherwise(photos, tmp_path):
    """What a manifest has stays as it is; the source it came from too."""
    make_pairs([photos], tmp_path / "pairs", ["haze"])
    source = PairSource([Source(photos)], [Source(tmp_path / "pairs" / "pairs.json")], seed=0)
    before = source.pairs("x", range(60), 16, 16)
    snow = source.drawn_by(replace(MIXES["train"], weights={"snow": 1.0}))
    assert (
        set(snow.pairs("x", range(60), 16, 16).tasks) == {"snow", "haze"} and snow.fingerprint() != source.fingerprint()
    )
    after = source.pairs("x", range(60), 16, 16)
    assert after.tasks == before.tasks and torch.equal(after.degraded, before.degraded)


@pytest.mark.parametrize(
    ("recipe", "group", "stage"), [("debug", "decoder", "branch"), ("regression", None, "regression")]
)
def test_an_unknown_mix_is_named(photos, tmp_path, recipe, group, stage):
    with pytest.raises(UserError, match=rf"{stage}\.mix=most: no such mix; there are train, detail, focus, eval"):
        train(tmp_path, Options(recipe, data=[photos], stage=group, settings=[f"{stage}.mix=most"]))


def test_bad_files_are_told_once_and_left_out(photos, tmp_path, caplog):
    """One unreadable photo, one truth that is gone, one of another size: the others go on serving."""
    make_pairs([photos], tmp_path, ["haze"])
    inputs, targets = tmp_path / "haze" / "input", tmp_path / "haze" / "target"
    (inputs / "1.png").write_bytes(b"not a picture")
    (targets / "2.png").unlink()
    Image.new("RGB", (90, 90)).save(targets / "3.png")
    source = PairSource(manifests=[Source(tmp_path / "pairs.json")])
    assert source.pairs("s", range(40), 32, 32).clean.shape == (40, 3, 32, 32)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 3 and all(any(name in line for line in told) for name in ("1.png", "2.png", "3.png"))
    for file in inputs.iterdir():
        file.write_bytes(b"")
    with pytest.raises(UserError, match="hardly any"):
        PairSource(manifests=[Source(tmp_path / "pairs.json")]).pairs("s", range(2), 32, 32)


@pytest.mark.parametrize(("level", "target"), [(30, False), (140, True)])
def test_dark_photos_are_trained_on_but_are_no_target_for_low_light(tmp_path, level, target):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (64, 64), (level, level, level)).save(tmp_path / name)
    tasks = PairSource(tmp_path).pairs("s", range(80), 16, 16).tasks
    assert {"clean", "haze", "rain"} <= set(tasks)
    assert any("lowlight" in task for task in tasks) is target


def test_other_tones_are_of_target_and_input_alike(tmp_path):
    Image.new("RGB", (64, 64), (140, 140, 140)).save(tmp_path / "a.png")
    other = replace(MIXES["train"], retaken=1.0)
    pairs = PairSource(tmp_path, mix=other).pairs("s", range(60), 16, 16)
    assert pairs.clean.float().mean() < 140 and len(pairs.clean[:, 0, 0, 0].unique()) > 20
    assert any("lowlight" in task for task in pairs.tasks)
    kept = torch.tensor([task == "clean" for task in pairs.tasks])
    assert kept.any() and (pairs.clean[kept].int() - pairs.degraded[kept].int()).abs().max() <= 4  # JPEG at times
    assert (PairSource(tmp_path, mix=replace(other, retaken=0.0)).pairs("s", range(20), 16, 16).clean == 140).all()


def test_what_other_tones_make_dark_is_no_target_for_low_light(tmp_path):
    Image.new("RGB", (64, 64), (66, 66, 66)).save(tmp_path / "a.png")
    pairs = PairSource(tmp_path, mix=replace(MIXES["train"], retaken=1.0)).pairs("s", range(120), 16, 16)
    dark = pairs.clean.float().mean((1, 2, 3)) < 50
    asked = torch.tensor(["lowlight" in task for task in pairs.tasks])
    assert dark.any() and asked.any() and not (dark & asked).any()


@pytest.mark.parametrize("window", [(128, 128), (96, 160)])
def test_larger_parts_are_fewer_and_image_and_latent_lie_together(window):
    """Also where a part is the whole window: every step has about the same number of pixels."""
    stage = BranchStage(Schedule(lr=1e-3, batch=8), crop=(64, 128))
    grid = (window[0] // 16, window[1] // 16)
    latent = torch.rand(8, 1, *grid)
    picture = latent.expand(8, 3, *grid).repeat_interleave(16, 2).repeat_interleave(16, 3)
    batch = {
        "clean": picture,
        "degraded": -picture,
        "toned": picture / 3,
        "lifted": picture / 2,
        "dice": torch.rand(8, 4),
    }
    sizes = set()
    for step in range(12):
        parts = stage._cut(batch, latent, 16, step)
        sizes.add(tuple(parts["clean"].shape))
        assert torch.equal(parts["clean"][:, :1, ::16, ::16], parts["refined"])
        assert torch.equal(parts["degraded"], -parts["clean"])
        assert torch.equal(parts["lifted"], parts["clean"] / 2) and torch.equal(parts["toned"], parts["clean"] / 3)
    large = min(window[0], 128), min(window[1], 128)
    assert sizes == {(8, 3, 64, 64), (round(8 * 64 * 64 / (large[0] * large[1])), 3, *large)}
    assert BranchStage(Schedule(lr=1e-3, batch=8), crop=())._cut(batch, latent, 16, 0)["clean"] is picture


def test_psnr_as_a_loss_minds_small_errors_more_but_not_the_smallest():
    """Where L1 would hardly look at what is nearly clean; and what is clean but for the last bit is let be."""
    clean = torch.zeros(1, 3, 8, 8)

    def pull(error):
        output = torch.full_like(clean, error, requires_grad=True)
        (-psnr(output, clean, most=34).mean()).backward()
        return float(output.grad.abs().mean())

    assert pull(0.05) > 2 * pull(0.3)
    assert pull(0.05) > 2 * pull(0.005)
    assert float(psnr(clean, clean, most=34)) == pytest.approx(34)
    assert float(psnr(clean + 0.5, clean, most=34)) == pytest.approx(float(psnr(clean + 0.5, clean)), abs=0.05)


def test_detail_as_a_loss_hears_noise_below_an_error_of_tone():
    clean = torch.zeros(1, 3, 40, 52)  # whose sides are no multiples of what counts as tone
    noise = 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))

    def pull(loss, tone):
        output = (clean + noise + tone).requires_grad_()
        (-loss(output, clean, most=42).mean()).backward()
        return float((output.grad * noise).sum())

    assert pull(psnr, 0.4) < 0.1 * pull(psnr, 0.0)
    assert pull(detail_psnr, 0.4) == pytest.approx(pull(detail_psnr, 0.0), rel=1e-3)
    assert float(detail_psnr(clean + 0.4, clean, most=42)) == pytest.approx(42, abs=1e-3)
    assert float(detail_psnr(clean + noise, clean)) == pytest.approx(float(psnr(clean + noise, clean)), abs=0.5)


def test_psnr_as_a_loss_may_come_later(photos, tmp_path):
    clean = torch.zeros(2, 3, 32, 32)
    output = clean + 0.1
    tiny = RestoreVAR(debug())

    def total(step, **weights):
        judge = ImageLoss(**weights).build(tiny, setting(photos, tmp_path))
        return judge(output, clean, tiny.vqvae.decoder.conv_out.weight, step)["image"]

    for name in ("psnr", "detail"):
        later = {"l1": 0.5, name: 0.01, "psnr_start": 3}
        assert torch.equal(total(2, **later), total(2, l1=0.5))
        now = total(3, **later)
        assert torch.equal(now, total(3, **{"l1": 0.5, name: 0.01})) and now < total(2, **later)


def test_rows_marked_as_test_are_not_trained_on(photos, tmp_path):
    make_pairs([photos], tmp_path, ["haze"])
    rows = json.loads((tmp_path / "pairs.json").read_text())
    for i, row in enumerate(rows):
        row["split"] = "test" if i < 2 else "train"
    manifest = tmp_path / "marked.json"
    manifest.write_text(json.dumps(rows))
    part = PairSource(manifests=[Source(manifest)]).parts[0]
    assert [e.image.name for e in part.held_out] == ["0.png", "1.png"] and part.size == 4
    manifest.write_text(json.dumps([row | {"split": "test"} for row in rows]))
    with pytest.raises(UserError, match="nothing to train on"):
        PairSource(manifests=[Source(manifest)])


def test_init_takes_what_fits(photos, tmp_path, capsys):
    train(tmp_path / "one", Options("debug", [photos], stage="vqvae"))
    options = Options(
        "debug", [photos], stage="refiner", init=str(tmp_path / "one" / "model"), settings=["model.refiner.width=32"]
    )
    train(tmp_path / "two", options)
    one, two = weights_of(tmp_path / "one"), weights_of(tmp_path / "two")
    assert all(torch.equal(one[name], two[name]) for name in one if name.startswith("vqvae."))
    assert "of refiner start anew" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------- stages that learn


def test_autoencoder_learns(photos, tmp_path):
    torch.manual_seed(0)
    model = RestoreVAR(debug())
    stage = AutoencoderStage(Schedule(lr=3e-3, batch=4, steps=300, warmup_steps=5), crop=32)
    stage.setup(model, setting(photos, tmp_path))
    before = stage.validate(model)["psnr"]
    fit(model, stage, setting(photos, tmp_path))
    assert stage.validate(model)["psnr"] > before + 3


def test_codebook_fits_the_latents_and_is_used(photos, tmp_path):
    torch.manual_seed(0)
    model = RestoreVAR(debug())
    stage = CodebookStage(Schedule(lr=1e-2, batch=8, steps=60, warmup_steps=5), crop=64)
    fit(model, stage, setting(photos, tmp_path))
    figures = stage.validate(model)
    assert figures["variance_left"] < 0.3 and figures["codes_used"] > 0.5
    scales = [figures[f"codes_used_scale_{k}"] for k in (1, 2, 3, 4)]
    assert all(0 < used <= 1 for used in scales)


def test_restarts_bring_dead_codes_back(photos, tmp_path):
    """All codes but one far away: without restarts nothing would ever choose them."""
    torch.manual_seed(0)
    model = RestoreVAR(debug())
    stage = TokenizerStage(Schedule(lr=1e-4, batch=8, steps=12, warmup_steps=1), crop=64, restart_every=4)
    with torch.no_grad():
        model.vqvae.quantizer.codebook.weight[1:] = 1e3
    fit(model, stage, setting(photos, tmp_path))
    assert stage.validate(model)["codes_used"] > 0.5


def test_transformer_learns_on_rollouts(photos, tmp_path):
    """With its own rollouts in training, the latent error of a free-running rollout falls."""
    torch.manual_seed(0)
    model = RestoreVAR(debug())
    fit(model, CodebookStage(Schedule(lr=1e-2, batch=8, steps=40, warmup_steps=5), crop=64), setting(photos, tmp_path))
    schedule = Schedule(lr=3e-3, batch=8, steps=60, warmup_steps=5)
    stage = TransformerStage(schedule, shapes={(32, 32): 1.0}, self_rollout=0.5, scale_balance=0.5)
    stage.setup(model, setting(photos, tmp_path))
    before = stage.validate(model)
    fit(model, stage, setting(photos, tmp_path))
    after = stage.validate(model)
    assert after["latent_error"] < before["latent_error"]
    assert after["accuracy_scale_1"] >= before["accuracy_scale_1"]
    assert {"psnr", "ssim", "psnr_clean", "accuracy_scale_4"} <= after.keys()


def test_self_rollout_measures_what_is_missing(photos, tmp_path):
    """f_hat before the first scale is nothing; a head that is sure of the right code leaves what quantizing leaves."""
    torch.manual_seed(0)
    model = RestoreVAR(debug()).eval()
    stage = debug_stage("transformer")
    stage.setup(model, setting(photos, tmp_path))
    latent = torch.randn(2, 8, 4, 4)
    read, f_hats = stage._own_rollout(model, torch.randn(2, 8, 4, 4), latent)
    assert read.shape == (2, 29, 8) and len(f_hats) == 4 and not f_hats[0].any()
    quantizer = model.vqvae.quantizer
    tokens = quantizer.tokenize(latent)
    partial = quantizer.partial_latents(tokens, (4, 4))
    sure = 100 * torch.nn.functional.one_hot(torch.cat(tokens, 1), 32).float()
    left = stage._left_over(model, sure, latent, [quantizer.zeros(2, (4, 4)), *partial[:-1]])
    expected = torch.stack([((f - latent) ** 2).mean((1, 2, 3)) / latent.var((1, 2, 3)) for f in partial]).mean()
    assert left.item() == pytest.approx(expected.item(), rel=1e-4)


def test_token_weights_have_mean_one():
    bounds = debug().scales.bounds()
    equal = TransformerStage(Schedule(lr=1, batch=1))._token_weights(bounds)
    assert torch.equal(equal, torch.ones(30))
    balanced = TransformerStage(Schedule(lr=1, batch=1), scale_balance=1.0)._token_weights(bounds)
    assert balanced.mean().item() == pytest.approx(1)
    shares = torch.stack([balanced[a:b].sum() for a, b in bounds])
    assert torch.allclose(shares, shares[0].expand(4))


# ----------------------------------------------------------------------------- interruptions, damage, bad numbers

RUN = ["train", "--recipe", "debug", "--device", "cpu", "--dtype", "fp32", "--stage", "vqvae"]
#: More steps of the first stage, with a checkpoint after every one of them.
STEPS = [
    *("--set", "autoencoder.schedule.steps=40"),
    *("--set", "autoencoder.schedule.checkpoint_seconds=0"),
    *("--set", "autoencoder.schedule.ema=0.9"),
]


def command(photos: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "restorevar", *RUN, "--data", str(photos), "--out", str(out), *more]


ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def undisturbed(photos, tmp_path_factory) -> Path:
    """A run that nobody stopped."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    subprocess.run(command(photos, out, *STEPS), check=True, capture_output=True, env=ENVIRONMENT, timeout=120)
    return out


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_and_resumed_is_bit_identical(photos, undisturbed, tmp_path, number):
    killed = tmp_path / "killed"
    with subprocess.Popen(command(photos, killed, *STEPS), stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        deadline = time.monotonic() + 60
        while not len(list((killed / "checkpoints").glob("autoencoder-*"))) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        process.wait(60)
    assert process.returncode == (130 if number == signal.SIGTERM else -number)
    assert not (killed / "autoencoder.done").exists(), "it was too fast to be killed"
    subprocess.run(command(photos, killed, *STEPS), check=True, capture_output=True, env=ENVIRONMENT, timeout=120)
    assert any(row.get("event") == "resumed" for row in log_of(killed))
    one, two = weights_of(undisturbed), weights_of(killed)
    assert all(torch.equal(one[name], two[name]) for name in one)


class Interrupted(Exception):
    """Stands in for whatever ends a process."""


def interrupted_run(photos: Path, out: Path, at: int):
    """A stage that dies before step `at`, with a checkpoint after each step before."""
    stage = debug_stage("transformer", steps=6, checkpoint_seconds=0.0, ema=0.9)

    def after_step(model, step):
        if step == at:
            raise Interrupted

    stage.after_step = after_step
    with pytest.raises(Interrupted):
        fit(RestoreVAR(debug()), stage, setting(photos, out))


def test_a_damaged_checkpoint_falls_back_to_the_one_before(photos, tmp_path, capsys):
    interrupted_run(photos, tmp_path, 4)
    (tmp_path / "checkpoints" / ".transformer-00000002.part").mkdir()  # of a process killed while it wrote
    folders = sorted((tmp_path / "checkpoints").glob("transformer-*"))
    assert [f.name for f in folders] == ["transformer-00000003", "transformer-00000004"]
    weights = folders[-1] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100] + bytes(100))
    fit(RestoreVAR(debug()), debug_stage("transformer", steps=6, ema=0.9), setting(photos, tmp_path))
    assert "damaged checkpoint passed over" in capsys.readouterr().err
    resumed = next(row for row in log_of(tmp_path) if row.get("event") == "resumed")
    assert resumed["step"] == 3
    assert not list((tmp_path / "checkpoints").iterdir())  # done: nothing left to resume


def test_other_data_than_before_is_told(photos, tmp_path, capsys):
    interrupted_run(photos, tmp_path / "run", 2)
    more = tmp_path / "more"
    more.mkdir()
    for file in photos.iterdir():
        (more / f"new_{file.name}").write_bytes(file.read_bytes())
    fit(RestoreVAR(debug()), debug_stage("transformer", steps=3), setting(more, tmp_path / "run"))
    assert "training data is not what it was" in capsys.readouterr().err


def test_checkpoints_of_another_model_are_told(photos, tmp_path):
    interrupted_run(photos, tmp_path, 2)
    other = debug()
    other = replace(other, transformer=replace(other.transformer, width=48))
    with pytest.raises(UserError, match="of another model"):
        fit(RestoreVAR(other), debug_stage("transformer"), setting(photos, tmp_path))


def test_a_full_disk_is_told_and_costs_nothing(photos, tmp_path, monkeypatch):
    interrupted_run(photos, tmp_path, 2)
    before = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("restorevar.training.checkpointing.save_file", full)
    stage = debug_stage("transformer", steps=6, checkpoint_seconds=0.0)
    with pytest.raises(UserError, match="No space left on device"):
        fit(RestoreVAR(debug()), stage, setting(photos, tmp_path))
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == before


class Poisoned(AutoencoderStage):
    bad: range = range(1, 2)

    def losses(self, model, step, turn):
        losses = super().losses(model, step, turn)
        return losses | {"loss": losses["loss"] * math.nan} if step in self.bad else losses


def test_a_bad_batch_is_left_out_and_reported(photos, tmp_path, capsys):
    model = RestoreVAR(debug())
    fit(model, Poisoned(Schedule(lr=1e-3, batch=2, steps=3), crop=32), setting(photos, tmp_path))
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert "step 1: loss nan" in capsys.readouterr().err


def test_bad_batches_without_end_stop_the_run(photos, tmp_path):
    stage = Poisoned(Schedule(lr=1e-3, batch=2, steps=100), crop=32)
    stage.bad = range(100)
    with pytest.raises(UserError, match=f"{MAX_BAD_STEPS} steps in a row"):
        fit(RestoreVAR(debug()), stage, setting(photos, tmp_path))


# ------------------------------------------------------------------------------- the engine: processes and options


def test_two_processes_give_the_losses_of_one(photos, tmp_path):
    """DDP, and FSDP, over gloo, the same global batch; all stages. Every logged figure agrees."""
    options = ["--set", "fidelity.schedule.steps=4", "--set", "fidelity.paper_path_every=2"]
    arguments = ["-m", "restorevar", "train", "--recipe", "debug", "--data", str(photos), "--device", "cpu", *options]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launches = {"one": [sys.executable], "ddp": torchrun, "fsdp": torchrun}
    for name, launch in launches.items():
        more = ["--dtype", "fp32", "--out", str(tmp_path / name), *(["--shard"] if name == "fsdp" else [])]
        subprocess.run([*launch, *arguments, *more], check=True, capture_output=True, env=ENVIRONMENT, timeout=240)
        assert json.loads((tmp_path / name / "run.json").read_text())["processes"] == (1 if name == "one" else 2)
    for name in ("ddp", "fsdp"):
        one, two = log_of(tmp_path / "one"), log_of(tmp_path / name)
        assert [row["stage"] for row in one] == [row["stage"] for row in two] == STAGES
        for a, b in zip(one, two, strict=True):
            for figure in a.keys() - {"seconds"}:
                if isinstance(a[figure], float):  # Adam divides by tiny gradients: the last digits differ, and grow
                    some = 0.2 if a["stage"] == "fidelity" else 0.02
                    if "codes_used" in figure:
                        some = 1.01 / 32  # they may decide whether one of the 32 codes is used
                    assert a[figure] == pytest.approx(b[figure], abs=some), figure


@pytest.mark.parametrize("name", ["autoencoder", "transformer", "refiner", "decoder", "fidelity"])
def test_accumulation_gives_the_same_gradients(photos, tmp_path, name):
    """One step in two turns moves the weights as one step in one."""
    results = []
    for accumulate in (1, 2):
        torch.manual_seed(0)
        model = RestoreVAR(debug())
        stage = debug_stage(name, steps=1, batch=4)
        if hasattr(stage, "loss"):  # the adaptive weight is a ratio of norms: not the mean of that of its parts
            stage.loss = replace(stage.loss, adversarial=0.0)
        fit(model, stage, setting(photos, tmp_path / str(accumulate), accumulate=accumulate))
        results.append({name: p.clone() for name, p in model.named_parameters()})
    for parameter in results[0]:
        assert torch.allclose(results[0][parameter], results[1][parameter], atol=2e-4), parameter


def test_cache_and_workers_change_nothing(photos, tmp_path):
    """The same weights with finished samples from disk, and with pairs made by other processes."""
    results = []
    for i, options in enumerate(({}, {"cache": True}, {"cache": True}, {"workers": 2})):
        torch.manual_seed(0)
        model = RestoreVAR(debug())
        run = tmp_path / ("cached" if options.get("cache") else str(i))
        (run / "refiner.done").unlink(missing_ok=True)
        fit(model, debug_stage("refiner", steps=4, batch=4), setting(photos, run, **options))
        results.append({k: v.clone() for k, v in model.state_dict().items()})
    assert len(list((tmp_path / "cached" / "cache").rglob("*.safetensors"))) >= 4
    for other in results[1:]:
        assert all(torch.equal(results[0][name], other[name]) for name in other)


def test_a_stage_ends_its_workers(photos, tmp_path):
    """Each holds photos in memory: those of all stages together would not fit."""
    stage = debug_stage("refiner")
    fit(RestoreVAR(debug()), stage, setting(photos, tmp_path, workers=2))
    assert not multiprocessing.active_children()
    assert not any(stage.replay.pool.values())


def test_what_a_worker_needs_can_be_sent_to_it(photos):
    """Where processes are not forked: on macOS, and by Python from 3.14 on."""
    rounds = _Rounds(PairSource(photos), "s", Cache(None, Share(), {(16, 16): 4}))
    assert torch.equal(pickle.loads(pickle.dumps(rounds))[(16, 16), 1].clean, rounds[(16, 16), 1].clean)


def test_a_closed_replay_starts_anew(photos):
    replay = Replay(lambda pairs: {"x": pairs.clean}, PairSource(photos), "s", {(16, 16): 1.0}, 4, Share(), workers=1)
    first = replay.batch(0)["x"]
    replay.close()
    assert torch.equal(replay.batch(0)["x"], first)
    replay.close()


def test_a_signal_to_all_processes_of_a_run_stops_it_with_a_checkpoint(photos, tmp_path):
    """As `timeout` and job schedulers send it: the workers must not die before the trainer has saved."""
    arguments = command(photos, tmp_path, *STEPS, "--workers", "2", "--set", "autoencoder.schedule.steps=100000")
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, env=ENVIRONMENT, start_new_session=True) as process:
        try:
            deadline = time.monotonic() + 120
            while not list((tmp_path / "checkpoints").glob("autoencoder-*")) and time.monotonic() < deadline:
                time.sleep(0.02)
            os.killpg(process.pid, signal.SIGTERM)
            _, told = process.communicate(timeout=120)
        finally:
            process.kill()
    assert (process.returncode, told.decode().splitlines()) == (130, ["restorevar: error: interrupted"])


def test_workers_end_by_the_signal_of_their_parent_alone(photos):
    """One that heeded nobody would keep a run that failed from ending."""
    replay = Replay(lambda pairs: {"x": pairs.clean}, PairSource(photos), "s", {(16, 16): 1.0}, 4, Share(), workers=1)
    replay.batch(0)
    (worker,) = multiprocessing.active_children()
    subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)
    replay.batch(1)
    worker.join(0.5)
    assert worker.is_alive()
    worker.terminate()
    worker.join(60)
    assert worker.exitcode == 0
    replay.close()


def test_the_cache_knows_what_it_was_made_from(photos, tmp_path):
    """Other frozen weights, other samples."""
    for seed in (0, 1):
        torch.manual_seed(seed)
        (tmp_path / "refiner.done").unlink(missing_ok=True)
        fit(RestoreVAR(debug()), debug_stage("refiner"), setting(photos, tmp_path, cache=True))
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize("other", ["batch", "rollout"])
def test_the_cache_knows_how_it_was_made(photos, tmp_path, other):
    """A round of another batch has other samples; how codes are chosen is no weight, and changes the rollouts."""
    config, changed = debug(), replace(debug(), rollout="argmax" if debug().rollout == "expected" else "expected")

    def weights(out: Path, *steps: tuple[int, object]) -> dict[str, torch.Tensor]:
        for batch, variant in steps:
            torch.manual_seed(0)
            model = RestoreVAR(variant)
            (out / "refiner.done").unlink(missing_ok=True)
            fit(model, debug_stage("refiner", batch=batch), setting(photos, out, cache=True))
        return model.state_dict()

    second = (4, config) if other == "batch" else (2, changed)
    fresh, after = weights(tmp_path / "fresh", second), weights(tmp_path / "after", (2, config), second)
    assert all(torch.equal(fresh[name], after[name]) for name in fresh)


@pytest.mark.parametrize("length", [0, 9, -1])
def test_an_unfinished_file_of_the_cache_is_made_again(photos, tmp_path, length):
    options = setting(photos, tmp_path, cache=True)
    torch.manual_seed(0)
    fit(RestoreVAR(debug()), debug_stage("refiner"), options)
    file = next((tmp_path / "cache").rglob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:length])
    (tmp_path / "refiner.done").unlink()
    torch.manual_seed(0)
    fit(RestoreVAR(debug()), debug_stage("refiner"), setting(photos, tmp_path, cache=True))
    assert load_file(file)


def test_a_file_of_the_cache_is_read_once(photos, tmp_path, monkeypatch):
    read = []

    def counting(path):
        read.append(path)
        return load_file(path)

    monkeypatch.setattr("restorevar.training.replay.load_file", counting)
    for expected in (0, 2):
        torch.manual_seed(0)
        (tmp_path / "refiner.done").unlink(missing_ok=True)
        fit(RestoreVAR(debug()), debug_stage("refiner"), setting(photos, tmp_path, cache=True))
        assert len(read) == len(set(read)) == expected


def test_compiled_training_runs(photos, tmp_path, monkeypatch):
    """With the eager backend: what is asked is that all of a stage can be traced, not a minute of a C++ compiler."""
    compiled = []

    def compile_eagerly(module):
        compiled.append(module)
        module._compiled_call_impl = torch.compile(module._call_impl, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", compile_eagerly)
    fit(RestoreVAR(debug()), debug_stage("refiner"), setting(photos, tmp_path, compile=True))
    assert (tmp_path / "refiner.done").is_file() and len(compiled) == 1
    assert not any("_orig_mod" in name for name in weights_of(tmp_path))


def test_tensorboard_gets_the_figures(photos, tmp_path):
    pytest.importorskip("tensorboard")
    train(tmp_path / "run", Options("debug", [photos], stage="refiner", trackers=["tensorboard"]))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert "refiner/valid/psnr_refined" in events.Tags()["scalars"]


# ------------------------------------------------------------------------------------------------------ the parts


def test_samples_follow_from_seed_and_number(photos):
    one, two = PairSource(photos, seed=3), PairSource(photos, seed=3)
    assert torch.equal(one.pairs("s", [5, 6], 32, 40).degraded[1], two.pairs("s", [6], 32, 40).degraded[0])
    assert not torch.equal(one.pairs("s", [5], 32, 40).clean, one.pairs("other", [5], 32, 40).clean)
    first = one.validation(2, 32, 32, "haze")
    again = two.validation(2, 32, 32, "haze")
    assert torch.equal(first.degraded, again.degraded) and first.tasks == ["haze", "haze"]
    assert one.size == 5 and one.fingerprint() == two.fingerprint()


@pytest.mark.parametrize("first", [0, 7, 31])
def test_a_replay_started_anywhere_draws_the_same(photos, first):
    def batches(start: int) -> list[torch.Tensor]:
        replay = Replay(
            lambda pairs: {"x": pairs.clean},
            PairSource(photos, seed=0),
            "s",
            {(16, 16): 1.0, (16, 32): 0.5},
            batch=4,
            share=Share(),
            size=24,
            reuse=3,
        )
        return [replay.batch(step)["x"] for step in range(start, 36)]

    whole = batches(0)
    assert all(torch.equal(a, b) for a, b in zip(whole[first:], batches(first), strict=True))


def test_shares_of_two_processes_make_the_whole_batch(photos):
    def batch(share: Share) -> torch.Tensor:
        source = PairSource(photos, seed=0)
        replay = Replay(lambda pairs: {"x": pairs.clean}, source, "s", {(16, 16): 1.0}, 8, share, size=32, reuse=2)
        turns = [torch.cat([replay.batch(s, t)["x"] for t in range(share.accumulate)]) for s in range(6)]
        return turns[-1]

    whole = batch(Share())
    assert torch.equal(whole, torch.cat([batch(Share(0, 2)), batch(Share(1, 2))]))
    assert torch.equal(whole, batch(Share(accumulate=4)))


def test_rounds_are_reused_and_forgotten():
    plan = RoundPlan({(8, 8): 1.0}, batch=4, share=Share(), size=16, reuse=3, seed=0)
    steps = plan.steps(0)
    taken = [next(steps) for _ in range(40)]
    made = [number for _, _, fresh in taken for number in fresh]
    assert made == sorted(set(made)) and 40 / 3 < len(made) < 40 / 3 + 5
    assert all(len(rounds) <= 4 for _, rounds, _ in taken)


def test_batches_of_all_shapes_have_the_same_pixels():
    plan = RoundPlan({(8, 8): 1.0, (16, 16): 1.0}, batch=16, share=Share(), size=64, reuse=2, seed=0)
    assert plan.batches == {(8, 8): 16, (16, 16): 4}
    assert {plan.shape(step) for step in range(20)} == {(8, 8), (16, 16)}


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
    average = Average({"p": parameter}, 0.9)
    with torch.no_grad():
        parameter.fill_(1.0)
    average.update()
    with average.swapped():
        assert 0 < parameter.item() <= 1
    assert parameter.item() == 1


def test_a_failure_among_averaged_weights_leaves_the_own():
    parameter = torch.nn.Parameter(torch.zeros(1))
    average = Average({"p": parameter}, 0.9)
    with torch.no_grad():
        parameter.fill_(1.0)
    with pytest.raises(Interrupted), average.swapped():
        assert parameter.item() == 0
        raise Interrupted
    assert parameter.item() == 1


def test_schedule_warms_up_and_decays():
    schedule = Schedule(lr=1.0, batch=1, seconds=100, warmup_steps=10)
    assert schedule.rate(0, 0) == pytest.approx(0.1)
    assert schedule.rate(50, 1) > schedule.rate(50, 60) > schedule.rate(50, 100) == pytest.approx(0.02)
    linear = Schedule(lr=1.0, batch=2, epochs=10, decay="linear", floor=0.0, warmup_steps=1).resolved(images=20)
    assert linear.steps == 100 and linear.rate(50, 0) == pytest.approx(0.5)


@pytest.mark.parametrize(("text", "seconds"), [("90m", 5400), ("2h", 7200), ("45s", 45), ("30", 30), ("1d", 86400)])
def test_budgets(text, seconds):
    assert parse_budget(text) == seconds


def test_settings_reach_model_stages_and_losses():
    config, stages = apply_overrides(
        debug(),
        recipes.debug(),
        ["model.condition=discrete", "transformer.self_rollout=0", "decoder.loss.ssim=0", "refiner.schedule.batch=8"],
    )
    by_name = {stage.name: stage for stage in stages}
    assert config.condition == "discrete" and by_name["transformer"].self_rollout == 0
    assert by_name["decoder"].loss.ssim == 0 and by_name["refiner"].schedule.batch == 8


def test_a_branch_can_join_a_model_without_one(photos, tmp_path):
    """The paper's models have no fidelity branch; a later run adds it and keeps all else."""
    config, stages = apply_overrides(replace(debug(), fidelity=None), recipes.debug(), ["model.fidelity.encoder=[2,1]"])
    assert config.fidelity.encoder == (2, 1) and len(stages) == 10
    before = Options("debug", [photos], stage="decoder", settings=["model.fidelity=null"])
    train(tmp_path / "run", before)
    assert load_model(str(tmp_path / "run" / "model")).model.config.fidelity is None
    train(tmp_path / "run", Options("debug", [photos], stage="decoder"))
    assert load_model(str(tmp_path / "run" / "model")).model.config == debug()
    assert (tmp_path / "run" / "fidelity.done").is_file()


def test_tone_focus_and_veil_can_join_a_model_without_them(photos, tmp_path):
    without = [f"model.fidelity.{part}=false" for part in ("dark_channel", "tone", "focus")]
    train(tmp_path / "before", Options("debug", [photos], stage="decoder", settings=without))
    assert not any((tmp_path / "before" / f"{stage}.done").exists() for stage in ("tone", "focus"))
    init = str(tmp_path / "before" / "model")
    options = Options("debug", [photos], stage="decoder", init=init, settings=["branch.scales=1"])
    train(tmp_path / "run", options)
    state = load_model(str(tmp_path / "run" / "model")).model.state_dict()
    for part in ("lifts", "tone.maps", "focus.gains"):
        assert state[f"fidelity.{part}.weight"].any(), part
    lines = (tmp_path / "run" / "log.jsonl").read_text()
    assert "tensors of fidelity start anew" in lines
    for stage in ("tone", "focus"):
        assert (tmp_path / "run" / f"{stage}.done").read_text().startswith("2 steps")


def test_the_tone_is_doubted_in_some_of_the_photos():
    """By what the photo is, whatever it is trained beside: some weaker or stronger, a few quite another."""
    photos = torch.randint(0, 256, (400, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    maps = torch.ones(400, 10, 1, 1)
    doubted = rollouts.doubted(maps, photos)
    assert torch.equal(doubted[7:9], rollouts.doubted(maps[7:9], photos[7:9])) and maps.eq(1).all()
    alike = (doubted == doubted[:, :1]).flatten(1).all(dim=1)
    kept = (doubted == 1).flatten(1).all(dim=1)
    assert kept.float().mean() == pytest.approx(1 - rollouts.DOUBTED, abs=0.06)
    assert (~alike).float().mean() == pytest.approx(rollouts.MISTAKEN, abs=0.05)
    shares = doubted[alike & ~kept][:, 0]
    assert rollouts.LEAST_SHARE <= shares.min() < 0.7 and 1 < shares.max() <= rollouts.MOST_SHARE


@pytest.mark.parametrize(
    "text",
    ["nothing", "nobody.x=1", "model.nope=1", "decoder.loss.ssim=much", "transformer.schedule=3", "model.rollout=bad"],
)
def test_settings_that_are_none_are_told(text):
    with pytest.raises(UserError) as error:
        apply_overrides(debug(), recipes.debug(), [text])
    assert text in str(error.value) and "\n" not in str(error.value)


def test_mistakes_are_told_in_a_line(photos, tmp_path):
    for options in (
        Options("nope", [photos]),
        Options("debug", [photos], stage="nope"),
        Options("debug", [photos], budget="soon"),
        Options("debug", [tmp_path / "missing"]),
        Options("debug", pairs=[tmp_path / "missing.json"]),
        Options("debug"),
        Options("debug", [photos], init="nope"),
    ):
        with pytest.raises(UserError) as error:
            train(tmp_path / "run", options)
        assert "\n" not in str(error.value)


def test_the_command_tells_mistakes_without_traceback(photos, tmp_path):
    result = CliRunner().invoke(app, ["train", "--recipe", "debug", "--out", str(tmp_path / "run")])
    assert result.exit_code == 2 and "nothing to train on" in result.output
    assert "Traceback" not in result.output
