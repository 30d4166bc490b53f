"""A model folder read: whole, undamaged, and fitting its config, or one line that says what is not."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..errors import UserError
from ..models import ModelConfig, RestoreVARConfig
from ..models.kinds import CONFIGS
from .card import Card, read_card
from .finding import resolve_model
from .folders import CONFIG, WEIGHTS, check_weights, read_config
from .pretrained import RegressionNet, RestoreVAR


@dataclass(frozen=True)
class LoadedModel:
    """A model with what identifies it."""

    model: RestoreVAR | RegressionNet
    name: str
    sha256: str
    folder: Path
    card: Card


def load_model(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
) -> LoadedModel:
    """Load by shipped name, folder, or Hugging Face Hub id ("owner/name"), in float32, in eval mode.

    The other arguments are for models of the Hub, as in `resolve_model`. Every file is held against its sha256 before
    it is read; nothing but safetensors is. Raises UserError, one line, for an unknown name and for damaged or missing
    files.
    """
    folder = resolve_model(name, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only, token=token)
    description = read_config(folder)
    files, digest = check_weights(folder, description)
    state: dict[str, torch.Tensor] = {}
    for path in files:
        try:
            state |= load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise UserError(f"{path}: not a readable safetensors file ({error})") from None
    try:
        config = _model_config(description)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / CONFIG}: not a model config ({error})") from None
    with torch.device("meta"):
        model = RestoreVAR(config) if isinstance(config, RestoreVARConfig) else RegressionNet(config)
    try:
        model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()}, assign=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        weights = files[0] if len(files) == 1 else folder / WEIGHTS
        raise UserError(f"{weights}: does not fit its config ({first})") from None
    model.card = read_card(folder)
    return LoadedModel(model.eval().requires_grad_(False), os.fspath(name), digest, folder, model.card)


def _model_config(description: dict[str, Any]) -> ModelConfig:
    """Raises KeyError, TypeError or ValueError for what is none. Folders from before there were kinds name none."""
    kind = description.get("kind", "restorevar")
    if kind not in CONFIGS:
        raise ValueError(f"kind {kind!r} is not one of {', '.join(CONFIGS)}")
    return CONFIGS[kind].from_dict(description["model"])
