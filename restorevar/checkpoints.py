"""Model folders: `model.safetensors` + `config.json` (with the sha256 of the weights). Save, find, load."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .errors import UserError, first_line
from .models import Model, ModelConfig, build_model, kind_of
from .models.kinds import CONFIGS

WEIGHTS, CONFIG = "model.safetensors", "config.json"
#: Names that `--model` takes: models shipped inside the package.
SHIPPED = ("compact",)


@dataclass(frozen=True)
class LoadedModel:
    """A model with what identifies it."""

    model: Model
    name: str
    sha256: str


def available_models() -> list[str]:
    """Names of the models shipped with the package."""
    return [name for name in SHIPPED if (_shipped_folder(name) / WEIGHTS).is_file()]


def _shipped_folder(name: str) -> Path:
    return Path(str(resources.files(__package__) / "weights" / name))


def file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def save_model(
    model: Model,
    folder: Path,
    dtype: torch.dtype | None = None,
    metadata: dict[str, Any] | None = None,
    state: Mapping[str, torch.Tensor] | None = None,
) -> str:
    """Write weights and config; returns the sha256 of the weights. `dtype` (bf16, fp16) halves the file.

    Each file appears complete or not at all. `state` in place of the model's own, where its weights are spread over
    processes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: (t.to(dtype) if dtype and t.is_floating_point() else t).contiguous()
        for name, t in (model.state_dict() if state is None else state).items()
    }
    temporary = folder / f".{WEIGHTS}.part"
    save_file(state, temporary)
    digest = file_sha256(temporary)
    temporary.chmod(0o644)  # safetensors writes it for the owner alone
    os.replace(temporary, folder / WEIGHTS)
    kind, values = kind_of(model.config), model.config.to_dict()
    description = {"format": 1, "sha256": digest, "kind": kind, "model": values, **(metadata or {})}
    part = folder / f".{CONFIG}.part"
    part.write_text(json.dumps(description, indent=2) + "\n")
    os.replace(part, folder / CONFIG)
    return digest


def load_model(name: str) -> LoadedModel:
    """Load by shipped name, folder, or Hugging Face Hub id ("owner/name"), in float32, in eval mode.

    Raises UserError, one line, for an unknown name and for damaged or missing files.
    """
    folder = resolve_model(name)
    description = _read_config(folder / CONFIG)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise UserError(f"{weights}: no such file")
    digest = file_sha256(weights)
    if description.get("sha256") not in (None, digest):
        raise UserError(f"{weights}: damaged, its sha256 is not the one in {CONFIG}")
    try:
        state = load_file(weights)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{weights}: not a readable safetensors file ({error})") from None
    try:
        config = _model_config(description)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / CONFIG}: not a model config ({error})") from None
    with torch.device("meta"):
        model = build_model(config)
    try:
        model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()}, assign=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(f"{weights}: does not fit its config ({first})") from None
    return LoadedModel(model.eval().requires_grad_(False), name, digest)


def resolve_model(name: str) -> Path:
    """The folder of a model: shipped, local, or downloaded from the Hub."""
    if name in SHIPPED:
        return _shipped_folder(name)
    folder = Path(name)
    if folder.is_dir():
        return folder
    if folder.is_absolute() or name.count("/") != 1 or name.startswith(".") or folder.exists():
        known = ", ".join(SHIPPED)
        raise UserError(f"unknown model {name!r}: not one of {known}, not a folder, not a Hub id like owner/name")
    return _download(name)


def _download(repository: str) -> Path:
    from huggingface_hub import hf_hub_download, logging

    logging.set_verbosity_error()  # it tells of every retry; one line at the end is enough
    try:
        config = hf_hub_download(repository, CONFIG)
        hf_hub_download(repository, WEIGHTS)
    except Exception as error:  # the hub raises many kinds: missing, private, offline
        cause = first_line(error)
        raise UserError(f"model {repository!r} could not be fetched from the Hugging Face Hub: {cause}") from None
    return Path(config).parent


def _model_config(description: dict[str, Any]) -> ModelConfig:
    """Raises KeyError, TypeError or ValueError for what is none. Folders from before there were kinds name none."""
    kind = description.get("kind", "restorevar")
    if kind not in CONFIGS:
        raise ValueError(f"kind {kind!r} is not one of {', '.join(CONFIGS)}")
    return CONFIGS[kind].from_dict(description["model"])


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; a model folder has {CONFIG} and {WEIGHTS}")
    try:
        description = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable JSON ({error})") from None
    if not isinstance(description, dict):
        raise UserError(f"{path}: not a model config")
    return description
