"""Several models of one network, averaged weight by weight.

Two stages of one training lie in one valley: what the later one forgot of rare photos, and what it learned, can both be
had between them (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"). The shipped weights are made so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from ..models import Model, build_model
from .loading import LoadedModel, load_model
from .saving import save_model

#: Counts of blocks that start as nothing: those of a U-Net (models/nafnet.py).
SILENT_BLOCKS = ("encoder", "middle", "decoder")


def average_models(
    names: Sequence[str | os.PathLike[str]],
    out: Path,
    shares: Sequence[float] | None = None,
    dtype: torch.dtype | None = None,
    finish: Callable[[Model], dict[str, Any]] | None = None,
) -> str:
    """Write the mean of two or more models as a model folder, float32 or `dtype`; returns the sha256 of its weights.

    `shares`, one for each model, at least 0 and not all 0, count by their sum; None gives all the same. A part that
    some of the models lack, such as blocks of a U-Net that went deeper, does nothing there, so its last layer, which
    starts at zero, counts as zero for them; its other tensors are the mean of those who have it. The config is that of
    the model with most parts, and tells which models went in. `finish` may change the mean, in float32, before it is
    written, and says what the config is to tell of that. Raises UserError, one line, for models that cannot be loaded,
    for other shares, and for networks that differ in more than parts which one has and another has not.
    """
    if len(names) < 2:
        raise UserError("an average is made of two or more models")
    shares = [1.0] * len(names) if shares is None else list(shares)
    if len(shares) != len(names):
        raise UserError(f"{len(names)} models but {len(shares)} shares")
    if not all(0 <= share < float("inf") for share in shares) or sum(shares) == 0:
        raise UserError(f"shares are numbers from 0 on, not all 0: {', '.join(map(str, shares))} are not")
    parts = [load_model(name) for name in names]
    whole = max(parts, key=lambda part: len(part.model.state_dict()))  # the first of those with most
    for part in parts:
        _check_alike(whole, part)
    states = [(part.model.state_dict(), share) for part, share in zip(parts, shares, strict=True)]
    fresh = build_model(whole.model.config).state_dict()
    mean = {
        name: _mean(
            [(state.get(name, start), share) for state, share in states if name in state or _is_silent(name, fresh)]
        )
        for name, start in fresh.items()
    }
    made_of = [{"sha256": part.sha256, "share": share / sum(shares)} for part, share in zip(parts, shares, strict=True)]
    about: dict[str, Any] = {"average_of": made_of}
    whole.model.load_state_dict(mean)
    if finish is not None:
        about |= finish(whole.model)
    return save_model(whole.model, out, dtype=dtype, metadata=about)


def _is_silent(name: str, fresh: Mapping[str, torch.Tensor]) -> bool:
    """Whether a tensor starts at zero so that its part gives nothing; a norm's bias does, too, but not for that."""
    layer, _, kind = name.rpartition(".")
    return not fresh[name].any() and not (kind == "bias" and fresh[f"{layer}.weight"].any())


def _check_alike(whole: LoadedModel, part: LoadedModel) -> None:
    """Raises UserError unless the networks differ only in what is switched on, and `whole` has all that `part` has.

    Shapes alone do not tell: another number of heads fits the same tensors, and means something else by them.
    """
    where = f"{part.name}: not the network of {whole.name}"
    if type(part.model.config) is not type(whole.model.config):
        raise UserError(f"{where}, but of another kind")
    wanted = dict(_flat(whole.model.config.to_dict()))
    for name, value in _flat(part.model.config.to_dict()):
        silent = isinstance(value, bool) or name.rpartition(".")[2] in SILENT_BLOCKS
        if value != wanted.get(name) and not silent:
            raise UserError(f"{where} ({name}: {value}, there {wanted.get(name)})")
    all_shapes, shapes = _shapes(whole), _shapes(part)
    missing = shapes.keys() - all_shapes.keys()
    if missing:
        raise UserError(f"{where}: each has parts that the other lacks ({min(missing)})")
    for name, shape in shapes.items():
        if shape != all_shapes[name]:
            raise UserError(f"{where} ({name}: {shape}, there {all_shapes[name]})")


def _shapes(part: LoadedModel) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in part.model.state_dict().items()}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """("fidelity.width", 32), ..."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _mean(tensors: Sequence[tuple[torch.Tensor, float]]) -> torch.Tensor:
    """Whole numbers, which are no weights but tables of places, as the first has them."""
    first = tensors[0][0]
    total = sum(share for _, share in tensors)
    if not first.is_floating_point() or total == 0:
        return first
    return torch.stack([tensor.double() * (share / total) for tensor, share in tensors]).sum(dim=0).to(first.dtype)
