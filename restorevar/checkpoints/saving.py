"""A network written as a model folder: safetensors in one file or in parts, config, card."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ..models import Model, kind_of
from .card import Card, write_card
from .folders import CONFIG, INDEX, SHARD, WEIGHTS, file_sha256, shards_sha256

#: What other tools look for in the header of a safetensors file written by torch.
_HEADER = {"format": "pt"}


def save_model(
    model: Model,
    folder: Path,
    dtype: torch.dtype | None = None,
    metadata: dict[str, Any] | None = None,
    state: Mapping[str, torch.Tensor] | None = None,
    max_shard_size: int | str | None = None,
    card: Card | None = None,
) -> str:
    """Write weights and config; returns the sha256 of the weights. `dtype` (bf16, fp16) halves the file.

    Each file appears complete or not at all. `state` in place of the model's own, where its weights are spread over
    processes. `max_shard_size` in bytes, or text as "500MB", splits larger weights; None never does. `card` is written
    beside, with a README; its figures only if these are the weights that they were measured on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: (t.to(dtype) if dtype and t.is_floating_point() else t).contiguous()
        for name, t in (model.state_dict() if state is None else state).items()
    }
    shards, index = _split(state, max_shard_size)
    digests = {name: _write_weights(tensors, folder / name) for name, tensors in shards.items()}
    if index is None:
        about: dict[str, Any] = {"sha256": digests[WEIGHTS]}
    else:
        _write_json(index, folder / INDEX)
        about = {"sha256": shards_sha256(digests), "shards": digests}
    kind, values = kind_of(model.config), model.config.to_dict()
    description = {"format": 1, **about, "kind": kind, "model": values, **(metadata or {})}
    _write_json(description, folder / CONFIG)
    _remove_others(folder, {*digests, *([] if index is None else [INDEX])})
    if card is not None:
        tensors = tensors_sha256(state)
        if card.figures and card.tensors != tensors:  # of other weights
            card = replace(card, figures=())
        write_card(replace(card, sha256=about["sha256"], tensors=tensors), folder, description)
    return about["sha256"]


def tensors_sha256(state: Mapping[str, torch.Tensor]) -> str:
    """Of what the weights are, however they are stored: names, shapes and values as float32 or integers."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu()
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _split(
    state: dict[str, torch.Tensor], max_shard_size: int | str | None
) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any] | None]:
    """Tensors by file, and the index; None where one file holds them all."""
    if max_shard_size is None:
        return {WEIGHTS: state}, None
    from huggingface_hub import split_torch_state_dict_into_shards

    plan = split_torch_state_dict_into_shards(state, max_shard_size=max_shard_size)
    shards = {file: {name: state[name] for name in names} for file, names in plan.filename_to_tensors.items()}
    if not plan.is_sharded:
        return shards, None
    return shards, {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}


def _write_weights(tensors: dict[str, torch.Tensor], path: Path) -> str:
    """Returns the sha256 of the file."""
    temporary = path.with_name(f".{path.name}.part")
    save_file(tensors, temporary, metadata=_HEADER)
    digest = file_sha256(temporary)
    temporary.chmod(0o644)  # safetensors writes it for the owner alone
    os.replace(temporary, path)
    return digest


def _write_json(value: dict[str, Any], path: Path) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(part, path)


def _remove_others(folder: Path, written: set[str]) -> None:
    """Weights of an earlier save in another number of parts: nothing reads them any more."""
    for path in folder.iterdir():
        if path.name not in written and (path.name in (WEIGHTS, INDEX) or SHARD.fullmatch(path.name)):
            path.unlink()
