"""The compared methods: each adapter against a stand-in that behaves like the original, traps included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import stand_ins
import torch
from PIL import Image
from stand_ins import restored
from typer.testing import CliRunner

from restorevar.checkpoints import file_sha256, save_model
from restorevar.cli import app
from restorevar.errors import UserError
from restorevar.evaluation.pairs import find_pairs
from restorevar.evaluation.peers import Setup, available_peers, find_peer, process, published, run_peer
from restorevar.evaluation.peers.collecting import collect, method_of
from restorevar.evaluation.peers.command import Command, as_shell
from restorevar.evaluation.peers.fitting import Fit, resized
from restorevar.evaluation.peers.job import load_job
from restorevar.evaluation.peers.preparing import prepare, write_script
from restorevar.models.regression import RegressionConfig, RegressionNet


def invoke(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def picture(seed, width=70, height=53):
    """Soft blobs: no two alike, nor like each other when small."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(20, 220, (6, 6, 3), np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


def photo_folder(root, task, images):
    for name, image in images.items():
        path = root / task / "input" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return root


@pytest.fixture
def photos(tmp_path):
    """Two tasks; sizes that fit no network and names that programs stumble over."""
    names = ("a.b c.png", "photo.jpeg", "photo.png", "sub/zwölf.png")
    photo_folder(tmp_path / "photos", "haze", {name: picture(i, 61 + 9 * i, 40 + i) for i, name in enumerate(names)})
    return photo_folder(tmp_path / "photos", "lowlight", {"photo.png": picture(9, 64, 48) // 3})


def outputs_of(out):
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))


def run(name, photos, tmp_path, *more):
    checkout = tmp_path / "checkout"
    arguments = ("--pairs", photos, "--checkout", checkout, "--python", sys.executable, "-o", tmp_path / "out")
    result = invoke("peer", "run", name, *arguments, *more)
    assert "Traceback" not in result.output
    return result


# ------------------------------------------------------------------------------------------ each, from end to end


@pytest.mark.parametrize("name", ["promptir", "instructir", "dcpt"])
def test_outputs_come_back_under_the_names_and_sizes_of_the_inputs(name, photos, tmp_path):
    """Cropped to 16 by the peer, padded before by us: every pixel is where it was."""
    getattr(stand_ins, name)(tmp_path / "checkout")
    result = run(name, photos, tmp_path)
    assert result.exit_code == 0, result.output
    out = tmp_path / "out"
    haze = ["a.b c.png", "photo.jpeg.png", "photo.png.png", "sub/zwölf.png"]
    assert outputs_of(out) == [*(f"photos/haze/{n}" for n in haze), "photos/lowlight/photo.png"]
    method = method_of(out)
    assert method.name == find_peer(name).title and method.settings.get("texts", {}).keys() <= {"haze", "lowlight"}
    for pair in find_pairs(photos):
        image = pixels(pair.input)
        assert np.array_equal(method.restore(pair, image), restored(image)), pair.image
    assert not list((tmp_path / "checkout").rglob("__pycache__")), "the checkout stays as it was"
    assert not (tmp_path / "checkout/results").exists()


def test_awracle_needs_a_fixed_example_for_each_task(photos, tmp_path):
    stand_ins.awracle(tmp_path / "checkout")
    result = run("awracle", photos, tmp_path)
    assert result.exit_code == 2 and "context=DIR" in result.stderr
    for task in ("haze", "lowlight"):
        photo_folder(tmp_path / "context", task, {"degraded.png": picture(20), "clean.png": picture(21)})
        for path in (tmp_path / "context" / task / "input").iterdir():
            path.rename(path.parent.parent / path.name)
    result = run("awracle", photos, tmp_path, "--set", f"context={tmp_path / 'context'}")
    assert result.exit_code == 0, result.output
    output, image = pixels(tmp_path / "out/photos/haze/a.b c.png"), pixels(photos / "haze/input/a.b c.png")
    assert np.array_equal(output, restored(image))
    assert set(method_of(tmp_path / "out").settings["context"]) >= {"haze/clean.png", "lowlight/degraded.png"}


def test_dfpir_never_goes_on_without_its_weights(photos, tmp_path):
    checkout = stand_ins.dfpir(tmp_path / "checkout")
    only_haze = ("--task", "haze")
    result = run("dfpir", photos, tmp_path, *only_haze)
    assert result.exit_code == 2 and "--weights" in result.stderr
    torch.save({"state_dict": {"gain": torch.ones(1)}}, tmp_path / "half.pth")
    result = run("dfpir", photos, tmp_path, *only_haze, "--weights", tmp_path / "half.pth")
    assert result.exit_code == 2 and "lacks 1 of the network's tensors, shift" in result.stderr
    result = run("dfpir", photos, tmp_path, *only_haze, "--weights", checkout / "5d.pth")
    assert result.exit_code == 0, result.output
    image = pixels(photos / "lowlight/input/photo.png")
    assert np.array_equal(pixels(tmp_path / "out/photos/lowlight/photo.png"), restored(image))
    assert method_of(tmp_path / "out").sha256 == file_sha256(checkout / "5d.pth")


def test_diff_plugin_gives_the_right_half(tmp_path):
    stand_ins.diff_plugin(tmp_path / "checkout")
    photos = photo_folder(tmp_path / "photos", "rain", {"big.png": picture(1, 523, 515)})
    photo_folder(photos, "lowlight", {"small.png": picture(2, 90, 60)})
    result = run("diff-plugin", photos, tmp_path)
    assert result.exit_code == 0, result.output
    assert np.array_equal(pixels(tmp_path / "out/photos/rain/big.png"), restored(picture(1, 523, 515)))
    small = pixels(tmp_path / "out/photos/lowlight/small.png")
    assert small.shape == (60, 90, 3) and np.abs(small - restored(picture(2, 90, 60)).astype(int)).mean() < 2


def test_autodir_is_told_and_scored_without_its_correction(photos, tmp_path):
    stand_ins.autodir(tmp_path / "checkout")
    assert run("autodir", photos, tmp_path).exit_code == 0
    for pair in find_pairs(photos):
        assert np.array_equal(
            method_of(tmp_path / "out").restore(pair, pixels(pair.input)), restored(pixels(pair.input))
        )


def test_autodir_left_alone_keeps_what_it_finds_nothing_wrong_with(tmp_path):
    stand_ins.autodir(tmp_path / "checkout")
    bright = (picture(1) // 8 + 210).astype(np.uint8)
    photos = photo_folder(tmp_path / "photos", "snow", {"a.png": picture(0), "b.png": bright})
    assert run("autodir", photos, tmp_path).exit_code == 2
    result = run("autodir", photos, tmp_path, "--set", "mode=auto")
    assert result.exit_code == 0, result.output
    assert np.array_equal(pixels(tmp_path / "out/photos/snow/a.png"), restored(picture(0)))
    assert np.array_equal(pixels(tmp_path / "out/photos/snow/b.png"), bright)


def test_pixwizard_maps_numbers_to_names(photos, tmp_path):
    checkout = stand_ins.pixwizard(tmp_path / "checkout")
    weights = ("--weights", checkout / "weights")
    result = run("pixwizard", photos, tmp_path, *weights, "--set", "seed=0")
    assert result.exit_code == 2 and "seed" in result.stderr
    assert run("pixwizard", photos, tmp_path, *weights).exit_code == 0
    for pair in find_pairs(photos):
        output, image = method_of(tmp_path / "out").restore(pair, pixels(pair.input)), pixels(pair.input)
        assert np.abs(output.astype(int) - restored(image)).mean() < 2, pair.image


def test_published_code_in_lists_of_what_it_takes_at_once(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(published, "_AT_ONCE", 3)
    stand_ins.published(tmp_path / "checkout")
    assert run("restorevar-published", photos, tmp_path, "--square", 512).exit_code == 0
    assert (tmp_path / "out.job/log.txt").read_text().count("infer.py") == 2
    for pair in find_pairs(photos):
        image = resized(pixels(pair.input), (512, 512))
        assert np.array_equal(method_of(tmp_path / "out").restore(pair, image), restored(image)), pair.image
    assert run("restorevar-published", photos, tmp_path, "--overwrite").exit_code == 0
    native = pixels(tmp_path / "out/photos/haze/a.b c.png")
    image = pixels(photos / "haze/input/a.b c.png")
    assert native.shape == image.shape and np.abs(native - restored(image).astype(int)).mean() < 2


def test_no_op_gives_the_inputs_back(photos, tmp_path):
    assert run("no-op", photos, tmp_path).exit_code == 0
    for pair in find_pairs(photos):
        assert np.array_equal(method_of(tmp_path / "out").restore(pair, pixels(pair.input)), pixels(pair.input))


def test_regression_baseline(photos, tmp_path, tiny):
    torch.manual_seed(0)
    network = RegressionNet(RegressionConfig(width=4, encoder=(1, 1), middle=0, decoder=(1,)))
    torch.nn.init.normal_(network.conv_out.weight, std=0.01)
    save_model(network, tmp_path / "model")
    save_model(tiny, tmp_path / "other")
    result = run("regression", photos, tmp_path, "--weights", tmp_path / "other")
    assert result.exit_code == 2 and "--model" in result.stderr
    result = run("regression", photos, tmp_path, "--weights", tmp_path / "model")
    assert result.exit_code == 0, result.output
    assert pixels(tmp_path / "out/photos/haze/a.b c.png").shape == (40, 61, 3)


# ------------------------------------------------------------------------------------------- what is done, and again


def test_images_of_unknown_tasks_are_left_out_and_told(photos, tmp_path):
    stand_ins.instructir(tmp_path / "checkout")
    photo_folder(photos, "snow", {"s.png": picture(5)})
    result = run("instructir", photos, tmp_path)
    assert result.exit_code == 0 and "1 of snow" in result.stderr and not (tmp_path / "out/photos/snow").exists()
    result = invoke("peer", "run", "instructir", "--input", photos / "snow/input", "-o", tmp_path / "b")
    assert result.exit_code == 2 and "takes none" in result.stderr and "--task" in result.stderr


def test_an_interrupted_run_goes_on_where_it_was(photos, tmp_path):
    """The third image fails, until what was missing is there."""
    checkout = stand_ins.autodir(tmp_path / "checkout")
    script = (checkout / "eval_w_SCM.py").read_text()
    stop = 'if "000002" in sys.argv[2 + sys.argv[1:].index("--input")]: sys.exit("CUDA out of memory")\n'
    (checkout / "eval_w_SCM.py").write_text("import sys\n" + stop + script)
    result = run("autodir", photos, tmp_path)
    line = result.stderr.strip()
    assert result.exit_code == 2 and "CUDA out of memory" in line and "--square" in line and "log.txt" in line
    assert len(line.splitlines()) == 1 and not (tmp_path / "out").exists()
    (checkout / "eval_w_SCM.py").write_text(script)
    assert run("autodir", photos, tmp_path).exit_code == 0
    started = [text for text in (tmp_path / "out.job/log.txt").read_text().splitlines() if text.startswith("$ ")]
    assert len(started) == 5 + 1
    before = (tmp_path / "out/peer.json").stat().st_mtime_ns
    assert run("autodir", photos, tmp_path).exit_code == 0
    assert (tmp_path / "out/peer.json").stat().st_mtime_ns == before, "nothing was left to do"


def test_our_loops_go_on_within_a_command(photos, tmp_path):
    checkout = stand_ins.instructir(tmp_path / "checkout")
    network = (checkout / "models/instructir.py").read_text()
    (checkout / "models/instructir.py").write_text(
        network.replace("assert image", "assert image.shape[3] < 90 and image")
    )
    assert run("instructir", photos, tmp_path).exit_code == 2
    made = sorted(path.name for path in (tmp_path / "out.job/out").iterdir())
    assert made == ["000000.png", "000001.png", "000002.png"]
    (checkout / "models/instructir.py").write_text(network)
    assert run("instructir", photos, tmp_path).exit_code == 0
    said = (tmp_path / "out.job/log.txt").read_text().split("\n$ ")[2]
    assert "4 of 5" in said and "3 of 5" not in said


def test_other_weights_are_another_run(photos, tmp_path):
    checkout = stand_ins.promptir(tmp_path / "checkout")
    assert run("promptir", photos, tmp_path).exit_code == 0
    first = method_of(tmp_path / "out").sha256
    (checkout / "ckpt/model.ckpt").write_bytes(b"others")
    assert run("promptir", photos, tmp_path).exit_code == 0
    assert method_of(tmp_path / "out").sha256 == file_sha256(checkout / "ckpt/model.ckpt") != first
    assert (tmp_path / "out.job/log.txt").read_text().count("$ ") == 4


def test_another_job_in_the_same_place_is_refused(photos, tmp_path):
    stand_ins.promptir(tmp_path / "checkout")
    assert run("promptir", photos, tmp_path).exit_code == 0
    result = run("promptir", photos, tmp_path, "--square", 64)
    assert result.exit_code == 2 and "--overwrite" in result.stderr
    assert run("promptir", photos, tmp_path, "--square", 64, "--overwrite").exit_code == 0
    image = resized(pixels(photos / "haze/input/a.b c.png"), (64, 64))
    assert np.array_equal(pixels(tmp_path / "out/photos/haze/a.b c.png"), restored(image))


def test_the_commit_of_a_checkout_is_kept(photos, tmp_path):
    checkout = stand_ins.promptir(tmp_path / "checkout")
    git = ["git", "-C", str(checkout), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], check=True)
    assert run("promptir", photos, tmp_path).exit_code == 0
    commit = method_of(tmp_path / "out").settings["checkout"]
    assert len(commit) == 40 and not (checkout / "out").exists()
    assert subprocess.run([*git, "status", "--porcelain"], capture_output=True, check=True).stdout == b""


def test_by_hand_and_from_another_machine(photos, tmp_path):
    """prepare, run.sh, collect; the folder may have been moved, and only the outputs brought back."""
    checkout = stand_ins.dcpt(tmp_path / "checkout")
    job = tmp_path / "the job"
    result = invoke("peer", "prepare", "dcpt", "--pairs", photos, "--job", job)
    assert result.exit_code == 0 and "run.sh" in result.output
    result = invoke("peer", "collect", job, "-o", tmp_path / "out")
    assert result.exit_code == 2 and "run the peer first" in result.stderr
    moved = job.rename(tmp_path / "elsewhere")
    places = {"CHECKOUT": str(checkout), "PYTHON": sys.executable, "WEIGHTS": str(checkout / "pretrained_models")}
    for wanted in (0, 1):  # a second time it would mix two runs
        done = subprocess.run(["sh", moved / "run.sh"], env=os.environ | places, capture_output=True, text=True)
        assert done.returncode == wanted, done.stderr
    assert "remove it first" in done.stderr
    brought = (moved / "out").rename(tmp_path / "brought")
    known = ("--outputs", brought, "--checkout", checkout)
    assert invoke("peer", "collect", moved, "-o", tmp_path / "out", *known).exit_code == 0
    image = pixels(photos / "lowlight/input/photo.png")
    assert np.array_equal(pixels(tmp_path / "out/photos/lowlight/photo.png"), restored(image))
    assert method_of(tmp_path / "out").sha256 == file_sha256(checkout / "pretrained_models/dcpt_nafnet_5d.pth")


def test_a_script_without_places_asks_for_them(photos, tmp_path):
    peer = find_peer("promptir")
    job = prepare(peer, find_pairs(photos), tmp_path / "job")
    script = write_script(peer, job, Setup(python="python"))
    done = subprocess.run(["sh", script], capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    assert done.returncode and "CHECKOUT" in done.stderr and not (tmp_path / "job/out").exists()


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="process groups are of POSIX")
def test_whoever_interrupts_leaves_nothing_running(photos, tmp_path, monkeypatch):
    checkout = stand_ins.promptir(tmp_path / "checkout")
    pids = tmp_path / "pids"
    worker = "import subprocess, sys, os; w = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    (checkout / "demo.py").write_text(f"{worker}open({str(pids)!r}, 'w').write(str(w.pid)); w.wait()\n")

    def interrupt(step, done, total):
        if step == "PromptIR" and pids.exists() and pids.read_text():
            raise KeyboardInterrupt

    monkeypatch.setattr(process, "_LOOK", 0.1)
    with pytest.raises(KeyboardInterrupt):
        setup = Setup(checkout)
        run_peer(find_peer("promptir"), find_pairs(photos), setup, tmp_path / "out", progress=interrupt)
    pid, limit = int(pids.read_text()), time.monotonic() + 10
    while time.monotonic() < limit and _alive(pid):
        time.sleep(0.05)
    assert not _alive(pid)


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


# ------------------------------------------------------------------------------------------------------- refusals


@pytest.fixture
def job(photos, tmp_path):
    """Of PromptIR, run by hand: correct outputs lie in JOB/out."""
    made = prepare(find_peer("promptir"), find_pairs(photos), tmp_path / "job")
    made.out.mkdir()
    for item in made.items:
        Image.fromarray(restored(pixels(made.folder / item.place))).save(made.out / f"{item.key}.png")
    return made


def edit(job, key, change):
    path = job.out / f"{key}.png"
    Image.fromarray(change(pixels(path))).save(path)


def copy_inputs(job):
    for item in job.items:
        Image.open(job.folder / item.place).save(job.out / f"{item.key}.png")


def swap(job):
    """Images of one size, or the sizes would tell."""
    first, second = (job.out / f"{item.key}.png" for item in job.items[:2])
    shape = Image.open(first).size, Image.open(second).size
    for path, other, size in ((first, pixels(second), shape[0]), (second, pixels(first), shape[1])):
        Image.fromarray(other).resize(size).save(path)


def noise(job):
    rng = np.random.default_rng(0)
    for item in job.items:
        edit(job, item.key, lambda image: rng.integers(0, 256, image.shape, np.uint8))


def older(job):
    os.utime(job.out / "000001.png", (time.time() - 3600,) * 2)


TAMPERED = {
    "are missing": lambda job: (job.out / "000002.png").unlink(),
    "of no input": lambda job: Image.fromarray(picture(3)).save(job.out / "000077.png"),
    "from another run": lambda job: Image.fromarray(picture(3)).save(job.out / "kitchen.png"),
    "older than the job": older,
    "pixels, not 64x48": lambda job: edit(job, "000004", lambda image: image[:47]),
    "pixels, not 80x48": lambda job: edit(job, "000001", lambda image: np.concatenate([image, image], 1)),
    "inputs unchanged": copy_inputs,
    "looks like": swap,
    "no resemblance": noise,
    "cannot": lambda job: (job.out / "000000.png").write_bytes(b"\x89PNG\r\n"),
}


@pytest.mark.parametrize("words", TAMPERED)
def test_outputs_that_cannot_be_are_refused(words, job, tmp_path):
    TAMPERED[words](job)
    with pytest.raises(UserError, match=words) as caught:
        collect(find_peer("promptir"), job, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*part"))


def test_good_outputs_of_the_same_job_pass(job, tmp_path):
    assert collect(find_peer("promptir"), job, tmp_path / "out").name == "PromptIR"


def test_one_output_for_two_inputs_is_refused(tmp_path):
    photos = photo_folder(tmp_path / "photos", "haze", {"a.png": picture(0), "b.png": picture(1)})
    job = prepare(find_peer("promptir"), find_pairs(photos), tmp_path / "job")
    job.out.mkdir()
    for item in job.items:
        Image.fromarray(restored(pixels(job.folder / job.items[0].place))).save(job.out / f"{item.key}.png")
    with pytest.raises(UserError, match="pixel for pixel"):
        collect(find_peer("promptir"), job, tmp_path / "out")


def test_flat_images_and_the_same_image_twice_are_no_sign_of_anything(tmp_path):
    flat = np.zeros((32, 32, 3), np.uint8)
    images = {"a.png": flat, "b.png": flat, "c.png": picture(0), "d.png": picture(0)}
    photos = photo_folder(tmp_path / "photos", "haze", images)
    job = prepare(find_peer("promptir"), find_pairs(photos), tmp_path / "job")
    job.out.mkdir()
    for item in job.items:
        image = pixels(job.folder / item.place)
        Image.fromarray(image if not image.any() else restored(image)).save(job.out / f"{item.key}.png")
    collect(find_peer("promptir"), job, tmp_path / "out")


def test_two_sizes_of_one_number_are_refused(photos, tmp_path):
    """PixWizard, asked again at another resolution in the same place."""
    checkout = stand_ins.pixwizard(tmp_path / "checkout")
    assert run("pixwizard", photos, tmp_path, "--weights", checkout / "weights").exit_code == 0
    Image.fromarray(picture(0, 768, 768)).save(tmp_path / "out.job/out/images/task_set_0_768x768.png")
    with pytest.raises(UserError, match="2 outputs for"):
        collect(find_peer("pixwizard"), load_job(tmp_path / "out.job"), tmp_path / "other")


def test_results_do_not_go_into_a_folder_of_something_else(job, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        collect(find_peer("promptir"), job, tmp_path / "out")
    assert (tmp_path / "out/mine.txt").exists()


def test_a_job_that_was_changed_is_refused(job):
    path = job.folder / "job.json"
    values = json.loads(path.read_text())
    values["items"][0]["image"] = "other.png"
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match="changed"):
        load_job(job.folder)


# ------------------------------------------------------------------------------------------------- wrong usage


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "no peer nothing"),
        (["promptir"], "needs --checkout"),
        (["promptir", "--checkout", "nowhere"], "no such folder"),
        (["promptir", "--checkout", "photos"], "has no demo.py"),
        (["promptir", "--checkout", "checkout", "--weights", "nowhere.ckpt"], "no such file"),
        (["promptir", "--checkout", "checkout", "--python", "no-such-python"], "no such program"),
        (["promptir", "--checkout", "checkout", "--set", "tile=big"], "whole number"),
        (["promptir", "--checkout", "checkout", "--set", "size=3"], "tile, overlap"),
        (["dcpt", "--set", "backbone=unet"], "nafnet"),
        (["autodir", "--set", "mode=maybe"], "told or auto"),
        (["pixwizard", "--set", "resolution=500"], "512, 768"),
        (["regression"], "train one"),
    ],
)
def test_mistakes_are_told_in_a_line(arguments, words, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stand_ins.promptir(tmp_path / "checkout")
    result = invoke("peer", "run", *arguments, "--pairs", photos, "-o", "out")
    assert result.exit_code == 2 and words in result.stderr, result.output
    assert len(result.stderr.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_a_failing_peer_is_told_with_its_last_words(photos, tmp_path):
    checkout = stand_ins.promptir(tmp_path / "checkout")
    (checkout / "demo.py").write_text("print('so far so good')\nimport lightning_that_is_not_there\n")
    result = run("promptir", photos, tmp_path)
    assert result.exit_code == 2 and "lightning_that_is_not_there" in result.stderr and "--python" in result.stderr
    assert "so far so good" in (tmp_path / "out.job/log.txt").read_text()
    (checkout / "demo.py").write_text("print('nothing done')\n")
    result = run("promptir", photos, tmp_path)
    assert result.exit_code == 2 and "left no output for 4 images" in result.stderr


# ------------------------------------------------------------------------------------------------------ the parts


@pytest.mark.parametrize("name", available_peers())
def test_every_peer_tells_of_itself(name):
    peer = find_peer(name)
    assert find_peer(name.upper()) is peer is find_peer(peer.title)
    result = invoke("peer", "show", name)
    assert result.exit_code == 0 and peer.facts.licence in result.output and peer.title in result.output
    assert name in invoke("peer", "list").output
    page = (Path(__file__).parents[1] / "docs/peers.md").read_text()
    assert f"`{name}`" in page and peer.facts.source in page and peer.facts.commit[:12] in page


def test_all_methods_of_the_paper_are_there():
    table_1 = (
        "PromptIR",
        "InstructIR",
        "AWRaCLe",
        "DCPT",
        "DFPIR",
        "Diff-Plugin",
        "AutoDIR",
        "PixWizard",
        "RestoreVAR",
    )
    assert [find_peer(title).title for title in table_1] == list(table_1)


@pytest.mark.parametrize("fit", [Fit(), Fit(16), Fit(64, least=48), Fit(square=64), Fit(16, square=50)])
@pytest.mark.parametrize("size", [(1, 1), (5, 40), (16, 32), (33, 47), (90, 20)])
def test_sizes_there_and_back(fit, size):
    image = picture(0, *size)
    fed = fit.feed(image)
    width, height = fit.fed(size)
    assert fed.shape == (height, width, 3) and width % fit.multiple == 0 == height % fit.multiple
    back = fit.back(fed, size)
    assert back.shape == image.shape
    if fit.square is None and min(size) >= fit.least:
        assert np.array_equal(back, image)


def test_commands_for_a_shell_are_quoted():
    command = Command(("{python}", "{checkout}/a b.py", "--x", "it's", "{job}/in/"), (), links={"{job}/l": "{weights}"})
    places = {"JOB": "/tmp/my job", "CHECKOUT": "/c", "PYTHON": "echo", "WEIGHTS": "/w"}
    script = as_shell(command).replace("ln -sfn", "echo").replace('cd "$JOB"', "true")
    said = subprocess.run(["sh", "-c", script], env=os.environ | places, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == ["/w /tmp/my job/l", "/c/a b.py --x it's /tmp/my job/in/"]


def test_evaluate_runs_a_peer_and_knows_its_outputs_again(photos, tmp_path):
    checkout = stand_ins.instructir(tmp_path / "checkout")
    photo_folder(photos, "snow", {"s.png": picture(5)})
    for path in list(photos.glob("*/input/**/*.*")):
        if path.stem == "photo" and path.suffix == ".jpeg":
            path.unlink()  # its name would be another's, for the truths
            continue
        target = Path(str(path).replace("/input/", "/target/"))
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(restored(pixels(path))).save(target)
    rows = tmp_path / "rows.jsonl"
    common = ("evaluate", photos, "--method", "InstructIR", "--protocol", "native-rgb", "--json", rows)
    places = ("--checkout", checkout, "--peer-python", sys.executable, "--save", tmp_path / "save")
    result = invoke(*common, *places)
    assert result.exit_code == 0, result.output
    scored = [json.loads(line) for line in rows.read_text().splitlines()]
    assert {row["method"] for row in scored} == {"InstructIR"} and {row["task"] for row in scored} == {
        "haze",
        "lowlight",
    }
    assert all(row["scores"]["psnr"] > 60 > row["before"]["psnr"] and row["sha256"] for row in scored)
    assert scored[0]["settings"]["texts"]["haze"] == find_peer("instructir").texts["haze"]


def test_a_preparation_that_was_interrupted_is_begun_again(photos, tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    pairs, peer, folder = find_pairs(photos), find_peer("promptir"), tmp_path / "job"
    with pytest.raises(KeyboardInterrupt):
        prepare(peer, pairs, folder, progress=interrupt)
    assert prepare(peer, pairs, folder) == load_job(folder)
    assert prepare(peer, pairs, folder) == load_job(folder)


def test_two_files_of_one_picture_have_one_output(tmp_path):
    photos = photo_folder(tmp_path / "photos", "haze", {"a.png": picture(0), "b.bmp": picture(0)})
    stand_ins.promptir(tmp_path / "checkout")
    assert run("promptir", photos, tmp_path).exit_code == 0
