"""`restorevar bench`: figures that are finite and add up, counts that are right, other people's code kept apart."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner, Result

from restorevar import checkpoints
from restorevar.benchmarks import (
    breakdown,
    diffusion,
    foreign,
    hardware,
    ladder,
    photos,
    published,
    rivals,
    run,
    scaling,
)
from restorevar.benchmarks.flops import META, Flops, count, counting
from restorevar.benchmarks.regression_rivals import measure_rival, parse_rival
from restorevar.benchmarks.subject import find_subject, random_model, random_subject
from restorevar.benchmarks.tables import Table, flops, seconds, size
from restorevar.benchmarks.timing import Timing, measure, peak_memory, summarise, timed
from restorevar.cli import app
from restorevar.errors import UserError
from restorevar.evaluation.analysis.chart import Line, Panel, draw
from restorevar.evaluation.pairs import Pair
from restorevar.models import (
    RefinerConfig,
    RegressionConfig,
    RestoreVARConfig,
    ScaleSchedule,
    TransformerConfig,
    VQVAEConfig,
    build_model,
)
from restorevar.models.config import debug, paper
from restorevar.pipeline import Restorer

CPU = torch.device("cpu")
PEAK = hardware.Peak("float32", 1e9, 64, 5e8, 1e9)

#: The published architecture, tiny: what `to_official` can write.
PUBLISHED = RestoreVARConfig(
    scales=ScaleSchedule((1, 2, 3, 4)),
    vqvae=VQVAEConfig(widths=(32, 32), blocks=1, latent_channels=8, codebook_size=32),
    transformer=TransformerConfig(depth=2, width=32, heads=2, drop_path=0.1 * 2 / 24),
    refiner=RefinerConfig(depth=1, width=24, heads=2, mlp_width=32),
)


@pytest.fixture(autouse=True)
def quick_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "SIDES_CPU", (32, 64))
    monkeypatch.setattr(hardware, "CONVOLVED_CPU", (1, 8, 16))
    monkeypatch.setattr(hardware, "COPIED_CPU", 1 << 16)


def bench(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["bench", "--device", "cpu", "--repeat", "2", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def refusal(*arguments: object) -> str:
    """The one line that a wrong call is answered with."""
    result = bench(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("restorevar: error: ") and result.stderr.count("\n") == 1
    return result.stderr


# ---------------------------------------------------------------------------------------------- clock, memory


def test_timing_is_median_and_quartiles():
    assert summarise([5.0, 1.0, 2.0, 4.0, 3.0]) == Timing(3.0, 2.0, 4.0, 5)
    assert summarise([2.0]) == Timing(2.0, 2.0, 2.0, 1)
    assert summarise([1.0, 2.0]).times(10) == Timing(15.0, 12.5, 17.5, 2)


def test_measure_warms_up_first():
    calls = []
    assert measure(lambda: calls.append(1), CPU, repeat=3).n == 3
    assert len(calls) == 4
    assert timed(lambda: sum(range(1000)), CPU) > 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets the high-water mark be reset")
def test_peak_memory_is_that_of_the_stretch():
    with peak_memory(CPU) as small:
        torch.zeros(10)
    with peak_memory(CPU) as large:
        torch.ones(50_000_000)
    assert small.bytes is not None and large.bytes is not None
    assert 150e6 < large.bytes - small.bytes < 300e6
    assert "process" in large.kind


def test_measured_peak_is_finite_and_named():
    peak = hardware.measure_peak(CPU, torch.float32, repeat=1)
    assert peak.dtype == "float32" and peak.side in (32, 64)
    assert 0 < min(peak.matmul, peak.convolution) <= peak.flops_per_second < math.inf
    assert 0 < peak.bytes_per_second < math.inf
    assert {"device_name", "threads", "torch", "date"} <= set(hardware.environment(CPU))


# ---------------------------------------------------------------------------------------------------- counting


def test_counts_equal_those_by_hand():
    with META:
        linear, conv = nn.Linear(7, 11), nn.Conv2d(3, 5, 3, padding=1)
        rows, image, q = torch.empty(13, 7), torch.empty(2, 3, 8, 9), torch.empty(1, 2, 6, 4)
    assert count(lambda: linear(rows)) == Flops(2 * 13 * 7 * 11, 0)
    assert count(lambda: conv(image)) == Flops(2 * (2 * 8 * 9) * (3 * 3 * 3) * 5, 0)
    attention = 2 * (2 * 2 * 6 * 6 * 4)  # two products, two heads
    assert count(lambda: nn.functional.scaled_dot_product_attention(q, q, q)) == Flops(attention, attention)


def test_counting_works_where_values_are():
    with counting() as so_far:
        torch.ones(2, 3) @ torch.ones(3, 4)
    assert so_far().total == 2 * 2 * 3 * 4


def test_the_paper_model_costs_what_is_known():
    """Counted from the published code: encoder 0.867 T, decoder 1.583 T, refiner 0.116 T; 4.07 T with keys cached."""
    counts = breakdown.part_flops(paper(), 512)
    for name, known in (("encoder", 0.867e12), ("decoder", 1.583e12), ("refiner", 0.116e12)):
        assert counts[name].total == pytest.approx(known, rel=0.01), name
    assert sum(part.total for part in counts.values()) == pytest.approx(4.07e12, rel=0.01)
    assert len([name for name in counts if name.startswith("scale ")]) == 10


UNFUSED = replace(debug(), fidelity=replace(debug().fidelity, fuse=False))


@pytest.mark.parametrize("config", [debug(), UNFUSED, PUBLISHED], ids=["fused", "two pictures", "published"])
def test_parts_add_up_to_the_whole(config: RestoreVARConfig):
    with META:
        model, image = build_model(config).eval(), torch.empty(3, 3, config.window, config.window)
    whole = count(lambda: model.restore(image))
    assert sum(breakdown.part_flops(config, config.window, batch=3).values(), Flops(0, 0)) == whole
    assert min(part.total for part in breakdown.part_flops(config, config.window).values()) > 0


def test_parts_read_all_weights_but_class_table_and_quantizer():
    weights, model = breakdown.part_weights(PUBLISHED), random_model(PUBLISHED)
    read = sum(n for name, n in weights.items() if not name.startswith("scale ")) + weights["scale 1"]
    unread = [model.transformer.class_embed, model.vqvae.quantizer, model.vqvae.quant_conv, model.vqvae.post_quant_conv]
    total = sum(p.numel() for p in model.parameters())
    assert read == total - sum(p.numel() for part in unread for p in part.parameters())


# --------------------------------------------------------------------------------------------------- breakdown


def test_breakdown_is_finite_and_adds_up():
    found = breakdown.take_apart(random_model(debug()), "cpu", "fp32", 32, 2, 5, PEAK)
    names = [part.name for part in found.parts]
    assert names == [
        "encoder",
        "condition projection",
        *(f"scale {k} ({k}x{k})" for k in (1, 2, 3, 4)),
        "refiner",
        "decoder",
        "fidelity branch",
    ]
    for part in found.parts:
        assert 0 <= part.timing.low <= part.timing.median <= part.timing.high < math.inf
        assert part.flops.total > 0 and part.floor > 0 and math.isfinite(part.share_of_peak)
    together = sum(part.timing.median for part in found.parts)
    assert found.latency.median / 4 < together < found.latency.median * 4  # the machine may be busy
    assert found.flops.total == sum(part.flops.total for part in found.parts)
    assert sum(found.grouped().values()) == pytest.approx(together)
    assert set(found.grouped()) == {"VAE", "transformer", "refiner", "fidelity branch"}
    assert found.throughput > 0 and found.batch == 2 and found.memory.bytes
    assert found.end_to_end.median > 0 and found.dtype == "fp32"


def test_a_faster_path_without_begin_hides_the_projection_in_the_first_scale(monkeypatch: pytest.MonkeyPatch):
    plain = breakdown.part_timings

    def without(*args: object) -> dict[str, Timing]:
        return {name: timing for name, timing in plain(*args).items() if name != breakdown.PROJECTION}

    whole = breakdown.take_apart(random_model(debug()), "cpu", "fp32", 32, 1, 1, PEAK)
    monkeypatch.setattr(breakdown, "part_timings", without)
    hidden = breakdown.take_apart(random_model(debug()), "cpu", "fp32", 32, 1, 1, PEAK)
    assert hidden.flops == whole.flops
    assert hidden.parts[1].flops == whole.parts[1].flops + whole.parts[2].flops


def test_the_walk_leaves_the_model_as_it_was():
    model = random_model(debug())
    breakdown.walk(model, breakdown.random_image(32), lambda name: None)
    assert "begin" not in vars(model.transformer)


def test_a_regression_network_is_one_part():
    config = RegressionConfig(width=4, encoder=(1,), middle=1, decoder=(1,))
    found = breakdown.take_apart(random_model(config), "cpu", "fp32", 32, 1, 1, PEAK)
    assert [part.name for part in found.parts] == ["network"]
    assert found.flops.total > 0


def test_subjects_have_weights_in_every_part():
    subject = find_subject("debug")
    assert subject.random and "random" in str(subject)
    first, second = subject.build(), subject.build()
    for (name, a), b in zip(first.named_parameters(), second.parameters(), strict=True):
        assert a.any(), name
        assert a.equal(b), name
    assert subject.parameters == sum(p.numel() for p in first.parameters())
    with pytest.raises(UserError, match="unknown model"):
        find_subject("no such model")


# ------------------------------------------------------------------------------------------------------ rivals


def test_every_row_of_tables_5_and_6_is_there():
    rows = rivals.all_rows([])
    assert [row.method for row in rows if row.paper.table == 5] == ["Diff-Plugin", "AutoDIR", "PixWizard", "RestoreVAR"]
    assert [row.method for row in rows if row.paper.table == 6] == [
        "PromptIR",
        "InstructIR",
        "AWRaCLe",
        "DCPT",
        "DFPIR",
    ]
    assert {row.source for row in rows} == {"paper"}


def test_measured_rows_say_so():
    found = [
        rivals.Measured(name, Timing(1.0, 1.0, 1.0, 1), 10, 5, "fp32", "so and so") for name in ("AutoDIR", "mine")
    ]
    rows = {row.method: row for row in rivals.all_rows(found)}
    assert len(rows) == 10 and rows["mine"].paper is None
    assert rows["AutoDIR"].source == "measured: so and so" and rows["AutoDIR"].paper.steps == 100


def test_without_diffusers_there_is_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert "restorevar[ldm]" in refusal("--model", "debug", "--ldm")


def test_with_an_old_diffusers_there_is_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "diffusers", ModuleType("diffusers"))
    assert "UNet2DConditionModel" in refusal("--model", "debug", "--ldm")


def test_diffusion_networks_are_measured():
    pytest.importorskip("diffusers")
    unet = {
        "sample_size": 8,
        "cross_attention_dim": 32,
        "block_out_channels": (32, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    lumina = {"hidden_size": 96, "num_layers": 1, "num_attention_heads": 4, "num_kv_heads": 2}
    vae = diffusion.VAE | {"block_out_channels": (32,) * 4, "layers_per_block": 1}
    samplers = (
        diffusion.Sampler("Diff-Plugin", 20, "unet", unet, vae, 64),
        diffusion.Sampler("AutoDIR", 100, "unet", unet, vae, 64),
        diffusion.Sampler("PixWizard", 60, "lumina", lumina, vae, 64),
    )
    found = diffusion.measure_samplers(CPU, "fp32", 1, samplers)
    assert [row.method for row in found] == ["Diff-Plugin", "AutoDIR", "PixWizard"]
    assert all("one step measured and multiplied" in row.how and row.timing.median > 0 for row in found)
    ends = (100 * found[0].flops - 20 * found[1].flops) / 80  # the VAE's share, from two counts of steps
    assert ends > 0 and found[1].flops - ends == pytest.approx(5 * (found[0].flops - ends))


PROMPT_IR = """
from torch import nn

class PromptIR(nn.Module):
    def __init__(self, decoder=False):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, image):
        return image + self.conv(image)
"""


def test_a_regression_rival_from_a_checkout(tmp_path: Path):
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "model.py").write_text(PROMPT_IR)
    name, checkout = parse_rival(f"promptir={tmp_path}")
    found = measure_rival(name, checkout, CPU, "fp32", 1, size=16)
    assert (found.method, found.parameters) == ("PromptIR", 84)
    assert found.flops == 2 * 16 * 16 * 27 * 3
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["model.py", "net"]
    with pytest.raises(UserError, match=r"has no module models\.instructir"):
        measure_rival("instructir", checkout, CPU, "fp32", 1, size=16)


@pytest.mark.parametrize("text", ["promptir", "unknown=.", "promptir=/no/such/folder"])
def test_rivals_that_cannot_be(text: str):
    with pytest.raises(UserError):
        parse_rival(text)


# ----------------------------------------------------------------------------------------------- published code

#: The entry points of the published code; behind them our own model, from the weights that it is handed.
STAND_IN = """
import torch
from torch import nn
from restorevar.official_weights import load_official

class Autoencoder(nn.Module):
    def load_state_dict(self, state, strict=True):
        self.state = state

class Network(nn.Module):
    def __init__(self, vae):
        super().__init__()
        self.vae, self.head = [vae], nn.Identity()

    def load_state_dict(self, state, strict=True):
        self.model = load_official(self.vae[0].state, state, refiner_heads=2)
        self.head = self.model.transformer.head

    def autoregressive_infer_cfg(self, B, cond_img, g_seed=None):
        assert B == len(cond_img)
        print("their code prints")
        return (self.model.restore(cond_img) + 1) / 2 + OFFSET, None

def build_vae_var(device, patch_nums, V, Cvae, ch, share_quant_resi, num_classes, depth, shared_aln, inference_mode):
    assert patch_nums == (1, 2, 3, 4) and depth == 2 and inference_mode
    vae = Autoencoder()
    return vae, Network(vae)
"""


def checkout(folder: Path, code: str) -> Path:
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "__init__.py").write_text(code)
    return folder


def test_agreeing_code_is_measured(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(published, "computes_bf16", lambda device: True)
    code = checkout(tmp_path / "theirs", STAND_IN.replace("OFFSET", "0"))
    found = published.compare(random_subject("tiny", PUBLISHED), code, CPU, "bf16", 8, 2)
    assert found.agreement.holds and found.agreement.tokens == 30 and found.agreement.margin is None
    assert "outputs agree" in str(found.agreement)
    assert [(r.code, r.precision) for r in found.runs] == [
        ("published", "fp32"),
        ("published", "bf16"),
        ("ours", "fp32"),
        ("ours", "bf16"),
    ]
    assert all(r.timing.median > 0 and r.timing.n == 2 for r in found.runs)
    assert 0 < found.ratio("fp32", "bf16") < math.inf
    monkeypatch.setattr(published, "computes_bf16", lambda device: False)  # bf16 would take hours
    found = published.compare(random_subject("tiny", PUBLISHED), code, CPU, "fp32", 8, 2)
    assert [(r.code, r.precision) for r in found.runs] == [("published", "fp32"), ("ours", "fp32")]
    assert found.published_flops > 0
    assert sorted(path.name for path in code.rglob("*")) == ["__init__.py", "models"]


def test_disagreeing_code_is_reported(tmp_path: Path):
    model = tmp_path / "model"
    checkpoints.save_model(random_model(PUBLISHED), model)
    code = checkout(tmp_path / "theirs", STAND_IN.replace("OFFSET", "0.01"))
    figures = tmp_path / "figures.json"
    result = bench("--model", model, "--published-code", code, "--json", figures)
    assert result.exit_code == 1
    assert "OUTPUTS DISAGREE: 30 of 30 tokens equal, pixels within 2.0e-02" in result.stdout
    assert json.loads(figures.read_text())["published"]["agrees"] is False


def test_other_tokens_are_reported_with_their_margin():
    restorer = published.Restorer(random_model(PUBLISHED), device="cpu", dtype="fp32")
    image = breakdown.random_image(8)
    events = []
    restored = restorer.model.restore(image, on_scale=events.append)
    logits = torch.cat([event.logits_BlV for event in events], 1)
    logits[0, 7] = logits[0, 7].flip(-1)
    found = published._agreement(restorer, image, {"image": restored, "logits": logits})
    assert found.tokens_equal == 29 and found.margin > 0
    assert "29 of 30 tokens" in str(found) and "first difference" in str(found)


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("", "models has no build_vae_var"),
        ("import a_package_that_is_missing", "needs the Python package a_package_that_is_missing"),
        ("def build_vae_var(**options):\n    raise RuntimeError('several\\nlines')", "several lines"),
        ("import os\nos._exit(7)", "ended with code 7"),
    ],
    ids=["no builder", "missing package", "raises", "dies"],
)
def test_unexpected_checkouts_are_one_line(tmp_path: Path, code: str, cause: str):
    theirs = checkout(tmp_path / "theirs", code)
    with pytest.raises(UserError) as error:
        published.compare(random_subject("tiny", PUBLISHED), theirs, CPU, "fp32", 8, 1)
    assert cause in str(error.value) and "\n" not in str(error.value)


def test_checkouts_that_are_none(tmp_path: Path):
    assert "no such folder" in refusal("--model", "debug", "--published-code", tmp_path / "nothing")
    with pytest.raises(UserError, match="has no module models"):
        published.compare(random_subject("tiny", PUBLISHED), tmp_path, CPU, "fp32", 8, 1)
    with pytest.raises(UserError, match="does not know"):
        published.compare(random_subject("debug", debug()), tmp_path, CPU, "fp32", 32, 1)


def test_a_cpu_run_hides_gpus_from_their_code():
    assert foreign._surroundings(CPU)["CUDA_VISIBLE_DEVICES"] == ""


# ----------------------------------------------------------------------------------------------------- scaling


def test_geometric_sides_grow_as_in_the_paper():
    assert scaling.geometric_sides(8)[0] == 1
    for side in scaling.SIDES:
        sides = scaling.geometric_sides(side)
        assert sides[-1] == side and list(sides) == sorted(set(sides))
    assert len(scaling.geometric_sides(128)) > len(scaling.geometric_sides(32)) > len(scaling.geometric_sides(8))


def test_scaling_follows_appendix_c():
    found = scaling.measure_scaling(debug(), sides=(16, 64, 128))
    assert found.exponents["ours, attention"] == pytest.approx(4, abs=0.1)
    assert found.exponents["diffusion, attention per step"] == pytest.approx(4, abs=0.01)
    assert found.exponents["diffusion, attention"] > found.exponents["ours, attention"] + 0.1
    ratios = [point.diffusion.total / point.ours.total for point in found.points]
    assert ratios == sorted(ratios) and ratios[0] > 1
    assert all(point.ours_time is None for point in found.points)


def test_counting_two_depths_is_counting_all():
    config = debug()
    deep = replace(config, transformer=replace(config.transformer, depth=5))
    assert scaling._of_depth(deep, lambda c: scaling._ours_flops(c, 8)) == scaling._ours_flops(deep, 8)


def test_scaling_times_stop_where_they_would_take_long():
    found = scaling.measure_scaling(debug(), sides=(4, 8, 16), device=CPU, repeat=1, longest=1e-9)
    assert [point.ours_time is None for point in found.points] == [False, True, True]
    assert found.points[0].diffusion_time.median > 0


def test_exponents_of_known_powers():
    assert scaling.fit_exponent([1, 2, 4], [3, 24, 192]) == pytest.approx(3)
    assert math.isnan(scaling.fit_exponent([1], [1]))


def test_the_plot_is_svg_with_all_lines():
    line = [(8.0, 0.001), (16.0, 0.1), (32.0, 40.0)]
    lines = [Line("a & b", line), Line("O(n)", line, dashed=True)]
    root = ElementTree.fromstring(draw([Panel("title", "x", "y", lines, log_x=True, log_y=True)]))
    lines = root.findall(".//{*}polyline")
    assert len(lines) == 2 and lines[1].get("stroke-dasharray")
    assert {"a & b", "O(n)", "title", "0.001", "100"} <= {text.text for text in root.findall(".//{*}text")}
    for x, y in (map(float, point.split(",")) for point in lines[0].get("points").split()):
        assert 0 < x < 640 and 0 < y < 420


# ------------------------------------------------------------------------------------------------------ photos


def test_photos_are_of_the_size_asked_for():
    picture = photos.synthesise(0.3)
    assert picture.dtype == np.uint8 and picture.shape == (474, 632, 3)
    assert picture.std() > 20
    assert np.array_equal(picture, photos.synthesise(0.3))


@pytest.mark.parametrize("text", ["", "1,x", "0", "-1", "1,,2", "nan", "5000"])
def test_photos_that_cannot_be(text: str):
    with pytest.raises(UserError, match="megapixels"):
        photos.parse_photos(text)


def test_a_photo_that_fails_is_one_line(tmp_path: Path):
    with pytest.raises(UserError, match=r"photo of 0\.01 megapixels: unknown model"):
        photos.measure_photos([0.01], "no such model", "cpu", "fp32")


# ----------------------------------------------------------------------------------------------------- command


def test_the_command_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run, "measure_scaling", partial(scaling.measure_scaling, sides=(4, 8), repeat=1))
    figures, page = tmp_path / "figures.json", tmp_path / "page.md"
    outputs = ("--json", figures, "--markdown", page)
    result = bench("--model", "debug", "--dtype", "fp32", "--batch", 2, "--scaling", "--photos", "0.01", *outputs)
    assert result.exit_code == 0, result.stderr
    found = json.loads(figures.read_text())
    expected = {"device", "device_name", "threads", "torch", "python", "platform", "restorevar", "date", "command"}
    expected |= {"dtype", "model", "peak", "breakdown", "rivals", "scaling", "photos"}
    assert expected == set(found)
    assert found["command"].startswith("restorevar")
    assert found["model"] == {"name": "debug", "random": True, "parameters": found["breakdown"]["parameters"]}
    assert len(found["breakdown"]["parts"]) == 9 and found["breakdown"]["batch"] == 2
    assert len(found["rivals"]) == 10 and found["rivals"][-1]["source"].startswith("measured")
    assert [point["side"] for point in found["scaling"]["points"]] == [4, 8]
    photo = found["photos"][0]
    assert (photo["width"], photo["height"]) == (116, 87)
    assert photo["seconds"] < photo["process_seconds"] and 0 < photo["coding_share"] < 1
    assert photo["resident_bytes"] > 50e6 and photo["device_bytes"] is None
    text = page.read_text()
    for name in ("Diff-Plugin", "AutoDIR", "PixWizard", "RestoreVAR", "PromptIR", "InstructIR", "AWRaCLe", "DCPT"):
        assert f"| {name} " in result.stdout and f"| {name} " in text
    assert "page-scaling.svg" in text
    ElementTree.parse(tmp_path / "page-scaling.svg")


def test_wrong_options_are_one_line(tmp_path: Path):
    assert "unknown model" in refusal("--model", "nonsense")
    assert "multiples of" in refusal("--model", "debug", "--size", 33)
    assert "whole numbers from 1" in refusal("--model", "debug", "--repeat", 0)
    assert "cannot be written" in refusal("--model", "debug", "--json", tmp_path / "no" / "file.json")
    assert "megapixels" in refusal("--model", "debug", "--photos", "big")
    assert "does not know" in refusal("--model", "debug", "--published-code", tmp_path)
    assert "NAME=DIR" in refusal("--model", "debug", "--rival", "promptir")


def test_figures_are_written_for_readers():
    assert [seconds(v) for v in (0.0123, 0.5, 2.04, 33.2, None)] == ["12.3 ms", "500 ms", "2.04 s", "33.2 s", None]
    assert [flops(v) for v in (4.07e12, 2.5e9, 1e3)] == ["4.07 T", "2.5 G", "0.001 M"]
    assert size(3.2e9) == "3.2 GB"
    text = Table("T", ["a", "b"], [["x|y", 1.23456], ["z", None]], "note").markdown()
    assert text.splitlines() == [
        "## T",
        "",
        "| a    |    b |",
        "| ---- | ---: |",
        "| x\\|y | 1.23 |",
        "| z    |    - |",
        "",
        "note",
    ]


# ------------------------------------------------------------------------------------------------------ ladder


def test_the_ladder_measures_every_rung(tmp_path, tiny, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoints.save_model(tiny, tmp_path / "model")
    generator = np.random.default_rng(0)
    for task in ("haze", "clean"):
        for name in "abc":
            pixels = generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            for side, part in (("input", pixels // 2 if task == "haze" else pixels), ("target", pixels)):
                place = tmp_path / "pairs" / task / side
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(part).save(place / f"{name}.png")
    options = ["--model", "model", "--repeat", "1", "--ladder", "pairs", "--json", "out.json", "--device", "cpu"]
    result = CliRunner().invoke(app, ["bench", *options])
    assert result.exit_code == 0, result.output
    rungs = {rung["name"]: rung for rung in json.loads(Path("out.json").read_text())["ladder"]}
    assert {rung["speed"] for rung in rungs.values()} == {None, "best", "balanced", "fast"}
    assert all(rung["time"]["median"] > 0 and set(rung["gains"]) == {"haze", "clean"} for rung in rungs.values())
    whole, early = rungs["4 of 4 scales"], rungs["1 of 4 scales"]
    assert whole["gains"] != early["gains"]
    wrong = CliRunner().invoke(app, ["bench", "--model", "model", "--ladder", "nowhere"])
    assert wrong.exit_code == 2 and "nowhere" in wrong.output


def test_the_ladders_gain_is_psnr_over_the_input(tmp_path, tiny):
    pixels = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for name, part in (("in.png", pixels // 2), ("out.png", pixels)):
        Image.fromarray(part).save(tmp_path / name)
    pair = Pair("set", "haze", "in.png", tmp_path / "in.png", tmp_path / "out.png")
    rung = ladder.measure_ladder(Restorer(tiny, device="cpu", dtype="fp32"), [pair], repeat=1)[0]
    before, after = (torch.from_numpy(x / 255).permute(2, 0, 1)[None].float() for x in (pixels // 2, pixels))
    restored = (tiny.restore(before * 2 - 1) + 1) / 2
    gain = [float(-10 * ((x - after) ** 2).mean().log10()) for x in (before, restored)]
    assert rung.gains["haze"] == pytest.approx(gain[1] - gain[0], abs=0.01)


# --------------------------------------------------------------------------------------------------- precision


def test_precision_is_told_per_photo_and_scale(tmp_path, tiny):
    checkpoints.save_model(tiny, tmp_path / "model")
    (tmp_path / "photos").mkdir()
    for name in "ab":
        pixels = np.random.default_rng(ord(name)).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{name}.png")
    options = ["--model", str(tmp_path / "model"), "--repeat", "1", "--device", "cpu", "--json", str(tmp_path / "j")]
    options += ["--precision", str(tmp_path / "photos")]
    result = CliRunner().invoke(app, ["bench", *options, "--dtype", "bf16"])
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "j").read_text())["precision"]
    assert [photo["photo"] for photo in found] == ["a.png", "b.png"]
    assert all(20 < photo["psnr"] < 100 and len(photo["tokens"]) == 4 for photo in found)
    assert all(0 <= share <= 1 for photo in found for share in photo["tokens"])
    same = CliRunner().invoke(app, ["bench", *options, "--dtype", "fp32"])
    assert same.exit_code == 2 and "here it is fp32" in same.output
