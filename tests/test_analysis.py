"""The analyses: scales swapped, refiner controlled, steps swept, tokens and changes shown, unseen degradations."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from restorevar import checkpoints
from restorevar.cli import app
from restorevar.errors import UserError
from restorevar.evaluation.analysis import change, ddim, generalisation, refiner, scale_study, swaps, tokens, unseen
from restorevar.evaluation.analysis.chart import Line, Panel, draw
from restorevar.evaluation.analysis.drawing import Strip, Tile, code_colours, heat, sheet
from restorevar.evaluation.analysis.judging import judge, judge_all
from restorevar.evaluation.analysis.pyramid import coarsest, finest, predict, pyramid_of, swapped
from restorevar.evaluation.analysis.sampling import chosen_pairs, over_photos, pairs_in, shares_over_photos
from restorevar.evaluation.analysis.views import view, views_of_pair
from restorevar.evaluation.controls import LatentControl
from restorevar.evaluation.pairs import Pair
from restorevar.evaluation.statistics import Interval, Mean
from restorevar.models import RegressionNet, RestoreVAR
from restorevar.models.config import debug
from restorevar.models.regression import RegressionConfig
from restorevar.pipeline import Restorer


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def picture(seed, height=48, width=80):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [127 + 90 * np.sin(x / rng.uniform(4, 12) + y / rng.uniform(4, 12)) for _ in range(3)]
    return np.clip(np.stack(waves, -1) + rng.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8)


@pytest.fixture
def pairs(tmp_path):
    """Two tasks of three photos: one darkens, one adds noise."""
    rng = np.random.default_rng(5)
    for task in ("lowlight", "rain"):
        for i in range(3):
            clean = picture(i)
            degraded = clean // 4 if task == "lowlight" else np.clip(clean + rng.normal(0, 40, clean.shape), 0, 255)
            for part, pixels in (("target", clean), ("input", degraded.astype(np.uint8))):
                path = tmp_path / "pairs" / task / part / f"p{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return tmp_path / "pairs"


@pytest.fixture
def restorer(tiny):
    return Restorer(tiny, name="tiny", device="cpu", dtype="fp32")


@pytest.fixture
def folder(tiny, tmp_path):
    checkpoints.save_model(tiny, tmp_path / "model")
    return tmp_path / "model"


def two(pairs, task="lowlight"):
    return pairs / task / "target" / "p0.png", pairs / task / "input" / "p0.png"


# ----------------------------------------------------------------------------------------------- views, pyramids


def test_a_view_is_padded_for_the_model_and_cropped_for_us(restorer):
    shown = view(restorer, picture(0, 50, 130), size=100)
    assert shown.image_B3HW.shape == (1, 3, 64, 104) and (shown.height, shown.width) == (38, 100)
    assert shown.photo_3HW.shape == (3, 38, 100)
    whole = view(restorer, picture(0, 50, 90), size=100)  # small photos are not enlarged
    assert torch.allclose((whole.photo_3HW + 1) * 127.5, torch.from_numpy(picture(0, 50, 90)).permute(2, 0, 1).float())


def test_a_fixed_window_is_filled(tiny):
    config = replace(debug(), refiner=replace(debug().refiner, positions="learned"))
    fixed = Restorer(RestoreVAR(config), device="cpu", dtype="fp32")
    shown = view(fixed, picture(0, 30, 60), size=512)
    assert shown.image_B3HW.shape[-2:] == (config.window, config.window) and shown.width == config.window


def test_the_parts_of_a_pyramid_add_up_to_the_latent(tiny, restorer):
    image = view(restorer, picture(0)).image_B3HW
    found = pyramid_of(tiny, image)
    quantizer = tiny.vqvae.quantizer
    latent = tiny.vqvae.encode(image)
    expected = quantizer.decode(quantizer.tokenize(latent), latent.shape[-2:])
    torch.testing.assert_close(found.latent, expected, atol=1e-5, rtol=1e-4)
    assert [t.shape[1:] for t in found.tokens] == [tuple(g) for g in tiny.config.scales.grids(latent.shape[-2:])]


@pytest.mark.parametrize("rollout", ["argmax", "expected"])
def test_a_prediction_is_the_rollout_that_restores(tiny, rollout):
    tiny.config = replace(tiny.config, rollout=rollout)
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    f_hat, hidden = tiny.generate(tiny.condition(image))
    found = predict(tiny, image)
    torch.testing.assert_close(found.pyramid.latent, f_hat, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.hidden_BLD, hidden)
    bits = math.log2(tiny.config.vqvae.codebook_size)
    for confidence, entropy, chosen in zip(found.confidence, found.entropy, found.pyramid.tokens, strict=True):
        assert confidence.shape == entropy.shape == chosen.shape
        assert confidence.min() > 0 and confidence.max() <= 1 and entropy.min() >= 0 and entropy.max() <= bits + 1e-4


def test_swapping_the_coarse_of_one_is_swapping_the_fine_of_the_other(tiny, restorer):
    a, b = (pyramid_of(tiny, view(restorer, picture(i)).image_B3HW) for i in (0, 1))
    for n in range(len(a) + 1):
        torch.testing.assert_close(swapped(a, b, coarsest(a, n)), swapped(b, a, finest(b, len(b) - n)))
    assert torch.equal(swapped(a, b, range(len(a))), b.latent) and torch.equal(swapped(a, b, ()), a.latent)


# ------------------------------------------------------------------------------------------------- scale study


def test_swaps_begin_at_the_base_and_end_at_the_degraded_photo(restorer, pairs):
    clean, degraded = views_of_pair(restorer, *two(pairs))
    found = swaps.swap_scales(restorer.model, clean, degraded, keep=True)
    assert found.counts == [t.numel() for t in found.clean.tokens] and len(found.changed) == 4
    for base in ("truth", "outputs"):
        coarse, fine = found.curves[base]["coarse"], found.curves[base]["fine"]
        assert [p.swapped for p in coarse.points] == [0, 1, 2, 3, 4] and len(coarse.images) == 5
        assert coarse.points[0] == fine.points[0] and coarse.points[-1] == fine.points[-1]
        assert coarse.at(0).returned == 0 and coarse.at(4).returned == pytest.approx(1)
        assert coarse.at(4).latent == pytest.approx(1)
    assert found.curves["truth"]["coarse"].at(0).latent == 0
    assert found.curves["outputs"]["coarse"].at(0).latent > 0
    assert found.ways["truth"] > 0
    fewer = swaps.swap_scales(restorer.model, clean, degraded, splits=[2], outputs=False)
    assert list(fewer.curves) == ["truth"] and fewer.curves["truth"]["fine"].at(2) == found.curves["truth"]["fine"].at(
        2
    )
    with pytest.raises(ValueError, match="token maps of the clean"):
        swaps.swap_scales(restorer.model, clean, clean)


def records(coarse, fine, photos=4, task="haze"):
    """Made-up pairs in which the halves bring so much back."""

    def curve(half, jitter):
        middle = {"swapped": 2, "latent": 0.5, "psnr": 20.0, "returned": half + jitter}
        ends = [{"swapped": n, "latent": n / 4, "psnr": 30.0 - n, "returned": n / 4} for n in (0, 4)]
        return [ends[0], middle, ends[1]]

    return [
        {
            "dataset": "d",
            "task": task,
            "image": f"p{i}.png",
            "photo": f"p{i}",
            "counts": [1, 4, 9, 16],
            "changed": [1.0, 0.5, 0.5, 0.25],
            "kept": 0.4,
            "ways": {"truth": 10.0},
            "curves": {"truth": {"coarse": curve(coarse, 0.01 * i), "fine": curve(fine, -0.01 * i)}},
        }
        for i in range(photos)
    ]


@pytest.mark.parametrize(
    ("coarse", "fine", "word"),
    [(0.9, 0.1, "supports"), (0.2, 0.8, "contradicts"), (0.9, 0.7, "contradicts"), (0.49, 0.1, "leaves open")],
)
def test_the_sentence_says_what_the_figures_say(coarse, fine, word):
    found = scale_study.conclude(records(coarse, fine), {"model": "made up"})
    whole, haze = found.verdicts
    assert haze.word == whole.word == word and haze.subject == "haze" and haze.where == "truth"
    assert haze.figures["pairs"] == 4 and haze.figures["coarse"] == pytest.approx(coarse + 0.015)
    assert f"bring back {100 * coarse + 1.5:.0f} %" in haze.sentence and "4 pairs of 4 photos" in haze.sentence
    assert "17 % of the tokens" in haze.sentence or "the 2 finest" in haze.sentence
    ElementTree.fromstring(found.charts["curves"])


def test_outputs_that_are_no_better_than_the_input_say_nothing():
    made = records(0.9, 0.1)
    for i, record in enumerate(made):
        curves = record["curves"]["truth"]
        record["ways"]["outputs"] = 5.0
        record["curves"]["outputs"] = {end: [dict(point) for point in points] for end, points in curves.items()}
        for points in record["curves"]["outputs"].values():
            points[0]["psnr"] = 25.5 + 0.1 * i  # all swapped: 26
    found = scale_study.conclude(made, {})
    assert [v.word for v in found.verdicts] == ["supports", "supports", "leaves open", "leaves open"]
    assert "not surely nearer to the clean photo" in found.verdicts[-1].sentence
    for record in made:
        for points in record["curves"]["outputs"].values():
            points[0]["psnr"] += 4
    assert scale_study.conclude(made, {}).verdicts[-1].word == "supports"


def test_tasks_that_differ_are_told_apart():
    found = scale_study.conclude(records(0.9, 0.1) + records(0.1, 0.9, task="rain"), {})
    assert "support it for haze and contradict it for rain" in found.verdicts[0].sentence


def test_scales_draws_a_pair(pairs, folder, tmp_path):
    out, figures = tmp_path / "out" / "fig.png", tmp_path / "fig.json"
    common = ("--model", folder, "--dtype", "fp32", "--json", figures)
    result = run("analyze", "scales", *two(pairs), "-o", out, *common)
    assert result.exit_code == 0, result.output
    assert Image.open(out).width > 5 * 192 and "2 coarsest scales" in result.output
    told = json.loads(figures.read_text())
    assert {base: list(ends) for base, ends in told["curves"].items()} == {
        "truth": ["coarse", "fine"],
        "outputs": ["coarse", "fine"],
    }


def test_scales_studies_folders(pairs, folder, tmp_path):
    files = ("--json", tmp_path / "s.json", "--markdown", tmp_path / "s.md")
    result = run("analyze", "scales", pairs, "--model", folder, "--dtype", "fp32", "--split", 1, "--limit", 2, *files)
    assert result.exit_code == 0, result.output
    told = json.loads((tmp_path / "s.json").read_text())
    assert len(told["records"]) == 4 and {r["task"] for r in told["records"]} == {"lowlight", "rain"}
    assert [p["swapped"] for p in told["records"][0]["curves"]["truth"]["fine"]] == [0, 1, 2, 4]  # 2 is half of 4
    text = (tmp_path / "s.md").read_text()
    for verdict in told["verdicts"]:
        assert verdict["sentence"] in text and verdict["sentence"].replace("**", "") in result.output
    assert told["about"]["sha256"] in text and (tmp_path / "s-curves.svg").exists() and "(s-curves.svg)" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["PAIRS", "-o", "x.png"], "one pair"),
        (["CLEAN", "DEGRADED"], "--out"),
        (["CLEAN", "-o", "x.png"], "two photos"),
        (["CLEAN", "DEGRADED", "-o", "x.txt"], "x.txt"),
        (["CLEAN", "OTHER", "-o", "x.png"], "pixels"),
        (["CLEAN", "CLEAN", "-o", "x.png"], "token maps of the clean"),
        (["CLEAN", "DEGRADED", "-o", "x.png", "--split", "9"], "4 scales"),
        (["PAIRS/lowlight/input"], "no pairs"),
    ],
)
def test_mistakes_are_told_in_a_line(pairs, folder, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture(0, 40, 40)).save("other.png")
    clean, degraded = two(pairs)
    names = {"CLEAN": clean, "DEGRADED": degraded, "OTHER": tmp_path / "other.png"}
    given = [str(names.get(a, a.replace("PAIRS", str(pairs)))) for a in arguments]
    result = run("analyze", "scales", *given, "--model", folder, "--dtype", "fp32")
    assert result.exit_code == 2 and words in result.stderr and len(result.stderr.splitlines()) == 1, result.output


def test_a_study_goes_on_without_a_pair_that_cannot_be_read(pairs, folder, caplog):
    (pairs / "rain" / "input" / "p1.png").write_bytes(b"no picture")
    result = run("analyze", "scales", pairs, "--model", folder, "--dtype", "fp32", "--split", 2, "--no-outputs")
    assert result.exit_code == 0 and "2 pairs of 2 photos" in result.output, result.output
    assert "p1.png" in caplog.text and "left out" in caplog.text


def test_a_regression_network_has_nothing_to_look_at(pairs, tmp_path):
    config = RegressionConfig(width=8, encoder=(1, 1), middle=1, decoder=(1, 1))
    checkpoints.save_model(RegressionNet(config), tmp_path / "net")
    result = run("analyze", "refiner", pairs, "--model", tmp_path / "net")
    assert result.exit_code == 2 and "no token maps" in result.stderr


# -------------------------------------------------------------------------------------------- refiner and steps


def test_the_control_feeds_the_refiner_with_the_degraded_latent(restorer, pairs):
    model = restorer.model
    clean, degraded = views_of_pair(restorer, *two(pairs))
    found = refiner.control_refiner(model, clean, degraded)
    assert list(found.outcomes) == list(refiner.VARIANTS)
    _, hidden = model.generate(model.condition(degraded.image_B3HW))
    refined = model.refine(pyramid_of(model, degraded.image_B3HW).latent, hidden)
    expected = degraded.crop(model.decode(refined, degraded.image_B3HW, 0.0))
    torch.testing.assert_close(found.images["control"], expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        LatentControl(model, "degraded-refined").restore(degraded.image_B3HW, 0.0)[0, :, :48, :80],
        expected,
        atol=1e-5,
        rtol=1e-4,
    )
    restored = degraded.crop(model.restore(degraded.image_B3HW, 0.0))
    torch.testing.assert_close(found.images["restored"], restored, atol=1e-5, rtol=1e-4)
    assert found.outcomes["degraded"].removed == 0
    model.config = replace(model.config, refiner=replace(model.config.refiner, kind="none"))
    with pytest.raises(UserError, match="no refiner"):
        refiner.control_refiner(model, clean, degraded)


def test_refiner_command(pairs, folder, tmp_path):
    result = run("analyze", "refiner", *two(pairs), "-o", tmp_path / "r.png", "--model", folder, "--dtype", "fp32")
    assert result.exit_code == 0 and "control:" in result.output and Image.open(tmp_path / "r.png").width > 900
    result = run("analyze", "refiner", pairs, "--model", folder, "--dtype", "fp32", "--markdown", tmp_path / "r.md")
    assert result.exit_code == 0, result.output
    text = (tmp_path / "r.md").read_text()
    assert text.count("| rain, ") == len(refiner.VARIANTS) and "That the refiner does not restore by itself" in text


@pytest.fixture
def diffusion(tmp_path):
    torch.manual_seed(0)
    model = RestoreVAR(replace(debug(), refiner=replace(debug().refiner, kind="diffusion"))).eval()
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point() and not tensor.any():
            tensor.data.normal_(std=0.1)
    checkpoints.save_model(model, tmp_path / "diffusion")
    return tmp_path / "diffusion"


def test_ddim_sweeps_the_steps_and_leaves_the_model_as_it_was(pairs, diffusion):
    restorer = Restorer.from_pretrained(str(diffusion), device="cpu", dtype="fp32")
    model = restorer.model
    clean, degraded = views_of_pair(restorer, *two(pairs))
    before = model.refiner.config
    rows = ddim.sweep(model, clean, degraded, (1, 3))
    assert model.refiner.config == before and [row["steps"] for row in rows] == [1, 3]
    assert rows[0]["psnr"] != rows[1]["psnr"] and all(row["seconds"] > 0 for row in rows)
    model.refiner.config = replace(before, steps=3)
    restored = degraded.crop(model.restore(degraded.image_B3HW, 0.0))
    error = ((restored - clean.photo_3HW) ** 2).mean()
    assert rows[1]["psnr"] == pytest.approx(float(10 * torch.log10(4 / error)), abs=1e-3)


def test_ddim_command(pairs, diffusion, folder, tmp_path):
    common = ("analyze", "ddim", pairs, "--dtype", "fp32", "--limit", 2, "--steps", 4, "--steps", 1)
    result = run(*common, "--model", diffusion, "--json", tmp_path / "d.json", "--markdown", tmp_path / "d.md")
    assert result.exit_code == 0, result.output
    told = json.loads((tmp_path / "d.json").read_text())
    assert [s["steps"] for s in told["records"][0]["steps"]] == [1, 4] and "From 1 to 4 steps" in result.output
    result = run(*common, "--model", folder)
    assert result.exit_code == 2 and "refiner.kind=diffusion" in result.stderr
    result = run("analyze", "ddim", pairs, "--model", diffusion, "--steps", 0)
    assert result.exit_code == 2 and "1 to 1000" in result.stderr


# -------------------------------------------------------------------------------------------- tokens and change


def test_tokens_command(pairs, folder, tmp_path):
    _, degraded = two(pairs)
    common = ("--model", folder, "--dtype", "fp32")
    result = run("analyze", "tokens", degraded, "-o", tmp_path / "t.png", "--json", tmp_path / "t.json", *common)
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "t.json").read_text())
    assert [row["scale"] for row in rows] == [1, 2, 3, 4] and rows[-1]["grid"] == [8, 10]
    assert all(0 < row["confidence"] <= 1 and 0 <= row["changed"] <= 1 for row in rows)
    assert len(result.output.splitlines()) == 5 and Image.open(tmp_path / "t.png").width > 4 * 128


def test_decoded_so_far_ends_at_the_whole_prediction(restorer, pairs):
    model = restorer.model
    _, degraded = views_of_pair(restorer, *two(pairs))
    found = tokens.token_maps(model, degraded)
    f_hat, _ = model.generate(model.condition(degraded.image_B3HW))
    torch.testing.assert_close(found.partial[-1], degraded.crop(model.vqvae.decode(f_hat)), atol=1e-5, rtol=1e-4)
    assert not torch.equal(found.partial[0], found.partial[-1])


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_parts_of_a_change_add_up(tiny, pairs, weight):
    restorer = Restorer(tiny, device="cpu", dtype="fp32", fidelity=weight)
    _, degraded = views_of_pair(restorer, *two(pairs))
    found = change.split_change(restorer, degraded)
    assert list(found.parts) == ["round trip", "prediction", "branch"][: 3 if weight else 2]
    torch.testing.assert_close(sum(found.parts.values()), found.whole)
    restored = degraded.crop(tiny.restore(degraded.image_B3HW, weight))
    torch.testing.assert_close(found.restored, restored, atol=1e-5, rtol=1e-4)
    levels = found.levels()
    assert levels["whole"] == pytest.approx(float((restored - found.photo).square().mean().sqrt() * 127.5), rel=1e-4)
    assert change.change_map(found.whole).shape == (48, 80)


def test_change_command(pairs, folder, tmp_path):
    _, degraded = two(pairs)
    out, figures = tmp_path / "c.jpg", tmp_path / "c.json"
    result = run("analyze", "change", degraded, "-o", out, "--model", folder, "--fidelity", 0.5, "--json", figures)
    assert result.exit_code == 0 and Image.open(out).format == "JPEG", result.output
    assert list(json.loads(figures.read_text())) == ["round trip", "prediction", "branch", "whole"]


# ---------------------------------------------------------------------------------------------- what they rest on


def test_pairs_of_one_photo_count_once(pairs, tmp_path):
    found = pairs_in([pairs, pairs])
    assert len(found) == 12 and len(chosen_pairs(found, 4)) == 8
    mean = over_photos([("a", 1.0), ("a", 3.0), ("b", 4.0)])
    assert (mean.n, mean.mean) == (2, 3.0)
    with pytest.raises(UserError, match="no pairs"):
        chosen_pairs([Pair("d", "clean", "a", tmp_path, tmp_path), Pair("d", "haze", "b", tmp_path)], None)


def test_shares_weigh_by_their_whole():
    even = [(f"p{i}", share, 1.0) for i, share in enumerate((0.2, 0.4, 0.6))]
    plain, weighed = over_photos((p, s) for p, s, _ in even), shares_over_photos(even)
    assert weighed.mean == pytest.approx(plain.mean)
    assert weighed.interval.low == pytest.approx(plain.interval.low)
    with_noise = shares_over_photos([*even, ("p3", -500.0, 1e-6)])
    assert with_noise.mean == pytest.approx(0.4, abs=1e-2)


def test_words():
    def mean(low, high):
        return Mean(3, 1, (low + high) / 2, Interval(low, high))

    assert [judge(mean(*ends)) for ends in ((0.1, 1), (-1, 1), (-2, -1))] == ["supports", "leaves open", "contradicts"]
    assert judge(Mean(1, 1, 5.0, None)) == "leaves open"
    assert judge_all(mean(1, 2), mean(-1, 1)) == "leaves open" and judge_all(mean(1, 2), mean(-2, -1)) == "contradicts"


def test_charts_are_svg_with_a_line_for_each(tmp_path):
    lines = [Line("a <b>", [(1, 2.0), (4, 3.5)]), Line("a <b>", [(1, 1.0), (4, 1.0)], dashed=True)]
    root = ElementTree.fromstring(draw([Panel("t", "x", "y", lines), Panel("u", "x", "y", lines, log_x=True)]))
    found = root.findall(".//{http://www.w3.org/2000/svg}polyline")
    assert len(found) == 4 and len({line.get("stroke") for line in found}) == 1
    assert ElementTree.tostring(root).count(b"a &lt;b&gt;") == 1  # once in the legend


def test_colours():
    ramp = heat(torch.tensor([[0.0, 0.5, 1.0, 2.0]]), 0, 1)
    assert ramp.shape == (1, 4, 3) and np.array_equal(ramp[0, 2], ramp[0, 3])
    assert (np.diff(ramp[0, :3].sum(-1).astype(int)) > 0).all()
    codes = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    colours = code_colours(codes)
    assert colours.shape == (20, 3) and colours.dtype == np.uint8 and len(np.unique(colours[:, 0])) == 20
    assert np.array_equal(colours, code_colours(codes.clone()))


def test_a_sheet_holds_its_tiles_in_rows():
    blocks = np.zeros((1, 1, 3), np.uint8)
    image = sheet(
        [Strip("one", [Tile(picture(0), "a caption that is far too long for its cell" * 3)] * 2)] * 2, cell=80
    )
    assert image.size == (6 + 2 * 86, 6 + 2 * (20 + 48 + 16 + 6))
    stretched = np.asarray(sheet([Strip("", [Tile(picture(0)), Tile(blocks, blocks=True)])], cell=80))
    assert (stretched[26:74, 92:172] == 0).all()


@pytest.mark.parametrize("name", unseen.UNSEEN)
def test_unseen_degradations_are_seeded_and_grow_with_strength(name):
    image = torch.from_numpy(picture(1)).permute(2, 0, 1)[None].float() / 255
    before, degrade = image.clone(), unseen.UNSEEN[name]

    def make(strength, seed=0):
        return degrade(image, torch.tensor([strength]), torch.Generator().manual_seed(seed))

    weak, strong = make(0.1), make(0.9)
    assert strong.shape == image.shape and strong.min() >= 0 and strong.max() <= 1 and torch.equal(image, before)
    assert 0 < (weak - image).abs().mean() < (strong - image).abs().mean()
    assert torch.equal(make(0.5), make(0.5))


# ---------------------------------------------------------------------------------------------- generalisation


def test_who_knows_what():
    assert generalisation.familiarity("haze") == "trained on"
    assert generalisation.familiarity("lowlight+rain") == generalisation.familiarity("rain+lowlight")
    assert generalisation.familiarity("haze+rain") == "mixture trained on"
    assert generalisation.familiarity("haze+blur") == "new mixture" and generalisation.familiarity("jpeg") == "unseen"


def test_generalisation_command(folder, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(2):
        Image.fromarray(picture(i, 40, 64)).save(photos / f"p{i}.png")
    files = ("--json", tmp_path / "g.json", "--markdown", tmp_path / "g.md", "--rows", tmp_path / "rows.jsonl")
    tasks = [word for task in ("haze", "haze+blur", "jpeg") for word in ("--task", task)]
    common = ("analyze", "generalisation", photos, "-o", tmp_path / "set", "--model", folder, "--dtype", "fp32")
    result = run(*common, *tasks, *files)
    assert result.exit_code == 0, result.output
    told = json.loads((tmp_path / "g.json").read_text())
    assert [(v["subject"], v["where"]) for v in told["verdicts"][1:]] == [
        ("haze", "trained on"),
        ("haze+blur", "new mixture"),
        ("jpeg", "unseen"),
    ]
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == len(told["records"]) == 6
    record = told["records"][-1]
    made, clean = (np.asarray(Image.open(tmp_path / "set" / "jpeg" / part / "p1.png")) for part in ("input", "target"))
    error = np.mean((made.astype(float) - clean) ** 2)
    assert record["before"]["psnr"] == pytest.approx(10 * np.log10(255**2 / error), abs=1e-6)
    assert np.array_equal(clean, picture(1, 40, 64)) and "saved-8bit" in (tmp_path / "g.md").read_text()
    result = run(*common, "--task", "sleet")
    assert result.exit_code == 2 and "sleet" in result.stderr and "underwater" in result.stderr
