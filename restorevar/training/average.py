"""Exponential moving average of the trained parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .sharding import spread_like


class Average:
    """`values` by name; empty where `decay` is 0. The decay grows from 0, so that the start is soon forgotten."""

    def __init__(self, parameters: dict[str, nn.Parameter], decay: float):
        self.parameters = parameters
        self.decay = decay
        self.steps = 0
        self.values = {name: p.detach().clone() for name, p in parameters.items()} if decay else {}

    @torch.no_grad()
    def update(self) -> None:
        self.steps += 1
        if self.values:
            decay = min(self.decay, self.steps / (self.steps + 10))
            parameters = [self.parameters[name].detach() for name in self.values]
            torch._foreach_lerp_(list(self.values.values()), parameters, 1 - decay)  # one launch, not one a tensor

    @torch.no_grad()
    def load(self, values: dict[str, Tensor], steps: int) -> None:
        """`values` are whole tensors, also where the parameters are spread over processes."""
        self.steps = steps
        for name, value in self.values.items():
            value.copy_(spread_like(value, values[name]))

    @torch.no_grad()
    def keep(self) -> None:
        """The parameters become the averaged ones."""
        for name, value in self.values.items():
            self.parameters[name].copy_(value)

    @contextmanager
    def swapped(self, wanted: bool = True) -> Iterator[None]:
        """Inside, the model has the averaged weights; whatever happens there, its own are put back."""
        raw = {name: self.parameters[name].detach().clone() for name in self.values} if wanted else {}
        try:
            if wanted:
                self.keep()
            yield
        finally:
            with torch.no_grad():
                for name, value in raw.items():
                    self.parameters[name].copy_(value)
