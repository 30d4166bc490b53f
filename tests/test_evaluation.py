"""evaluate: rows, pairs, protocols, methods, and the command from end to end."""

from __future__ import annotations

import csv
import json
import math
import sys
from dataclasses import replace
from io import BytesIO
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from restorevar import checkpoints
from restorevar.cli import app
from restorevar.errors import UserError
from restorevar.evaluation.controls import Latent, control
from restorevar.evaluation.methods import FolderMethod, Identity, ModelMethod
from restorevar.evaluation.metrics import find_metrics
from restorevar.evaluation.pairs import Pair, find_pairs, task_named
from restorevar.evaluation.protocols import PROTOCOLS, find_protocol
from restorevar.evaluation.rows import Row, append_row, read_rows
from restorevar.evaluation.scoring import Listener, evaluate
from restorevar.evaluation.summary import summarise, table
from restorevar.models import RestoreVAR
from restorevar.models.config import debug
from restorevar.pipeline import MARGIN, SPEEDS, Restorer


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def picture(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Smooth, with some texture: noise alone would be no photo to JPEG."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [127 + 80 * np.sin((x * (1 + seed % 3) + y * 2) / 23 + channel) for channel in range(3)]
    noise = np.random.default_rng(seed).integers(-9, 10, (height, width, 3))
    return np.clip(np.stack(planes, -1) + noise, 0, 255).astype(np.uint8)


def save(path, pixels: np.ndarray):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def pairs(tmp_path):
    """Two tasks of two pairs each, the hazy ones 40 % white."""
    for task, seeds in (("haze", (0, 1)), ("rain", (2, 3))):
        for seed in seeds:
            truth = picture(seed)
            save(tmp_path / "pairs" / task / "target" / f"p{seed}.png", truth)
            save(tmp_path / "pairs" / task / "input" / f"p{seed}.png", (truth * 0.6 + 102).astype(np.uint8))
    return tmp_path / "pairs"


@pytest.fixture
def model_folder(tmp_path):
    torch.manual_seed(0)
    checkpoints.save_model(RestoreVAR(debug()), tmp_path / "model")
    return tmp_path / "model"


def row(image: str = "a.png", **changes) -> Row:
    values = {"method": "m", "sha256": "", "settings": {"fidelity": 1.0}, "protocol": "native-rgb", "dataset": "d"}
    rest = {"task": "haze", "input": f"in/{image}", "target": None, "output": None}
    return Row(**{**values, **rest, "image": image, "scores": {"psnr": 20.0}, "before": {"psnr": 10.0}, **changes})


# ------------------------------------------------------------------------------------------------------- rows


def test_rows_come_back_as_they_were_written_and_later_ones_count(tmp_path):
    log = tmp_path / "new" / "rows.jsonl"
    first, second = row("ä \udcff.png", seconds=0.5, versions={"numpy": "2"}), row("b.png")
    later = replace(first, scores={"psnr": 30.0})
    for each in (first, second, later):
        append_row(log, each)
    assert read_rows(log) == [later, second] == read_rows([log, log])
    other = replace(first, settings={"fidelity": 0.0})
    append_row(log, other)
    assert read_rows(log) == [later, second, other]


def test_an_interrupted_line_costs_that_row_alone(tmp_path):
    log, told = tmp_path / "rows.jsonl", []
    append_row(log, row("a.png"))
    with log.open("a") as file:
        file.write('{"method": "m", "sha2')
    assert [r.image for r in read_rows(log, told.append)] == ["a.png"]
    append_row(log, row("b.png"))
    assert [r.image for r in read_rows(log, told.append)] == ["a.png", "b.png"]
    assert len(told) == 2 and all("line 2" in line for line in told)


@pytest.mark.parametrize("line", ["[]", '{"task": "haze", "psnr_input": 3}', '{"scores": {"psnr": "high"}}'])
def test_other_files_are_not_taken_for_rows(tmp_path, line):
    (tmp_path / "other.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match=r"other\.jsonl: line 1: is not a row"):
        read_rows(tmp_path / "other.jsonl")
    with pytest.raises(UserError, match="cannot be read"):
        read_rows(tmp_path / "missing.jsonl")
    with pytest.raises(UserError, match="cannot be written"):
        append_row(tmp_path, row())


# ------------------------------------------------------------------------------------------------------ pairs


def test_pairs_of_a_root(pairs):
    found = find_pairs(pairs)
    assert [(p.dataset, p.task, p.image) for p in found][:3] == [
        ("pairs/haze", "haze", "p0.png"),
        ("pairs/haze", "haze", "p1.png"),
        ("pairs/rain", "rain", "p2.png"),
    ]
    assert all(p.target is not None and p.target.parent.name == "target" for p in found)
    assert [(p.dataset, p.task) for p in find_pairs(pairs / "rain")] == [("rain", "rain")] * 2
    (pairs / "rain").rename(pairs / "rain_mixed")
    assert {(p.dataset, p.task) for p in find_pairs(pairs)} == {("pairs/haze", "haze"), ("rain_mixed", "rain")}


def test_pairs_of_two_folders_and_images_without_truth(tmp_path):
    for name in ("real/haze/a.jpg", "real/blur/a.jpg", "real/b.png", "real/notes.txt", "truth/haze/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_pairs(input=tmp_path / "real")
    assert [(p.dataset, p.task, p.image, p.target) for p in found] == [
        ("real", "real", "b.png", None),
        ("real", "blur", "blur/a.jpg", None),
        ("real", "haze", "haze/a.jpg", None),
    ]
    assert {(p.dataset, p.task) for p in find_pairs(input=tmp_path / "real", dataset="LHP", task="Low-light")} == {
        ("LHP", "lowlight")
    }
    (pair,) = find_pairs(input=tmp_path / "real" / "haze", target=tmp_path / "truth" / "haze")
    assert pair.target == tmp_path / "truth" / "haze" / "a.png"
    with pytest.raises(UserError, match=r"b\.png: no files of that name"):
        find_pairs(input=tmp_path / "real", target=tmp_path / "truth")


def test_pairs_of_a_manifest_have_names_of_their_own(tmp_path):
    def entry(image, target, degradation="Motion blur", dataset="GoPro"):
        return {"image_path": image, "target_path": target, "degradation": degradation, "dataset": dataset}

    rows = [entry(f"{seq}/blur/1.png", f"{seq}/sharp/1.png") for seq in ("s1", "s2")]
    rows += [rows[0], entry("1.png", "2.png", "toled", "TOLED")]
    file = tmp_path / "pairs.json"
    file.write_text(json.dumps(rows))
    found = find_pairs(manifest=file)
    assert [(p.dataset, p.task, p.image) for p in found] == [
        ("GoPro", "blur", "s1/blur/1.png"),
        ("GoPro", "blur", "s2/blur/1.png"),
        ("TOLED", "toled", "1.png"),
    ]
    file.write_text(json.dumps([entry("a.png", "b.png"), entry("a.png", "c.png")]))
    with pytest.raises(UserError, match="two truths"):
        find_pairs(manifest=file)


def test_pairs_without_a_single_source(pairs, tmp_path):
    (pairs / "rain" / "target" / "p3.png").unlink()
    with pytest.raises(UserError, match=r"p3\.png"):
        find_pairs(pairs)
    for source in ({}, {"root": pairs, "manifest": pairs}, {"root": pairs, "target": pairs}):
        with pytest.raises(UserError):
            find_pairs(**source)
    for empty in ({"root": tmp_path / "no"}, {"input": tmp_path / "no"}, {"manifest": tmp_path / "no"}):
        with pytest.raises(UserError, match="no"):
            find_pairs(**empty)


def test_words_for_tasks():
    words = {"Low-light": "lowlight", "haze_sots_indoor": "haze", "Mixed": "mixed", "Rain": "rain", "toled": "toled"}
    assert {word: task_named(word) for word in words} == words
    assert task_named("haze+rain") == "haze+rain"


# -------------------------------------------------------------------------------------------------- protocols


class Given:
    """A method that gives what it is told to, and remembers what it was shown."""

    name, sha256 = "given", "abc"

    def __init__(self, result=None, **settings):
        self.result, self.settings, self.shown = result, settings, []

    def restore(self, pair, image):
        self.shown.append(image)
        return image.astype(np.float32) / 255 * 0.9 if self.result is None else self.result(image)


def one_pair(tmp_path, dataset="any", height=48, width=64) -> Pair:
    truth = picture(5, height, width)
    target = save(tmp_path / "t.png", truth)
    return Pair(dataset, "haze", "a.png", save(tmp_path / "a.png", (truth * 0.6 + 102).astype(np.uint8)), target)


def scores(method, pair, protocol, *names) -> Row:
    (found,) = evaluate(method, [pair], find_protocol(protocol), find_metrics(names))
    return found


def test_restorevar_512_agrees_with_an_independent_computation(tiny, tmp_path):
    """The published steps, by Pillow, torch and scikit-image alone: to 1e-6 dB."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    pair = one_pair(tmp_path, height=120, width=200)

    def loaded(path):
        square = Image.open(path).convert("RGB").resize((512, 512), Image.Resampling.LANCZOS)
        return np.array(square).astype(np.float32) / np.float32(255)

    degraded, clean = loaded(pair.input), loaded(pair.target)
    with torch.inference_mode():
        around = np.pad(degraded, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), "reflect")
        output = tiny.restore(torch.from_numpy(around).permute(2, 0, 1)[None] * 2 - 1)
        output = output[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
    restored = ((output.clamp(-1, 1) + 1) / 2)[0].permute(1, 2, 0).numpy()
    found = scores(ModelMethod(Restorer(tiny, device="cpu", dtype="fp32")), pair, "restorevar-512", "psnr", "ssim")
    for image, values in ((restored, found.scores), (degraded, found.before)):
        assert abs(values["psnr"] - peak_signal_noise_ratio(clean, image, data_range=1)) < 1e-6
        ssim = structural_similarity(clean, image, data_range=1, channel_axis=2)
        assert abs(values["ssim"] - ssim) < 1e-6
    rounded = np.round(restored * 255) / 255
    assert abs(found.scores["psnr"] - peak_signal_noise_ratio(clean, rounded, data_range=1)) > 1e-6


def test_restorevar_512_shows_the_method_squares_and_stops_after_5001(tmp_path):
    method = Given()
    scores(method, one_pair(tmp_path), "restorevar-512", "psnr")
    assert method.shown[0].shape == (512, 512, 3) and method.shown[0].dtype == np.uint8
    pair = one_pair(tmp_path)
    many = [replace(pair, dataset=dataset, image=f"{i}.png") for dataset in "ab" for i in range(5002)]
    chosen = find_protocol("restorevar-512").select(many)
    assert len(chosen) == 2 * 5001 and chosen[5000].image == "5000.png" and chosen[5001].dataset == "b"
    assert len(find_protocol("native-rgb").select(many)) == len(many)


def test_noref_truncates_and_saves_as_the_published_code(tmp_path):
    protocol = find_protocol("restorevar-512-noref")
    degraded, target = (protocol.prepare(picture(seed)) for seed in (5, 6))
    restored = np.random.default_rng(1).random((512, 512, 3), dtype=np.float32)

    def jpeg(pixels):
        stream = BytesIO()
        Image.fromarray(pixels).save(stream, format="JPEG", quality=95)
        return np.array(Image.open(stream))

    cut = np.trunc(restored * 255).astype(np.uint8)
    assert np.array_equal(protocol.finish(restored, degraded, target, "REVIDE"), cut)
    strip = np.hstack([degraded, cut, target])
    twice = jpeg(np.ascontiguousarray(jpeg(strip)[:, 512:1024]))
    for name in ("CDD_haze_rain", "LOLBlur"):
        assert np.array_equal(protocol.finish(restored, degraded, target, name), twice)
    assert not np.array_equal(twice, cut) and not np.array_equal(twice, jpeg(jpeg(cut)))


def test_native_protocols_differ_in_what_they_say(tmp_path):
    from skimage.color import rgb2ycbcr
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    pair = one_pair(tmp_path)
    method = Given(lambda image: image.astype(np.float32) / 255 * 0.9 + 0.001)
    degraded, truth = (np.array(Image.open(path)) for path in (pair.input, pair.target))
    exact = method.restore(pair, degraded).astype(np.float64)
    saved = np.round(exact * 255).astype(np.uint8)

    found = scores(method, pair, "native-rgb", "psnr").scores["psnr"]
    assert found == pytest.approx(peak_signal_noise_ratio(truth / 255, exact, data_range=1), abs=1e-6)
    found = scores(method, pair, "saved-8bit", "psnr", "ssim")
    assert found.scores["psnr"] == pytest.approx(peak_signal_noise_ratio(truth, saved), abs=1e-9)
    assert found.scores["ssim"] == pytest.approx(structural_similarity(truth, saved, channel_axis=2), abs=1e-9)
    assert found.before["psnr"] == pytest.approx(peak_signal_noise_ratio(truth, degraded), abs=1e-9)
    ys = [rgb2ycbcr(image)[..., 0] for image in (truth, saved)]
    found = scores(method, pair, "native-y", "psnr", "ssim-gaussian")
    assert found.scores["psnr"] == pytest.approx(peak_signal_noise_ratio(*ys, data_range=255), abs=1e-6)
    expected = structural_similarity(*ys, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    assert found.scores["ssim-gaussian"] == pytest.approx(expected, abs=1e-6)


def test_every_protocol_tells_its_text():
    assert list(PROTOCOLS) == ["restorevar-512", "restorevar-512-noref", "native-rgb", "native-y", "saved-8bit"]
    for name, protocol in PROTOCOLS.items():
        assert protocol.text.startswith(f"{name}: ") and "\n" not in protocol.text
    with pytest.raises(UserError, match="native-y"):
        find_protocol("ycbcr")


# ----------------------------------------------------------------------------------------------------- scoring


def test_what_goes_wrong_with_one_image_stops_no_other(pairs, tmp_path):
    (pairs / "haze" / "input" / "p0.png").write_bytes(b"no image")
    save(pairs / "haze" / "target" / "p1.png", picture(1, 40, 40))
    told = []
    found = evaluate(
        Identity(), find_pairs(pairs), find_protocol("saved-8bit"), find_metrics(["psnr"]), tmp_path / "rows.jsonl",
        listener=Listener(failed=told.append),
    )  # fmt: skip
    assert [r.image for r in found] == [r.image for r in read_rows(tmp_path / "rows.jsonl")] == ["p2.png", "p3.png"]
    assert len(told) == 2 and all("\n" not in line for line in told)
    assert "p0.png" in told[0] and "p1.png" in told[1] and "40 x 40" in told[1]


@pytest.mark.parametrize(
    "result",
    [
        lambda image: image[:-1],
        lambda image: np.full(image.shape, np.nan, np.float32),
        lambda image: image.astype(np.int32),
        lambda image: 1 / 0,
    ],
)
def test_results_that_are_no_images_are_told(tmp_path, result):
    told = []
    listener = Listener(failed=told.append)
    pair = one_pair(tmp_path)
    assert not evaluate(Given(result), [pair], PROTOCOLS["native-rgb"], find_metrics(["psnr"]), listener=listener)
    assert len(told) == 1 and str(pair.input) in told[0]


def test_a_metric_that_fails_leaves_the_others(tmp_path):
    told = []
    (found,) = evaluate(
        Identity(), [one_pair(tmp_path)], PROTOCOLS["native-rgb"], find_metrics(["psnr", "ms-ssim"]),
        listener=Listener(failed=told.append),
    )  # fmt: skip
    assert list(found.scores) == list(found.before) == ["psnr"]
    assert len(told) == 1 and "ms-ssim" in told[0] and "176 pixels" in told[0]


def test_metrics_that_cannot_judge_are_told_once(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    told = []
    lonely = replace(one_pair(tmp_path), target=None, image="b.png")
    names = ["psnr", "ciede2000", "lpips", "blur"]
    found = evaluate(
        Identity(), [one_pair(tmp_path), lonely], PROTOCOLS["native-y"], find_metrics(names),
        listener=Listener(note=told.append),
    )  # fmt: skip
    assert [list(r.scores) for r in found] == [["psnr", "blur"], ["blur"]]
    assert [line.split(" ")[0] for line in told] == ["ciede2000", "lpips", "1"]
    with pytest.raises(UserError, match="need truths"):
        evaluate(Identity(), [lonely], PROTOCOLS["native-y"], find_metrics(["psnr"]))
    with pytest.raises(UserError, match="none of the metrics can run"):
        evaluate(Identity(), [lonely], PROTOCOLS["native-y"], find_metrics(["lpips"]))


def test_what_the_log_holds_is_not_restored_again(pairs, tmp_path):
    log, found, native = tmp_path / "rows.jsonl", find_pairs(pairs), PROTOCOLS["native-rgb"]
    again = []
    listener = Listener(progress=lambda done, of, row, taken: again.append(taken))
    first, second = Given(step=1), Given(step=1)
    evaluate(first, found[:3], native, find_metrics(["psnr"]), log)
    rows = evaluate(second, found, native, find_metrics(["psnr"]), log, listener=listener)
    assert (len(first.shown), len(second.shown), len(rows), again) == (3, 1, 4, [True, True, True, False])
    # Another metric, another setting, another protocol, another folder of images: something to do.
    evaluate(second, found, native, find_metrics(["ssim"]), log)
    assert len(second.shown) == 5
    assert all(set(r.scores) == set(r.before) == {"psnr", "ssim"} for r in read_rows(log))
    for method, protocol in ((Given(step=2), native), (Given(step=1), PROTOCOLS["saved-8bit"])):
        evaluate(method, found, protocol, find_metrics(["psnr"]), log)
        assert len(method.shown) == 4
    moved = Given(step=1)
    evaluate(moved, [replace(found[0], input=found[1].input)], native, find_metrics(["psnr"]), log)
    assert len(moved.shown) == 1


def test_another_content_or_library_is_scored_anew(pairs, tmp_path, monkeypatch):
    from restorevar.evaluation import scoring

    log, found, native = tmp_path / "rows.jsonl", find_pairs(pairs), PROTOCOLS["native-rgb"]

    def shown(*names) -> int:
        method = Given()
        evaluate(method, found, native, find_metrics(names), log)
        return len(method.shown)

    assert (shown("psnr"), shown("psnr")) == (4, 0)
    first = read_rows(log)[0]
    assert set(first.files) == {"input", "target"} and first.better == {"psnr": "higher"}
    save(found[0].input, picture(7))
    save(found[1].target, picture(8))
    assert (shown("ssim"), shown("psnr")) == (4, 2)  # of what changed the old PSNR is not taken over
    monkeypatch.setattr(scoring, "version_of", lambda library: "0")
    assert (shown("psnr"), shown("psnr")) == (4, 0)
    # Rows of older versions tell neither: they are believed.
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    log.write_text("".join(json.dumps({**line, "files": {}, "versions": {"numpy": "1"}}) + "\n" for line in lines))
    assert shown("psnr") == 0


def test_results_are_kept_where_no_other_method_writes(pairs, tmp_path):
    kept, found, native = tmp_path / "kept", find_pairs(pairs), PROTOCOLS["native-rgb"]
    rows = [r for step in (1, 2) for r in evaluate(Given(step=step), found, native, find_metrics(["psnr"]), save=kept)]
    assert len({r.output for r in rows}) == 8
    degraded, output = (np.array(Image.open(path)) for path in (rows[0].input, rows[0].output))
    assert np.array_equal(output, np.round(Given().restore(found[0], degraded).astype(np.float64) * 255))
    # They can be scored as any folder of outputs, and a kept image that is lost is made again.
    folder = (kept / rows[0].output).parents[2]
    scored = evaluate(FolderMethod(folder), found, PROTOCOLS["saved-8bit"], find_metrics(["psnr"]))
    assert len(scored) == 4 and scored[0].output == rows[0].output
    log, method = tmp_path / "rows.jsonl", Given(step=1)
    evaluate(method, found, native, find_metrics(["psnr"]), log, kept)
    (kept / rows[0].output).unlink()
    evaluate(method, found, native, find_metrics(["psnr"]), log, kept)
    assert len(method.shown) == 5 and (kept / rows[0].output).exists()


# ------------------------------------------------------------------------------------------ folders of outputs


def test_outputs_are_found_by_data_set_task_or_name(tmp_path):
    pair = one_pair(tmp_path, dataset="RESIDE")
    for place in ("RESIDE/a.png", "haze/a.webp", "a.jpg", "a.png.png"):
        home = tmp_path / place.replace("/", "_")
        save(home / place, picture(1))
        assert FolderMethod(home).output_of(pair) == home / place
    home = tmp_path / "twice"
    for name in ("a.png", "a.bmp"):
        save(home / name, picture(1))
    assert FolderMethod(home).output_of(pair).suffix == ".png"
    (home / "a.png").rename(home / "a.tiff")
    with pytest.raises(UserError, match="2 outputs"):
        FolderMethod(home).output_of(pair)


def test_outputs_that_cannot_be_right_are_told(tmp_path):
    pair = one_pair(tmp_path)
    other = replace(pair, dataset="b", input=tmp_path / "other.png")
    save(tmp_path / "out" / "a.png", picture(1))
    method = FolderMethod(tmp_path / "out", sha256="abc")
    assert (method.name, method.sha256) == ("out", "abc")
    method.output_of(pair)
    with pytest.raises(UserError, match="as well"):
        method.output_of(other)
    with pytest.raises(UserError, match="64 x 48 pixels, but 512 x 512"):
        method.restore(pair, np.zeros((512, 512, 3), np.uint8))
    with pytest.raises(UserError, match="no output for b"):
        method.output_of(replace(pair, image="b.png"))
    before = FolderMethod(tmp_path / "out").sha256
    save(tmp_path / "out" / "a.png", picture(2))
    assert FolderMethod(tmp_path / "out").sha256 != before
    for folder in (tmp_path / "missing", tmp_path / "empty"):
        with pytest.raises(UserError):
            FolderMethod(folder)


# ----------------------------------------------------------------------------------------------------- summary


def test_summary_is_the_mean_per_task_with_its_interval():
    values = [("haze", 10.0, 14.0), ("haze", 20.0, 22.0), ("haze", 30.0, 33.0), ("rain", 1.0, 2.0)]
    rows = [
        row(f"{i}.png", task=task, dataset=task, before={"psnr": a}, scores={"psnr": b})
        for i, (task, a, b) in enumerate(values)
    ]
    haze, rain = summarise(rows, find_metrics(["psnr", "ssim"]))
    assert (haze.n, haze.input.mean, haze.gain.mean) == (3, 20, 3)
    assert haze.gain.interval.half == pytest.approx(4.302653 * 1 / math.sqrt(3), rel=1e-6)  # t of 2 degrees of freedom
    assert (rain.n, rain.gain.mean, rain.gain.interval) == (1, 1, None)
    text = "\n".join(table([haze, rain]))
    assert "higher is better" in text and "+3.00 ± 2.48" in text and "+1.00\n" in text + "\n"


# ----------------------------------------------------------------------------------------------------- command


def test_evaluate_names_its_protocol_and_logs_every_image(pairs, model_folder, tmp_path):
    log, sheet = tmp_path / "rows.jsonl", tmp_path / "rows.csv"
    save(pairs / "clean" / "target" / "c.png", picture(4))
    save(pairs / "clean" / "input" / "c.png", picture(4))
    command = ("evaluate", pairs, "--model", model_folder, "--dtype", "fp32", "--json", log)
    result = run(*command, "--csv", sheet, "--save", tmp_path / "kept")
    assert result.exit_code == 0, result.output
    assert "saved-8bit: native size" in result.output and "scikit-image" in result.output and "haze" in result.output
    rows = read_rows(log)
    assert len(rows) == 5 and all(len(r.sha256) == 64 and r.protocol == "saved-8bit" for r in rows)
    assert {r.before["psnr"] for r in rows if r.task == "clean"} == {100.0}
    assert {"restorevar", "scikit-image", "torch"} <= rows[0].versions.keys()
    assert rows[0].settings["fidelity"] == 1.0 and rows[0].seconds > 0
    assert np.array(Image.open(rows[0].output)).shape == (48, 64, 3)
    with sheet.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 5 and float(lines[0]["before.psnr"]) == rows[0].before["psnr"]
    again = run(*command)
    assert again.exit_code == 0 and "5 of 5 images are in" in again.stderr
    assert len(log.read_text().splitlines()) == 5
    assert again.output.count("PSNR") == result.output.count("PSNR")


def test_evaluate_at_several_weights_loads_the_model_once(pairs, model_folder, tmp_path, monkeypatch):
    """W = 0 from zeros does not look at the photo at all; the controls say so where they are printed."""
    from restorevar import pipeline

    loads = []

    def load(name):
        loads.append(name)
        return checkpoints.load_model(name)

    monkeypatch.setattr(pipeline, "load_model", load)
    common = ("evaluate", pairs, "--model", model_folder, "--dtype", "fp32", "--name", "ours")
    log = tmp_path / "weights.jsonl"
    result = run(*common, "--fidelity", "0", "--fidelity", "1", "--json", log)
    assert result.exit_code == 0, result.output
    rows = read_rows(log)
    assert [r.settings["fidelity"] for r in rows] == [0] * 4 + [1] * 4 and len(loads) == 1
    assert rows[0].scores["psnr"] != rows[4].scores["psnr"] and rows[0].before == rows[4].before
    for latent in ("zeros", "degraded"):
        result = run(*common, "--latent", latent, "--json", log)
        assert result.exit_code == 0 and f"ours, latent: {latent}" in result.output
    assert len(read_rows(log)) == 16
    for wrong, words in (("--latent", "zeros or degraded"), ("--fidelity", "fidelity")):
        result = run(*common, wrong, "7")
        assert result.exit_code == 2 and words in result.stderr and len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("latent", get_args(Latent))
@pytest.mark.parametrize("speed", SPEEDS)
def test_controls_restore_at_any_speed(model_folder, latent, speed):
    restorer = Restorer.from_pretrained(str(model_folder), device="cpu", speed=speed, fidelity=0.0)
    control(restorer, latent)
    restored = restorer(picture(0))
    assert restored.shape == (48, 64, 3) and not np.array_equal(restored, picture(0))


def test_evaluate_folders_of_outputs_and_nothing_done(pairs, tmp_path):
    outputs = tmp_path / "theirs"
    for path in (pairs / "haze" / "target").iterdir():
        save(outputs / "haze" / path.name, np.array(Image.open(path)))
    log = tmp_path / "rows.jsonl"
    haze = ("--input", pairs / "haze" / "input", "--target", pairs / "haze" / "target")
    result = run("evaluate", *haze, "--outputs", outputs, "--protocol", "native-rgb", "--json", log)
    assert result.exit_code == 0, result.output
    assert [(r.method, r.scores["psnr"]) for r in read_rows(log)] == [("theirs", 100.0)] * 2
    result = run("evaluate", *haze, "--method", "input", "--protocol", "native-rgb", "--json", log)
    assert result.exit_code == 0 and [r.method for r in read_rows(log)][2:] == ["input", "input"]
    assert "+0.00" in result.output
    # Outputs that are not there: told one by one, the others scored.
    result = run("evaluate", pairs, "--outputs", outputs)
    assert result.exit_code == 1 and len(result.stderr.splitlines()) == 2 and "haze" in result.stdout
    assert all("no output for" in line for line in result.stderr.splitlines())


def test_evaluate_runs_a_peer_and_knows_its_outputs_again(pairs, tmp_path):
    log, kept = tmp_path / "rows.jsonl", tmp_path / "kept"
    command = ("evaluate", pairs, "--method", "no-op", "--protocol", "restorevar-512", "--json", log)
    result = run(*command)
    assert result.exit_code == 2 and "--save" in result.stderr
    assert run(*command, "--save", kept).exit_code == 0
    rows = read_rows(log)
    assert len(rows) == 4 and all(r.method == "no-op" and r.scores == r.before for r in rows)
    assert np.array(Image.open(rows[0].output)).shape == (512, 512, 3)
    for more in (("--save", kept), ("--outputs", kept / "no-op" / "512x512")):
        assert "4 of 4 images are in" in run(*command, *more).stderr
    result = run("evaluate", pairs, "--outputs", kept / "no-op" / "512x512", "--protocol", "native-rgb")
    assert result.exit_code == 1 and "512 x 512 pixels, but 64 x 48" in result.stderr
    # Protocols of one size share what the peer made; those of another size do not.
    runs = []
    for protocol in ("native-rgb", "saved-8bit", "native-y"):
        result = run("evaluate", pairs, "--method", "no-op", "--protocol", protocol, "--save", kept)
        assert result.exit_code == 0, result.output
        runs.append((kept / "no-op" / "native.job" / "run.json").read_text())
    assert len(set(runs)) == 1 and len(list((kept / "no-op").iterdir())) == 4


def test_evaluate_a_manifest_without_reference(pairs, tmp_path):
    entry = {"image_path": "haze/input/p0.png", "target_path": "haze/target/p0.png"}
    (pairs / "list.json").write_text(json.dumps([entry | {"degradation": "Haze", "dataset": "CDD"}]))
    log = tmp_path / "rows.jsonl"
    command = ("evaluate", "--manifest", pairs / "list.json", "--method", "input", "--json", log)
    result = run(*command, "--protocol", "restorevar-512-noref", "--metrics", "piqe,blur")
    assert result.exit_code == 0, result.output
    (found,) = read_rows(log)
    assert (found.dataset, found.task, set(found.scores)) == ("CDD", "haze", {"piqe", "blur"})
    assert found.scores == found.before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "one source"),
        (["PAIRS", "--protocol", "y"], "native-y"),
        (["PAIRS", "--metrics", "psnr,ssmi"], "ssmi"),
        (["PAIRS", "--model", "compact", "--method", "input"], "one of --model"),
        (["PAIRS", "--outputs", "nowhere"], "nowhere"),
        (["PAIRS", "--outputs", "PAIRS", "--fidelity", "0"], "go with --model"),
        (["PAIRS", "--method", "input", "--checkout", "PAIRS"], "run here"),
        (["PAIRS", "--method", "input", "--json", "."], "folder"),
        (["PAIRS", "--method", "input", "--metrics", "pyiqa:niqe"], "non-commercial"),
    ],
)
def test_evaluate_mistakes(pairs, monkeypatch, arguments, words):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    result = run("evaluate", *(str(pairs) if a == "PAIRS" else a for a in arguments))
    assert result.exit_code == 2 and words in result.stderr and "Traceback" not in result.output


def test_metrics_can_be_listed():
    result = run("evaluate", "--metrics", "help")
    assert result.exit_code == 0 and "ciede2000" in result.stdout and "lower is better" in result.stdout
