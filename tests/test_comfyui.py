"""The ComfyUI nodes, imported as ComfyUI does, with stand-ins for its interface and a tiny model."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from restorevar import Restorer
from restorevar.checkpoints import save_model
from restorevar.models import RegressionConfig, RegressionNet

FOLDER = Path(__file__).parent.parent / "integrations" / "comfyui"


class Interrupted(Exception):
    """ComfyUI's InterruptProcessingException."""


class Bar:
    """comfy.utils.ProgressBar."""

    def __init__(self, total: int):
        self.total = total
        self.values: list[int] = []
        Bar.last = self

    def update_absolute(self, value: int, total: int | None = None, preview: object = None) -> None:
        self.values.append(value)


@pytest.fixture
def comfy(monkeypatch) -> ModuleType:
    """Stand-ins for what the nodes ask of ComfyUI; `checks` counts how often it may interrupt, `patience` is when."""
    package, management, utils = (ModuleType(f"comfy{name}") for name in ("", ".model_management", ".utils"))
    package.checks, package.patience = 0, 10**9

    def throw() -> None:
        package.checks += 1
        if package.checks > package.patience:
            raise Interrupted

    management.get_torch_device = lambda: torch.device("cpu")
    management.throw_exception_if_processing_interrupted = throw
    utils.ProgressBar = Bar
    package.model_management, package.utils = management, utils
    for module in (package, management, utils):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return package


@pytest.fixture
def nodes(comfy, monkeypatch) -> dict[str, type]:
    """The folder as a package of a name of ComfyUI's choice, a path with dots and all."""
    name = "custom_nodes.restorevar"
    spec = importlib.util.spec_from_file_location(
        name, FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, f"{name}.nodes", raising=False)
    spec.loader.exec_module(module)
    assert set(module.NODE_CLASS_MAPPINGS) == set(module.NODE_DISPLAY_NAME_MAPPINGS)
    return module.NODE_CLASS_MAPPINGS


@pytest.fixture
def model(nodes, tiny, tmp_path) -> Restorer:
    save_model(tiny, tmp_path / "model")
    (restorer,) = nodes["LoadRestoreVAR"]().load("compact", str(tmp_path / "model"), "fp32")
    return restorer


@pytest.fixture
def image() -> torch.Tensor:
    """Two images of an odd size, on the grid of 16 bits, so that nothing is lost on the way in."""
    return torch.from_numpy(np.random.default_rng(0).integers(0, 65536, (2, 37, 50, 3)).astype(np.float32) / 65535)


def test_inputs_are_as_comfyui_reads_them(nodes):
    for node in nodes.values():
        inputs = node.INPUT_TYPES()
        function = getattr(node, node.FUNCTION)
        named = function.__code__.co_varnames[1 : function.__code__.co_argcount]
        assert set(named) == {*inputs["required"], *inputs.get("optional", {})}
        assert all(isinstance(kind[0], str | list) for part in inputs.values() for kind in part.values())
    assert "compact" in nodes["LoadRestoreVAR"].INPUT_TYPES()["required"]["name"][0]
    assert not any("seed" in name for name in nodes["RestoreVARImage"].INPUT_TYPES()["required"])


def test_images_are_restored_as_the_package_restores_them(nodes, model, image):
    (restored,) = nodes["RestoreVARImage"]().restore(model, image, 0.5, 1.0, "best")
    assert restored.shape == image.shape and restored.dtype == torch.float32
    assert restored.min() >= 0 and restored.max() <= 1
    expected = model.at(fidelity=0.5)(image[1].permute(2, 0, 1)).permute(1, 2, 0)
    torch.testing.assert_close(restored[1], expected, atol=2e-5, rtol=0)
    assert Bar.last.total == 200 and Bar.last.values == sorted(Bar.last.values) and Bar.last.values[-1] == 200


def test_strength_zero_and_an_empty_mask_change_nothing(nodes, model, image):
    node = nodes["RestoreVARImage"]()
    torch.testing.assert_close(node.restore(model, image, 1.0, 0.0, "best")[0], image, atol=2e-5, rtol=0)
    assert torch.equal(node.restore(model, image, 1.0, 1.0, "best", torch.zeros(1, 37, 50))[0], image)


@pytest.mark.parametrize("shape", [(37, 50), (1, 37, 50), (2, 37, 50), (1, 74, 100)])
def test_masks_of_all_shapes_restore_one_half(nodes, model, image, shape):
    mask = torch.zeros(shape)
    mask[..., : shape[-1] // 2] = 1
    node = nodes["RestoreVARImage"]()
    (whole,), (half,) = node.restore(model, image, 1.0, 1.0, "best"), node.restore(model, image, 1.0, 1.0, "best", mask)
    assert torch.equal(half[:, :, 27:], image[:, :, 27:]) and torch.equal(half[:, :, :23], whole[:, :, :23])
    assert not torch.equal(half, image)


def test_masks_that_do_not_match_are_told(nodes, model, image):
    with pytest.raises(ValueError, match="not 3"):
        nodes["RestoreVARImage"]().restore(model, image, 1.0, 1.0, "best", torch.ones(3, 37, 50))


def test_alpha_is_carried_and_wild_values_are_cut(nodes, model, image):
    wild = torch.cat([image[:1] * 3 - 1, torch.full((1, 37, 50, 1), 0.25)], dim=-1)
    (restored,) = nodes["RestoreVARImage"]().restore(model, wild, 1.0, 1.0, "best")
    assert restored.shape == (1, 37, 50, 4) and torch.equal(restored[..., 3], wild[..., 3])
    assert restored.isfinite().all()


def test_cancel_ends_it_between_two_scales(nodes, model, image, comfy):
    comfy.patience = 2  # before the first image, and after its first scale
    with pytest.raises(Interrupted):
        nodes["RestoreVARImage"]().restore(model, image, 1.0, 1.0, "best")
    assert comfy.checks == 3 and Bar.last.values == []


def test_a_model_without_fidelity_takes_the_node_as_it_is(nodes, image, tmp_path):
    save_model(RegressionNet(RegressionConfig(width=8, encoder=(1,), middle=1, decoder=(1,))), tmp_path)
    (restorer,) = nodes["LoadRestoreVAR"]().load("compact", f" {tmp_path} ", "fp32")
    (restored,) = nodes["RestoreVARImage"]().restore(restorer, image, 1.0, 1.0, "best")
    torch.testing.assert_close(restored, image, atol=2e-5, rtol=0)  # an untrained one gives its input back
