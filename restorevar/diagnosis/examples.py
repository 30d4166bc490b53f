"""What the diagnosis learns from: clean photographs, degraded by known strengths, or not at all.

Example j of a photo is a function of (seed, name of the photo, j) alone. "Not at all" is made as hard as life makes
it: soft lenses, a shallow depth of field, JPEG, grain, other tones and colours are no degradation, and so are dusk,
snow and gray skies, of which photographs bring their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..data.degradations import DEGRADATIONS, jpeg
from ..data.degradations.maps import gaussian_blur, smooth_noise
from ..data.pairs import seeded
from .measures import measure
from .report import NAMES, strength_of
from .view import view

#: Task -> how often. Of several degradations each is weaker, lest nothing be left to see.
TASKS = {
    "": 30,
    **dict.fromkeys(NAMES, 10),
    **dict.fromkeys(("haze+rain", "haze+snow", "haze+lowlight", "lowlight+blur", "rain+lowlight"), 3),
    **dict.fromkeys(("snow+lowlight", "rain+blur", "haze+blur", "snow+blur"), 2),
}
COMBINED_STRENGTH = 0.75
#: Darker photographs (mean of 1) are not darkened further: they are night already.
MIN_MEAN = 60 / 255
#: Share of each side that a crop takes.
PARTS = (0.5, 1.0)
#: Pixels it is shrunken to, from a small picture to more than is looked at.
AREAS = (80_000, 480_000)


@dataclass(frozen=True)
class Example:
    """The measures of one degraded crop, and the strengths (5,) in the order of NAMES that it was given."""

    blocks: Tensor
    whole: Tensor
    strengths: Tensor


def examples_of(clean_3HW: Tensor, name: str, count: int, seed: int) -> Iterator[Example]:
    """`count` examples of a photo (3, H, W) of uint8."""
    for j in range(count):
        pixels_3HW, strengths = make(clean_3HW, seeded(seed, name, j))
        blocks, whole = measure(view(pixels_3HW.permute(1, 2, 0).numpy()))
        yield Example(blocks, whole, strengths)


def make(clean_3HW: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """A crop (3, h, w) of uint8, degraded or not, and its strengths (5,)."""
    image_13HW = _as_taken(_crop(clean_3HW, generator)[None], generator)
    task = list(TASKS)[int(torch.multinomial(torch.tensor([*TASKS.values()]).float(), 1, generator=generator))]
    wanted = [name for name in DEGRADATIONS if name in task.split("+")]
    if "lowlight" in wanted and image_13HW.mean() < MIN_MEAN:
        wanted.remove("lowlight")
    strengths = torch.zeros(len(NAMES))
    for name in wanted:  # in the order in which light meets them
        strength = _uniform(0, COMBINED_STRENGTH if len(wanted) > 1 else 1, generator)
        image_13HW = DEGRADATIONS[name](image_13HW, torch.tensor([strength]), generator)
        strengths[NAMES.index(name)] = strength_of(strength)
    return _as_stored(image_13HW, generator), strengths


def _crop(clean_3HW: Tensor, generator: Generator) -> Tensor:
    """(3, h, w) float in [0, 1]: most of a photo or all of it, shrunken. A smaller part may be soft all over."""
    high, wide = clean_3HW.shape[1:]
    height, width = round(high * _uniform(*PARTS, generator)), round(wide * _uniform(*PARTS, generator))
    top, left = int(_uniform(0, high - height + 1, generator)), int(_uniform(0, wide - width + 1, generator))
    part_13HW = clean_3HW[None, :, top : top + height, left : left + width].float().div_(255)
    if _chance(0.5, generator):
        part_13HW = part_13HW.flip(-1)
    area = math.exp(_uniform(math.log(AREAS[0]), math.log(AREAS[1]), generator))
    shrink = min(1.0, math.sqrt(area / (height * width)))
    size = max(8, round(height * shrink)), max(8, round(width * shrink))
    return F.interpolate(part_13HW, size, mode="bilinear", antialias=True)[0].clamp(0, 1)


def _as_taken(image_13HW: Tensor, generator: Generator) -> Tensor:
    """Another lens, another taste: none of it a degradation."""
    if _chance(0.5, generator):
        gamma, gain = math.exp(_normal(0.15, generator)), math.exp(_normal(0.08, generator))
        image_13HW = ((image_13HW.clamp(1e-4, 1) ** gamma - 0.5) * gain + 0.5).clamp(0, 1)
    if _chance(0.35, generator):
        gray = image_13HW.mean(1, keepdim=True)
        saturation = 0.0 if _chance(0.1, generator) else _uniform(0.5, 1.3, generator)
        cast = 1 + 0.03 * torch.randn(1, 3, 1, 1, generator=generator)
        image_13HW = (torch.lerp(gray, image_13HW, saturation) * cast).clamp(0, 1)
    if _chance(0.3, generator):
        image_13HW = _soft(image_13HW, _uniform(0.2, 0.7, generator))
    if _chance(0.15, generator):
        image_13HW = _shallow(image_13HW, generator)
    if _chance(0.25, generator):
        image_13HW = image_13HW + _uniform(0, 0.02, generator) * torch.randn(image_13HW.shape, generator=generator)
    return image_13HW.clamp(0, 1)


def _shallow(image_13HW: Tensor, generator: Generator) -> Tensor:
    """Sharp in a part of it, soft behind: a lens wide open."""
    height, width = image_13HW.shape[-2:]
    behind = _soft(image_13HW, _uniform(1.5, 6, generator))
    place_1HW = smooth_noise(1, height, width, generator, cells=2, octaves=1)
    edge = float(torch.quantile(place_1HW[:, ::8, ::8].flatten(), _uniform(0.3, 0.8, generator)))
    return torch.lerp(image_13HW, behind, torch.sigmoid(20 * (edge - place_1HW))[:, None])


def _soft(image_13HW: Tensor, sigma: float) -> Tensor:
    return gaussian_blur(image_13HW[0], torch.full((3,), sigma))[None]


def _as_stored(image_13HW: Tensor, generator: Generator) -> Tensor:
    """(3, H, W) uint8; half of all as JPEG."""
    quality = int(_uniform(60, 99, generator))
    if _chance(0.5, generator):
        image_13HW = jpeg(image_13HW, torch.tensor([quality]))
    return image_13HW[0].mul(255).round_().clamp_(0, 255).to(torch.uint8)


def _uniform(low: float, high: float, generator: Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _normal(sigma: float, generator: Generator) -> float:
    return sigma * float(torch.randn((), generator=generator))


def _chance(probability: float, generator: Generator) -> bool:
    return float(torch.rand((), generator=generator)) < probability
