"""`restorevar export`: the graphs give what torch gives, run without torch, and refuse what they cannot do."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from typer.testing import CliRunner, Result

from restorevar.checkpoints import load_model, save_model
from restorevar.cli import app
from restorevar.errors import UserError
from restorevar.export.parts import parts_of
from restorevar.export.resizing import ResizingByMatrices
from restorevar.export.runtime import PARTS, OnnxModel
from restorevar.models import FidelityConfig, RegressionConfig, RegressionNet, RestoreVAR, RestoreVARConfig
from restorevar.models.config import RefinerConfig, ScaleSchedule, TransformerConfig, VQVAEConfig, debug

#: Not the native size, and its 5x5 grid is divided by no scale: what resizing has to cope with.
SIZE = 40


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All options of `compact`, in as few layers as there can be: tracing takes its time."""
    torch.manual_seed(0)
    config = RestoreVARConfig(
        scales=ScaleSchedule((1, 2, 3)),
        vqvae=VQVAEConfig(
            widths=(8, 8, 16), blocks=1, patch=2, latent_channels=8, codebook_size=32, attention=False, norm="channel"
        ),
        transformer=TransformerConfig(depth=1, width=32, heads=2, classes=0, aligned_condition=True, drop_path=0.0),
        refiner=RefinerConfig(depth=1, width=24, heads=2, mlp_width=32, positions="rotary"),
        fidelity=FidelityConfig(
            width=8, encoder=(1,), middle=0, latent=True, fuse=False, dark_channel=True, tone=True, focus=True
        ),
        rollout="expected",
    )
    network = RestoreVAR(config)
    for parameter in network.parameters():
        if parameter.abs().sum() == 0:
            nn.init.normal_(parameter, std=0.1)
    folder = tmp_path_factory.mktemp("model")
    save_model(network, folder)
    return folder


@pytest.fixture(scope="module")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    out = tmp_path_factory.mktemp("onnx")
    return out, run(model, "-o", out, "--size", SIZE)


def test_graphs_agree_with_torch(exported):
    folder, result = exported
    assert result.exit_code == 0, result.output
    assert {path.name for path in folder.iterdir()} == {*PARTS, "export.json"}
    tokens = 2 * 2 + 3 * 3 + 5 * 5
    assert f"{tokens} of {tokens} tokens equal" in result.stdout and "onnxruntime" in result.stdout


@pytest.mark.parametrize("weight", [None, 0.0, 0.4])
def test_fidelity_is_an_input(model, exported, weight):
    image = np.random.default_rng(1).uniform(-1, 1, (1, 3, SIZE, SIZE)).astype(np.float32)
    found = OnnxModel(exported[0], threads=1).restore(image, weight).image_13HW
    expected = load_model(model).model.restore(torch.from_numpy(image), fidelity=weight).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_they_run_without_torch(exported, tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (SIZE, 23, 3), np.uint8)
    Image.fromarray(photo).save(tmp_path / "a.png")
    code = (
        "import sys\nsys.modules['torch'] = None\nimport numpy as np\nfrom PIL import Image\n"
        "from restorevar.export.runtime import OnnxModel\n"
        "rgb = np.asarray(Image.open(sys.argv[2]))\nout = OnnxModel(sys.argv[1], threads=1).restore_photo(rgb)\n"
        "assert out.shape == rgb.shape and out.dtype == np.uint8 and (out != rgb).any()"
    )
    subprocess.run([sys.executable, "-c", code, str(exported[0]), str(tmp_path / "a.png")], check=True, timeout=60)


def test_a_small_photo_lies_in_the_middle(model, exported):
    """With a margin of its own reflection, as the restorer shows it to the model; the same comes out."""
    photo = np.random.default_rng(2).integers(0, 256, (SIZE - 16, SIZE - 24, 3), np.uint8)
    around = np.pad(photo, ((8, 8), (12, 12), (0, 0)), "reflect")
    image = torch.from_numpy(around).permute(2, 0, 1)[None].float() / 127.5 - 1
    expected = (load_model(model).model.restore(image)[0, :, 8:-8, 12:-12] + 1) * 127.5
    found = OnnxModel(exported[0], threads=1).restore_photo(photo)
    np.testing.assert_allclose(found, expected.permute(1, 2, 0).round().clamp(0, 255).numpy(), atol=1)


def test_what_the_graphs_cannot_do_is_one_line(exported):
    graphs = OnnxModel(exported[0], threads=1)
    with pytest.raises(UserError, match="larger than the exported 40x40"):
        graphs.restore_photo(np.zeros((41, 10, 3), np.uint8))
    with pytest.raises(UserError, match="give uint8"):
        graphs.restore_photo(np.zeros((4, 4, 3), np.float32))
    with pytest.raises(UserError, match=r"take \(1, 3, 40, 40\)"):
        graphs.restore(np.zeros((1, 3, 8, 8), np.float32))
    with pytest.raises(UserError, match="between 0 and 1"):
        graphs.restore(np.zeros((1, 3, SIZE, SIZE), np.float32), 2)


@pytest.mark.parametrize("how", ["flipped", "missing", "no manifest", "other manifest"])
def test_damaged_exports_are_one_line(exported, tmp_path, how):
    for path in exported[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    part, manifest = tmp_path / "refiner.onnx", tmp_path / "export.json"
    if how == "flipped":
        data = bytearray(part.read_bytes())
        data[-1] ^= 1
        part.write_bytes(data)
    elif how == "missing":
        part.unlink()
    elif how == "no manifest":
        manifest.unlink()
    else:
        manifest.write_text(json.dumps({"files": []}))
    with pytest.raises(UserError) as error:
        OnnxModel(tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--size", 44), "multiple of 8"),
        (("--size", 16), "from 24"),
        (("--speed", "fast"), "half the --size"),
        (("--speed", "warp"), "one of auto, best, balanced, fast"),
        (("--photo", "nowhere.png"), "nowhere.png"),
    ],
)
def test_what_cannot_be_exported_is_one_line(model, tmp_path, arguments, words):
    result = run(model, "-o", tmp_path / "out", *(("--size", SIZE) if "--size" not in arguments else ()), *arguments)
    assert result.exit_code == 2 and words in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_regression_network_is_refused(tmp_path):
    save_model(RegressionNet(RegressionConfig(width=8, encoder=(1,), middle=1, decoder=(1,))), tmp_path / "net")
    result = run(tmp_path / "net", "-o", tmp_path / "out", "--size", 64)
    assert result.exit_code == 2 and "only RestoreVAR is exported" in result.stderr


def test_without_onnx_one_line_says_what_to_install(model, tmp_path, monkeypatch):
    monkeypatch.setattr("restorevar.export.write.find_spec", lambda name: None)
    result = run(model, "-o", tmp_path / "out", "--size", SIZE)
    assert result.exit_code == 2 and "restorevar[onnx]" in result.stderr and not (tmp_path / "out").exists()


@pytest.mark.parametrize("condition", ["continuous", "discrete"])
def test_what_is_traced_is_the_model(condition):
    """Without a fidelity branch, by argmax, ended early: what the exported model of the other tests has not."""
    torch.manual_seed(0)
    config = dataclasses.replace(debug(), fidelity=None, rollout="argmax", condition=condition)
    network = RestoreVAR(config).eval()
    nn.init.normal_(network.refiner.proj_out.weight, std=0.1)
    image = torch.rand(1, 3, 40, 40) * 2 - 1
    expected = network.restore(image, scales=3)
    parts = {name: part[0] for name, part in parts_of(network, (40, 40), 3).items()}
    with torch.no_grad():
        latent, hidden, tokens = parts["rollout.onnx"](parts["condition.onnx"](image))
        found = parts["decoder.onnx"](parts["refiner.onnx"](latent, hidden))
    assert tokens.shape[1] == hidden.shape[1] == sum(h * w for h, w in config.scales.grids((5, 5))[:3])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert isinstance(network.transformer.begin(network.condition(image)).caches[0].k_BNLK, torch.Tensor), (
        "left as it is"
    )


@pytest.mark.parametrize("mode", ["area", "bicubic"])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (13, 7), (18, 24)])
def test_resizing_by_matrices_is_torchs(mode, size):
    image = torch.randn(2, 3, 13, 7, generator=torch.Generator().manual_seed(0))
    with ResizingByMatrices():
        found = F.interpolate(image, size=size, mode=mode)
    torch.testing.assert_close(found, F.interpolate(image, size=size, mode=mode), atol=1e-5, rtol=1e-5)
