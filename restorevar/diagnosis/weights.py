"""The shipped head on disk: `model.safetensors` + `config.json` with its sha256 and the thresholds."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..checkpoints import CONFIG, WEIGHTS, file_sha256
from ..data.manifest import write_json
from ..errors import UserError
from .network import DiagnosisNetwork
from .report import NAMES


@dataclass(frozen=True)
class Head:
    """A trained network with the strengths from which on it is believed."""

    network: DiagnosisNetwork
    thresholds: Mapping[str, float]
    sha256: str = ""


def save_head(
    network: DiagnosisNetwork, thresholds: Mapping[str, float], folder: Path, metadata: Mapping[str, Any]
) -> str:
    """Each file whole or not at all; returns the sha256 of the weights. Raises UserError if it cannot be written."""
    part = folder / f".{WEIGHTS}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, part)
        digest = file_sha256(part)
        part.chmod(0o644)  # safetensors writes it for the owner alone
        os.replace(part, folder / WEIGHTS)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror or error})") from None
    described = {"format": 1, "sha256": digest, "kind": "diagnosis", "model": network.config}
    rounded = {name: round(value, 4) for name, value in thresholds.items()}
    write_json({**described, "thresholds": rounded, **metadata}, folder / CONFIG)
    return digest


@cache
def shipped_head() -> Head:
    """The head that comes with the package, read once."""
    return load_head(Path(str(resources.files("restorevar") / "weights" / "diagnosis")))


def load_head(folder: Path) -> Head:
    """In eval mode, on the CPU. Raises UserError, one line, for missing, damaged or foreign files."""
    weights, config = folder / WEIGHTS, folder / CONFIG
    for path in (weights, config):
        if not path.is_file():
            raise UserError(f"{path}: no such file; `restorevar train-diagnosis` makes one")
    digest = file_sha256(weights)
    try:
        described = json.loads(config.read_text())
        thresholds = {name: float(described["thresholds"][name]) for name in NAMES}
        expected, network = described["sha256"], DiagnosisNetwork(**described["model"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{config}: not the config of a diagnosis ({type(error).__name__}: {error})") from None
    if expected != digest:
        raise UserError(f"{weights}: damaged, its sha256 is not the one in {CONFIG}")
    try:
        network.load_state_dict(load_file(weights))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise UserError(f"{weights}: does not fit its config ({str(error).splitlines()[0]})") from None
    return Head(network.eval().requires_grad_(False), thresholds, digest)
