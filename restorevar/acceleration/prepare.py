"""A model made ready to restore: on its device, cast once, its slowest methods replaced by faster twins."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from ..models import Model, RegressionNet
from ..models.autoencoder import Upsample
from ..models.nafnet import ScaledConv
from .capture import CapturedRestore
from .convolutions import FoldedConv, UpsampleByPhases
from .rollout import LeanRollout
from .twin import take_out

Module = TypeVar("Module", bound=nn.Module)


def prepare(model: Model, device: torch.device, dtype: torch.dtype, twins: bool = True) -> Model:
    """Move the model and cast its heavy parts, once. In place; returns the model.

    Convolutions, transformer blocks, refiner and fidelity branch take `dtype`; norms, softmax and the normalisation
    of queries and keys accumulate in float32 inside. The quantizer, the two latent convolutions, the embeddings and
    the head stay in float32: they decide tokens and cost little. A regression network decides nothing and takes
    `dtype` as a whole; it adds its result to the image in float32.

    `twins` False leaves the plain methods: the reference. The twins are attributes of the instances; parameters and
    state dict stay what they were, and weights changed or moved afterwards are not seen.
    """
    take_out(model)
    model.to(device)
    heavy, convolutional = _parts(model)
    for part in heavy:
        part.to(dtype)
    for part in convolutional:
        part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.eval().requires_grad_(False)
    if twins:
        _replace(model)
    return model


def release(model: Model) -> None:
    """Give back the device memory that the twins keep between calls."""
    if isinstance(model.restore, CapturedRestore):
        model.restore.clear()


def _parts(model: Model) -> tuple[list[nn.Module], list[nn.Module]]:
    """Those to cast and those with images inside."""
    if isinstance(model, RegressionNet):
        return [model], [model]
    fidelity = [] if model.fidelity is None else [model.fidelity]
    vqvae = model.vqvae
    return [vqvae.encoder, vqvae.decoder, model.transformer.blocks, model.refiner, *fidelity], [vqvae, *fidelity]


def _replace(model: Model) -> None:
    for upsample in _modules(model, Upsample):
        upsample.forward = UpsampleByPhases(upsample)  # type: ignore[method-assign, assignment]
    for conv in _modules(model, ScaledConv):
        conv.forward = FoldedConv(conv)  # type: ignore[method-assign]
    device = next(model.parameters()).device.type
    if not isinstance(model, RegressionNet) and device != "mps":  # complex numbers on MPS are untried
        model.transformer.step = LeanRollout(model.transformer)  # type: ignore[method-assign]
    if device == "cuda":
        model.restore = CapturedRestore(model.restore)  # type: ignore[method-assign]


def _modules(model: nn.Module, kind: type[Module]) -> list[Module]:
    return [module for module in model.modules() if isinstance(module, kind)]
