"""Photographs as another camera, or a worse light, would have taken them."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from .degradations.maps import coloured


def harder(clean_3HW: Tensor, generator: Generator) -> Tensor:
    """(3, H, W) in [0, 1] -> likewise, with more contrast: blacks and whites cut off, a little darker, other colours.

    Collections of fine photographs have few such targets, living rooms and streets have many. Never softer ones: what
    looks like haze must not become a target. Nor much darker ones: those taught that a dark photo is to be left dark.
    """
    power, black, white, colour = torch.rand(4, generator=generator)
    toned_3HW = clean_3HW ** (1 + 0.35 * power)
    toned_3HW = (toned_3HW - 0.08 * black) / (1 - 0.2 * white - 0.08 * black)
    return coloured(toned_3HW[None], 0.7 + 0.6 * colour[None])[0].clamp(0, 1)
