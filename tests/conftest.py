"""What several test files share: the published-code fixture and tiny models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from restorevar.models import RestoreVAR
from restorevar.models.config import debug

torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other, and for whatever else runs

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="session")
def official() -> dict[str, dict[str, Tensor]]:
    """The published code's tensors at small random weights, by prefix: vae, var, input, expected."""
    parts: dict[str, dict[str, Tensor]] = {"vae": {}, "var": {}, "input": {}, "expected": {}}
    for key, tensor in load_file(FIXTURES / "official_small.safetensors").items():
        part, name = key.split(".", 1)
        parts[part][name] = tensor.float() if tensor.dtype == torch.float16 else tensor
    for name in ("freqs_cis", "freqs_cis_cross"):  # stored as pairs of reals
        parts["var"][name] = torch.view_as_complex(parts["var"][name].contiguous())
    return parts


def published_keys(file: str) -> dict[str, tuple[list[int], str]]:
    """Key -> (shape, dtype) of a published checkpoint."""
    for listing in ("official_d16_512_keys.json", "var_d16_256_keys.json"):
        keys = json.loads((FIXTURES / listing).read_text())
        if file in keys:
            return keys[file]
    raise KeyError(file)


def wave_photos(root: Path, count: int, height: int, width: int, wave: float) -> Path:
    """Smooth colour pictures 0.png, 1.png, ... in `root`, each another; a wave is about 6 `wave` pixels long."""
    y, x = np.mgrid[0:height, 0:width] / wave
    for i in range(count):
        waves = [128 + 100 * np.sin(x * (1 + i / 3) + c) * np.cos(y + i * c) for c in range(3)]
        Image.fromarray(np.stack(waves, -1).astype(np.uint8)).save(root / f"{i}.png")
    return root


def tiny_model() -> RestoreVAR:
    """The debug model with every gain and zero-initialised layer set to something, so that all parts matter."""
    torch.manual_seed(0)
    model = RestoreVAR(debug()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.abs().sum() == 0:
                parameter.normal_(std=0.1)
        # Random gains of this size leave of noise its edges, cut off, and of rounding errors whole steps.
        for parameter in model.fidelity.focus.gains.parameters():
            parameter.mul_(0.03)
    return model.requires_grad_(False)


@pytest.fixture
def tiny() -> RestoreVAR:
    return tiny_model()
