"""FSDP (torch's fully_shard): weights, gradients and optimiser states spread over the processes.

The objective is one unit: before its forward all trained weights are gathered, as the stages call the model's methods
and not only its forward. What is saved is what does not fit: gradients and AdamW's moments are three quarters of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from accelerate import Accelerator


def shard(objective: nn.Module, model: nn.Module, device: torch.device) -> dict[str, nn.Parameter]:
    """Spread the trained parameters over all processes; returns them, by their names in `model`."""
    from torch.distributed import get_world_size
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    for parameter in model.parameters():  # it takes no channels-last weights
        parameter.data = parameter.data.contiguous()
    left_alone = {p for p in model.parameters() if not p.requires_grad or p.ndim == 0}  # it takes no scalars
    mesh = init_device_mesh(device.type, (get_world_size(),))
    fully_shard(objective, mesh=mesh, reshard_after_forward=False, ignored_params=left_alone)
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float, accelerator: Accelerator) -> float:
    """Mean gradients of the scalars over the processes (FSDP did the others'), then clip all; the norm before."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    for gradient in gradients:
        if gradient.ndim == 0:
            gradient.copy_(accelerator.reduce(gradient, "mean"))
    norm = float(torch.stack([whole(gradient.norm()) for gradient in gradients]).norm())
    for gradient in gradients:
        gradient.mul_(min(1.0, limit / (norm + 1e-6)))
    return norm


def whole(tensor: Tensor) -> Tensor:
    """The tensor itself, or what all processes hold of it together; all must ask."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def spread_like(target: Tensor, tensor: Tensor) -> Tensor:
    """A whole tensor, spread as `target` is."""
    if not hasattr(target, "device_mesh"):
        return tensor.to(target)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(target.device), target.device_mesh, target.placements)  # type: ignore[attr-defined]


@contextmanager
def gathered(objective: Any, sharded: bool) -> Iterator[None]:
    """Inside, every process has the whole weights, as plain parameters."""
    if not sharded:
        yield
        return
    objective.unshard()
    try:
        yield
    finally:
        objective.reshard()


def sharded_state(objective: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimiser's state as one process would have it, by parameter name."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return dict(get_optimizer_state_dict(objective, optimizer, options=options))


def load_sharded_state(objective: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """The inverse of `sharded_state`."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

    set_optimizer_state_dict(objective, optimizer, state, options=StateDictOptions(full_state_dict=True))
