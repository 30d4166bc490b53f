"""Photographs as another camera, or a worse light, would have taken them."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from .degradations.low_light import to_linear, to_srgb
from .degradations.maps import coloured

#: The least exposure, a share of linear light; and the spread of the colours' factors.
LEAST_EXPOSURE = 0.55
CAST = 0.05


def retaken(clean_3HW: Tensor, generator: Generator) -> Tensor:
    """(3, H, W) in [0, 1] -> likewise: every second harder, every second of another white, every fourth less exposed.

    Collections of fine photographs have few targets like that, living rooms and streets have many. And a network that
    has only seen whites that are white takes a photo whose whites are gray for one with too little light.
    """
    harder_so, dimmer_so, cast_so = (torch.rand(3, generator=generator) < torch.tensor([0.5, 0.25, 0.5])).tolist()
    if harder_so:
        clean_3HW = harder(clean_3HW, generator)
    if dimmer_so:
        exposure = math.log(LEAST_EXPOSURE) * float(torch.rand((), generator=generator)) ** 2  # mostly a little
        clean_3HW = to_srgb(to_linear(clean_3HW) * math.exp(exposure))
    if cast_so:
        factor_3 = torch.exp(CAST * torch.randn(3, generator=generator))
        clean_3HW = clean_3HW * (factor_3 / factor_3.max())[:, None, None]
    return clean_3HW.clamp(0, 1)


def harder(clean_3HW: Tensor, generator: Generator) -> Tensor:
    """(3, H, W) in [0, 1] -> likewise, with more contrast: blacks and whites cut off, a little darker, other colours.

    Never softer ones: what looks like haze must not become a target. Nor much darker ones: those taught that a dark
    photo is to be left dark.
    """
    power, black, white, colour = torch.rand(4, generator=generator)
    toned_3HW = clean_3HW ** (1 + 0.35 * power)
    toned_3HW = (toned_3HW - 0.08 * black) / (1 - 0.2 * white - 0.08 * black)
    return coloured(toned_3HW[None], 0.7 + 0.6 * colour[None])[0].clamp(0, 1)
