"""The speed ladder: what is left of the quality when parts of the model are left out, and how much time that saves.

Quality is measured on the middle of real pairs, a window's size of each; time on one such window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from ..evaluation.analysis.views import psnr
from ..evaluation.controls import LatentControl
from ..evaluation.pairs import Pair
from ..models import RestoreVAR
from ..pipeline import SPEEDS, Restorer, scales_of
from .breakdown import random_image
from .precision import evenly, middle
from .timing import Timing, measure

#: (B, 3, H, W) in [-1, 1] -> the same, restored.
Restore = Callable[[Tensor], Tensor]
#: Pairs of each task; on two CPU cores a pair takes a minute.
PAIRS = 3
CLEAN = "clean"


@dataclass(frozen=True)
class Rung:
    """`gains`: mean dB over the input per task, and for clean photos the mean PSNR itself."""

    name: str
    speed: str | None  #: by which `restore --speed` takes it
    time: Timing
    gains: dict[str, float]


def measure_ladder(restorer: Restorer, pairs: Sequence[Pair], repeat: int, limit: int = PAIRS) -> list[Rung]:
    """The whole model first. Raises UserError for models without scales, and if no pair has a truth."""
    model = restorer.model
    if not isinstance(model, RestoreVAR):
        raise UserError("the ladder is about next-scale prediction; this model has no scales")
    samples = _samples(pairs, model.config.window, limit)
    window = random_image(model.config.window).to(restorer.device)
    rungs = []
    for name, speed, restore in _rungs(model, restorer.fidelity):
        gains = _gains(restore, samples, restorer.device)
        time = measure(partial(restore, window), restorer.device, repeat)
        rungs.append(Rung(name, speed, time, gains))
    return rungs


def _rungs(model: RestoreVAR, fidelity: float) -> Iterator[tuple[str, str | None, Restore]]:
    most = len(model.config.scales)
    speeds = {scales_of(model, name) or most: name for name, speed in SPEEDS.items() if not speed.half}
    counts = sorted({most, most - 1, *speeds, max(1, most * 4 // 10), 1} - {0}, reverse=True)

    def ending(scales: int, weight: float) -> Restore:
        return lambda image: model.restore(image, fidelity=weight, scales=scales)

    for scales in counts:
        yield f"{scales} of {most} scales", speeds.get(scales), ending(scales, fidelity)
    yield "all scales, no refiner", None, lambda image: _unrefined(model, image, fidelity)
    degraded = LatentControl(model, "degraded")
    yield "no scales: the degraded latent", None, lambda image: degraded.restore(image, fidelity)
    if model.config.any_window:
        for scales in sorted(speeds, reverse=True):
            name = f"{scales} of {most} scales, at half size"
            yield name, "fast" if scales == most else None, partial(_at_half_size, ending(scales, fidelity))
    if fidelity:
        for scales in sorted(speeds, reverse=True):
            yield f"no fidelity branch, {scales} of {most} scales", None, ending(scales, 0.0)
        yield "no fidelity branch, no refiner", None, lambda image: _unrefined(model, image, 0.0)


@torch.inference_mode()
def _unrefined(model: RestoreVAR, image: Tensor, fidelity: float) -> Tensor:
    f_hat, _ = model.generate(model.condition(image))
    return model.decode(f_hat, image, fidelity)


@torch.inference_mode()
def _at_half_size(restore: Restore, image: Tensor) -> Tensor:
    """What changes at half the size, enlarged and added (see halving.py): the detail stays that of the input."""
    small = F.interpolate(image, scale_factor=0.5, mode="area")
    change = F.interpolate(restore(small) - small, size=image.shape[-2:], mode="bilinear")
    return (image + change).clamp(-1, 1)


# ---------------------------------------------------------------------------------------------------- quality


def _samples(pairs: Sequence[Pair], window: int, limit: int) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """Per task the middles of the first pairs, each (1, 3, window, window), evenly picked."""
    ordered = sorted((pair for pair in pairs if pair.target is not None), key=lambda pair: pair.task)
    samples = {}
    for task, group in groupby(ordered, key=lambda pair: pair.task):
        picked = evenly(list(group), limit)
        truths = [(pair.input, pair.target) for pair in picked if pair.target is not None]
        samples[task] = [(middle(degraded, window), middle(clean, window)) for degraded, clean in truths]
    if not samples:
        raise UserError("the ladder needs pairs with a truth")
    return samples


def _gains(restore: Restore, samples: dict[str, list[tuple[Tensor, Tensor]]], device: torch.device) -> dict[str, float]:
    gains = {}
    for task, images in samples.items():
        values = []
        for degraded, clean in images:
            restored = restore(degraded.to(device)).float().cpu()
            values.append(psnr(restored, clean) - (0.0 if task == CLEAN else psnr(degraded, clean)))
        gains[task] = float(np.mean(values))
    return gains
