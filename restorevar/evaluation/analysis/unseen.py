"""Degradations that no recipe of this repository trains on, to see how far what was learned carries.

They have the shape of those in data/degradations: (image_B3HW in [0, 1], strength_B in [0, 1], generator) -> B3HW.
Defocus is not among them, although it is in no data set of the paper: the blur that we train on has it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ...data.degradations import jpeg, to_linear, to_srgb
from ...data.degradations.per_sample import between, spread, uniform
from ...data.synthesis import degrade_photo


def blocks(image_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """JPEG of quality 40 down to 8: blocks and ringing. The recipes stop at 70."""
    return jpeg(image_B3HW, between(strength_B, 40.0, 8.0).round())


def noise(image_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """White Gaussian noise, sigma 10 to 50 of 255. The recipes have so much in the dark only."""
    sigma_B = between(strength_B, 10.0, 50.0) / 255
    return (image_B3HW + spread(sigma_B) * torch.randn(image_B3HW.shape, generator=generator)).clamp(0, 1)


def lowres(image_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """Shrunken to a half to a quarter by averaging and enlarged again."""
    height, width = image_B3HW.shape[-2:]
    results = []
    for image_3HW, factor in zip(image_B3HW, between(strength_B, 2.0, 4.0).tolist(), strict=True):
        size = [max(1, round(side / factor)) for side in (height, width)]
        small = F.interpolate(image_3HW[None], size, mode="area")
        results.append(F.interpolate(small, (height, width), mode="bicubic", align_corners=False)[0])
    return torch.stack(results).clamp(0, 1)


def underwater(image_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """Water between camera and scene: red goes first, a blue-green veil comes, the same over the whole photo."""
    batch = len(image_B3HW)
    depth_B1 = between(strength_B, 0.2, 1.2)[:, None]
    decay_B3 = torch.tensor([1.3, 0.45, 0.3]) * (0.8 + 0.4 * torch.rand(batch, 3, generator=generator))
    kept_B311 = torch.exp(-depth_B1 * decay_B3)[:, :, None, None]
    water_B3 = torch.stack([uniform(batch, *ends, generator) for ends in ((0.0, 0.05), (0.2, 0.4), (0.25, 0.5))], dim=1)
    light_B3HW = to_linear(image_B3HW) * kept_B311 + water_B3[:, :, None, None] * (1 - kept_B311)
    return to_srgb(light_B3HW).clamp(0, 1)


def overexposed(image_B3HW: Tensor, strength_B: Tensor, generator: Generator) -> Tensor:
    """Two thirds of a stop to two stops too much light; what is above white is lost."""
    gain_B = 2 ** between(strength_B, 0.67, 2.0)
    return to_srgb((to_linear(image_B3HW) * spread(gain_B)).clamp(0, 1)).clamp(0, 1)


UNSEEN: dict[str, Callable[[Tensor, Tensor, Generator], Tensor]] = {
    "jpeg": blocks,
    "noise": noise,
    "lowres": lowres,
    "underwater": underwater,
    "overexposed": overexposed,
}


def degrade_any(clean_3HW: Tensor, task: str, generator: Generator, strength: tuple[float, float]) -> Tensor:
    """As `data.synthesis.degrade_photo`, for its tasks and those of UNSEEN: (3, H, W) uint8 -> likewise.

    Raises UserError for a task that neither knows.
    """
    if task not in UNSEEN:
        return degrade_photo(clean_3HW, task, generator, strength)
    drawn_B = uniform(1, *strength, generator)
    degraded_B3HW = UNSEEN[task](clean_3HW[None].float() / 255, drawn_B, generator)
    return degraded_B3HW[0].mul(255).round_().clamp_(0, 255).to(torch.uint8)
