"""Which degradations a batch gets, how strong they are, and how often JPEG follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from restorevar.data.degradations import DEGRADATIONS, VARIANTS, shifted_jpeg
from restorevar.errors import UserError

CLEAN = "clean"


@dataclass(frozen=True)
class Mix:
    """How often each task is drawn and how strong it is.

    weights             task -> relative weight; a task is "clean", a name in DEGRADATIONS, or several
                        joined by "+", applied in the order of DEGRADATIONS whatever the order in the name
    strength            range from which strength is drawn evenly, per sample and degradation
    combined_strength   factor on strength where several degradations meet, lest nothing be left to see
    variants            share of the degradations made by another model (degradations/variants.py)
    retaken             share of the photographs changed first as another camera would (tones.py)
    jpeg_probability    share of the degraded samples saved as JPEG afterwards
    jpeg_clean          the same share among the clean samples
    jpeg_quality        range from which the quality is drawn evenly
    """

    weights: Mapping[str, float]
    strength: tuple[float, float] = (0.0, 1.0)
    combined_strength: float = 0.75
    variants: float = 0.0
    retaken: float = 0.0
    jpeg_probability: float = 0.0
    jpeg_clean: float = 0.0
    jpeg_quality: tuple[int, int] = (70, 98)

    def __post_init__(self) -> None:
        for task in self.weights:
            _parts(task)

    def without(self, name: str) -> Mix:
        """The same without the tasks in which this degradation has a part; clean samples where nothing is left."""
        weights = {task: weight for task, weight in self.weights.items() if name not in _parts(task)}
        return replace(self, weights=weights or {CLEAN: 1.0})


def _parts(task: str) -> list[str]:
    """The degradations of a task in the order in which they are applied."""
    names = [] if task == CLEAN else task.split("+")
    unknown = [name for name in names if name not in DEGRADATIONS]
    if unknown:
        raise UserError(f"unknown degradation '{unknown[0]}'; choose from {', '.join(DEGRADATIONS)}, {CLEAN}")
    return [name for name in DEGRADATIONS if name in names]


_TRAIN = Mix(
    weights={
        "haze": 26,
        "lowlight": 22,
        "rain": 18,
        "snow": 16,
        "blur": 16,
        "haze+rain": 1.5,
        "haze+snow": 1.5,
        "lowlight+blur": 1.5,
        "rain+lowlight": 0.75,
        "haze+lowlight": 0.75,
        CLEAN: 12,
    },
    variants=0.5,
    retaken=0.5,
    jpeg_probability=0.5,
    jpeg_clean=0.2,
    jpeg_quality=(50, 98),
)

#: train    all that a model is to learn
#: detail   the same for a network whose light and air are set by another (models/tone.py), and whose picture a third
#:          sharpens (models/focus.py): more rain and snow, and much more grain of the dark
#: focus    blur, and enough of all else to leave it alone (models/focus.py)
#: eval     what pairs to measure with are made of
MIXES = {
    "train": _TRAIN,
    "detail": replace(
        _TRAIN,
        weights={**_TRAIN.weights, "haze": 28, "lowlight": 46, "rain": 28, "snow": 22, "blur": 11, CLEAN: 20},
        variants=0.6,
    ),
    "focus": replace(
        _TRAIN,
        weights={"blur": 55, "haze": 8, "lowlight": 8, "rain": 5, "snow": 5, "lowlight+blur": 2, CLEAN: 20},
        variants=0.6,
    ),
    "eval": Mix(weights=dict.fromkeys(("haze", "rain", "snow", "lowlight", "blur"), 1.0), strength=(0.2, 0.9)),
}


def degrade(image_B3HW: Tensor, mix_or_task: Mix | str, generator: Generator) -> tuple[Tensor, list[str]]:
    """Degrade a batch (float32 in [0, 1]); return it with the name of each sample's task.

    mix_or_task   a Mix, a name in MIXES, or one task such as "snow" or "haze+rain" at the strengths of "eval"

    Samples of one task are processed together. The input is not modified.
    """
    mix = _find_mix(mix_or_task)
    tasks = _draw_tasks(mix, len(image_B3HW), generator)
    result_B3HW = image_B3HW.clone()
    for task in mix.weights:
        chosen_S = torch.tensor([i for i, name in enumerate(tasks) if name == task], dtype=torch.long)
        if len(chosen_S):
            result_B3HW[chosen_S] = _apply(task, image_B3HW[chosen_S], mix, generator)
    return result_B3HW, tasks


def drawn_strength(task: str, strength: tuple[float, float], generator: Generator) -> float:
    """The strength that `degrade` gives a single image of one degradation, from a generator in the same state."""
    mix = Mix(weights={task: 1.0}, strength=strength)
    _draw_tasks(mix, 1, generator)
    return float(_draw_strengths(mix, 1, generator))


def _find_mix(mix_or_task: Mix | str) -> Mix:
    if isinstance(mix_or_task, Mix):
        return mix_or_task
    if mix_or_task in MIXES:
        return MIXES[mix_or_task]
    return Mix(weights={mix_or_task: 1.0}, strength=MIXES["eval"].strength)


def _draw_tasks(mix: Mix, batch: int, generator: Generator) -> list[str]:
    names = list(mix.weights)
    weights = torch.tensor([mix.weights[name] for name in names], dtype=torch.float64)
    picks = torch.multinomial(weights, batch, replacement=True, generator=generator)
    return [names[pick] for pick in picks.tolist()]


def _apply(task: str, image_S3HW: Tensor, mix: Mix, generator: Generator) -> Tensor:
    """Run one task over its samples: its degradations in order, then JPEG on some."""
    parts = _parts(task)
    factor = mix.combined_strength if len(parts) > 1 else 1.0
    for name in parts:
        strength_S = _draw_strengths(mix, len(image_S3HW), generator)
        image_S3HW = _degrade_each(name, image_S3HW, factor * strength_S, mix.variants, generator)
    return _jpeg_some(image_S3HW, mix.jpeg_probability if parts else mix.jpeg_clean, mix, generator)


def _degrade_each(name: str, image_S3HW: Tensor, strength_S: Tensor, variants: float, generator: Generator) -> Tensor:
    """One degradation, for some of the samples one of its variants; without variants no chance is spent on them."""
    if not variants:
        return DEGRADATIONS[name](image_S3HW, strength_S, generator)
    makers = (DEGRADATIONS[name], *VARIANTS[name])
    other_S = torch.rand(len(image_S3HW), generator=generator) < variants
    maker_S = torch.randint(1, len(makers), (len(image_S3HW),), generator=generator) * other_S
    result_S3HW = torch.empty_like(image_S3HW)
    for i, make in enumerate(makers):
        chosen_S = maker_S == i
        if chosen_S.any():
            result_S3HW[chosen_S] = make(image_S3HW[chosen_S], strength_S[chosen_S], generator)
    return result_S3HW


def _draw_strengths(mix: Mix, count: int, generator: Generator) -> Tensor:
    low, high = mix.strength
    return low + (high - low) * torch.rand(count, generator=generator)


def _jpeg_some(image_S3HW: Tensor, probability: float, mix: Mix, generator: Generator) -> Tensor:
    low, high = mix.jpeg_quality
    quality_S = torch.randint(low, high + 1, (len(image_S3HW),), generator=generator)
    chosen_S = torch.rand(len(image_S3HW), generator=generator) < probability
    if not chosen_S.any():
        return image_S3HW
    result_S3HW = image_S3HW.clone()
    result_S3HW[chosen_S] = shifted_jpeg(image_S3HW[chosen_S], quality_S[chosen_S], generator)
    return result_S3HW
