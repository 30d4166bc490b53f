"""Model folders: what is saved is what is loaded, and every damage is told in one line."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from restorevar import checkpoints
from restorevar.acceleration import pick_device, pick_dtype, prepare
from restorevar.checkpoints import CONFIG, WEIGHTS, load_model, save_model
from restorevar.checkpoints.averaging import average_models
from restorevar.errors import UserError
from restorevar.models import RegressionConfig, RestoreVAR, build_model
from restorevar.models.attention import attend
from restorevar.models.config import debug


@pytest.fixture
def folder(tiny, tmp_path):
    save_model(tiny, tmp_path / "model")
    return tmp_path / "model"


def test_there_and_back(tiny, folder):
    loaded = load_model(str(folder))
    assert loaded.model.config == tiny.config and not loaded.model.training
    for (name, a), (_, b) in zip(tiny.named_parameters(), loaded.model.named_parameters(), strict=True):
        assert torch.equal(a, b) and not b.requires_grad, name
    assert (
        json.loads((folder / CONFIG).read_text())["sha256"]
        == loaded.sha256
        == checkpoints.file_sha256(folder / WEIGHTS)
    )


def test_half_precision_halves_the_file_and_loads_as_float32(tiny, tmp_path):
    save_model(tiny, tmp_path / "a")
    save_model(tiny, tmp_path / "b", torch.bfloat16)
    sizes = [(tmp_path / name / WEIGHTS).stat().st_size for name in "ab"]
    assert sizes[1] < 0.6 * sizes[0]
    assert all(p.dtype == torch.float32 for p in load_model(str(tmp_path / "b")).model.parameters())


def damage(folder, how):
    weights, config = folder / WEIGHTS, folder / CONFIG
    description = json.loads(config.read_text())
    if how == "flipped byte":
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
    elif how == "truncated":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif how == "no weights":
        weights.unlink()
    elif how == "no config":
        config.unlink()
    elif how == "broken config":
        config.write_text("{")
    elif how == "foreign config":
        config.write_text(json.dumps({"model_type": "bert"}))
    elif how == "unknown field":
        description["model"]["surprise"] = 1
        config.write_text(json.dumps(description))
    elif how == "other sizes":
        description["model"]["transformer"]["width"] = 64
        config.write_text(json.dumps(description))
    elif how == "not safetensors":
        weights.write_bytes(b"pickle")
        del description["sha256"]
        config.write_text(json.dumps(description))
    elif how == "missing tensor":
        save_file({"a": torch.zeros(1)}, weights)
        del description["sha256"]
        config.write_text(json.dumps(description))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("flipped byte", "damaged"),
        ("truncated", "damaged"),
        ("no weights", "no such file"),
        ("no config", "no such file"),
        ("broken config", "not readable JSON"),
        ("foreign config", "not a model config"),
        ("unknown field", "surprise"),
        ("other sizes", "does not fit"),
        ("not safetensors", "safetensors"),
        ("missing tensor", "does not fit"),
    ],
)
def test_damage_is_told_in_one_line_that_names_the_file(folder, how, words):
    damage(folder, how)
    with pytest.raises(UserError) as error:
        load_model(str(folder))
    message = str(error.value)
    assert words in message and str(folder) in message and "\n" not in message


@pytest.mark.parametrize("name", ["nope", "./nope", "a/b/c", "/nowhere/at/all"])
def test_unknown_model_lists_what_there_is(name):
    with pytest.raises(UserError, match="compact"):
        load_model(name)


def test_hub_models_are_downloaded_by_name(folder, monkeypatch):
    """The hub itself cannot be reached from the tests; what we ask of it can."""
    import huggingface_hub

    asked = []

    def download(repository, file, **options):
        asked.append((repository, file))
        return str(folder / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    loaded = load_model("someone/restorer")
    assert isinstance(loaded.model, RestoreVAR) and loaded.name == "someone/restorer"
    assert asked[:2] == [("someone/restorer", CONFIG), ("someone/restorer", WEIGHTS)]


def test_unreachable_hub_is_one_line(monkeypatch):
    import huggingface_hub

    def download(repository, file, **options):
        raise OSError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(UserError, match=r"someone/restorer.*no route$"):
        load_model("someone/restorer")


def test_devices_and_precisions():
    assert pick_device("cpu").type == "cpu" and pick_dtype(pick_device("cpu"), "fp32") == torch.float32
    assert pick_dtype(torch.device("mps")) == torch.float32
    for choose in (lambda: pick_device("abacus"), lambda: pick_dtype(torch.device("cpu"), "int3")):
        with pytest.raises(UserError, match="one of auto"):
            choose()
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="not available"):
            pick_device("cuda")


def test_reduced_precision_stays_close_and_keeps_delicate_parts_in_float32(tiny):
    degraded = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    exact = tiny.restore(degraded)
    model = RestoreVAR(debug())
    model.load_state_dict(tiny.state_dict())
    prepare(model, torch.device("cpu"), torch.bfloat16)
    assert model.vqvae.quantizer.codebook.weight.dtype == model.transformer.head.weight.dtype == torch.float32
    assert model.transformer.blocks[0].ffn.fc1.weight.dtype == torch.bfloat16
    assert (model.restore(degraded) - exact).abs().mean() < 0.05


@pytest.mark.parametrize("masked", [False, True])
def test_plain_attention_equals_the_fused_one(masked):
    q, k, v = (torch.randn(2, 2, 6, 8, generator=torch.Generator().manual_seed(i)) for i in range(3))
    mask = torch.ones(6, 6, dtype=torch.bool).tril() if masked else None
    fused = attend(q, k, v, mask)
    plain = attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), mask)
    assert plain.dtype == torch.bfloat16
    torch.testing.assert_close(plain.float(), fused, atol=0.03, rtol=0.03)


def with_other_weights(model, **fidelity):
    """The same network, or one whose fidelity branch differs as said, with other weights."""
    torch.manual_seed(1)
    other = RestoreVAR(replace(model.config, fidelity=replace(model.config.fidelity, **fidelity)))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.normal_(std=0.1)
    return other


def test_an_average_lies_between(tiny, folder, tmp_path):
    other = with_other_weights(tiny)
    save_model(other, tmp_path / "other")
    sha256 = average_models([folder, tmp_path / "other"], tmp_path / "mean", [1, 3])
    mean = load_model(tmp_path / "mean")
    assert mean.sha256 == sha256 and mean.model.config == tiny.config
    for name, tensor in mean.model.state_dict().items():
        expected = 0.25 * tiny.state_dict()[name].double() + 0.75 * other.state_dict()[name].double()
        torch.testing.assert_close(tensor.double(), expected, rtol=1e-6, atol=1e-8, msg=name)
    made_of = json.loads((tmp_path / "mean" / CONFIG).read_text())["average_of"]
    assert made_of == [
        {"sha256": load_model(folder).sha256, "share": 0.25},
        {"sha256": load_model(tmp_path / "other").sha256, "share": 0.75},
    ]


def test_an_average_with_a_share_of_0_is_the_other_model(tiny, folder, tmp_path):
    save_model(with_other_weights(tiny), tmp_path / "other")
    average_models([tmp_path / "other", folder], tmp_path / "mean", [0, 2])
    for name, tensor in load_model(tmp_path / "mean").model.state_dict().items():
        assert torch.equal(tensor, tiny.state_dict()[name]), name


@pytest.mark.parametrize("first", [0, 1])
def test_a_part_that_only_one_has_is_averaged_with_nothing(tiny, tmp_path, first):
    without = with_other_weights(tiny, dark_channel=False)
    other = with_other_weights(tiny, dark_channel=True)
    save_model(without, tmp_path / "without")
    save_model(other, tmp_path / "other")
    both = [(tmp_path / "without", 3.0), (tmp_path / "other", 1.0)]
    names, shares = zip(*(both[first:] + both[:first]), strict=True)
    average_models(names, tmp_path / "mean", shares)
    mean = load_model(tmp_path / "mean").model
    assert mean.config.fidelity.dark_channel
    new = other.state_dict().keys() - without.state_dict().keys()
    parts = [f"fidelity.{part}." for part in ("from_lifted", "lifts")]
    assert new == {part + kind for part in parts for kind in ("weight", "bias")}
    for name in new:  # these all start at zero
        torch.testing.assert_close(mean.state_dict()[name], other.state_dict()[name] / 4)


@pytest.mark.parametrize("first", [0, 1])
def test_blocks_that_only_one_has_are_averaged_with_silent_ones(tiny, tmp_path, first):
    """Half as loud, and else as they are: their norms do not become half of themselves."""
    deeper = with_other_weights(tiny, encoder=(2,), middle=2)
    save_model(tiny, tmp_path / "plain")
    save_model(deeper, tmp_path / "deeper")
    names = [tmp_path / "plain", tmp_path / "deeper"]
    average_models(names[first:] + names[:first], tmp_path / "mean")
    mean = load_model(tmp_path / "mean").model
    assert mean.config == deeper.config
    new = deeper.state_dict().keys() - tiny.state_dict().keys()
    blocks = {f"fidelity.{part}" for part in ("encoder.0.1", "encoder.1.1", "middle.1")}
    assert {".".join(name.split(".")[: 3 if "middle" in name else 4]) for name in new} == blocks
    for name in new:
        expected = deeper.state_dict()[name] / (2 if name.endswith(".scale") else 1)
        torch.testing.assert_close(mean.state_dict()[name], expected, msg=name)
    share_0 = average_models(names, tmp_path / "same", [1, 0])
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(load_model(tmp_path / "same").model.restore(image), tiny.restore(image), msg=share_0)


def test_what_is_done_last_to_an_average(tiny, folder, tmp_path):
    def finish(model):
        model.fidelity.detail.bias.fill_(0.25)
        return {"why": "a test"}

    average_models([folder, folder], tmp_path / "mean", finish=finish)
    assert load_model(tmp_path / "mean").model.fidelity.detail.bias.eq(0.25).all()
    assert json.loads((tmp_path / "mean" / CONFIG).read_text())["why"] == "a test"


def test_networks_that_cannot_be_averaged(tiny, folder, tmp_path):
    save_model(with_other_weights(tiny, width=16), tmp_path / "wide")
    heads = replace(tiny.config, transformer=replace(tiny.config.transformer, heads=4))
    save_model(RestoreVAR(heads), tmp_path / "heads")  # the same shapes
    with pytest.raises(UserError, match=r"fidelity\.width: 16, there 8"):
        average_models([folder, tmp_path / "wide"], tmp_path / "mean")
    with pytest.raises(UserError, match=r"transformer\.heads: 4, there 2"):
        average_models([folder, tmp_path / "heads"], tmp_path / "mean")
    for levels in ((1,), (1, 1)):
        regression = build_model(RegressionConfig(width=4, encoder=levels, middle=1, decoder=(1,)))
        save_model(regression, tmp_path / str(levels))
    with pytest.raises(UserError, match=r"norm1\.weight: \(8,\), there \(16,\)"):
        average_models([tmp_path / "(1,)", tmp_path / "(1, 1)"], tmp_path / "mean")
    for names, shares, words in (
        ([folder], None, "two or more"),
        ([folder, folder], [1], "2 models but 1"),
        ([folder, folder], [0, 0], "not all 0"),
        ([folder, folder], [1, -1], "from 0 on"),
        ([folder, folder], [1, float("nan")], "from 0 on"),
        ([folder, tmp_path / "missing"], None, "missing"),
    ):
        with pytest.raises(UserError, match=words):
            average_models(names, tmp_path / "mean", shares)
    assert not (tmp_path / "mean").exists()
