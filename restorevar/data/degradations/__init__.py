"""Haze, rain, snow, low light and blur, made from clean photographs by simple physics.

Every degradation has the same shape:

    image_B3HW   float32 in [0, 1], sRGB-encoded, any H, W >= 8; never modified
    strength_B   float in [0, 1]; 0 is barely visible, 1 is heavy
    generator    a CPU `torch.Generator`, the only source of chance: same seed, same result
                 (the images are on the CPU, too)

and returns a degraded B3HW in [0, 1]. Everything strength does not fix (colours, directions, sizes,
depth) is drawn at random per sample. Sizes are in pixels of a photograph 512 to 768 pixels wide, so that a
crop of such a photograph looks like a crop; larger photographs scale them up mildly.

Suffixes name dimensions: B sample, 3 colour, H height, W width, P particle, K kernel row or column.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Generator, Tensor

from .blur import blur
from .haze import haze
from .jpeg import jpeg, shifted_jpeg
from .low_light import low_light, to_linear, to_srgb
from .rain import rain
from .snow import snow
from .variants import VARIANTS

__all__ = [
    "DEGRADATIONS",
    "VARIANTS",
    "blur",
    "haze",
    "jpeg",
    "low_light",
    "rain",
    "shifted_jpeg",
    "snow",
    "to_linear",
    "to_srgb",
]

# In the order in which light meets them: the air, what falls through it, the lens, the sensor.
DEGRADATIONS: dict[str, Callable[[Tensor, Tensor, Generator], Tensor]] = {
    "haze": haze,
    "rain": rain,
    "snow": snow,
    "blur": blur,
    "lowlight": low_light,
}
