"""What stands in the place of a method of one instance, and gives what the method gives."""

from __future__ import annotations

from torch import nn


class Twin:
    """Base of all twins: callable, made from a module and the weights that it has at that moment."""


def take_out(model: nn.Module) -> None:
    """The plain methods again, everywhere in the model."""
    for module in model.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, Twin):
                delattr(module, name)
