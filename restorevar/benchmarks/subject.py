"""The model under measurement: shipped weights where there are some, random ones otherwise, for speed is the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..checkpoints import available_models, load_model
from ..models import Model, ModelConfig, build_model, kind_of
from ..models.config import PRESETS


@dataclass(frozen=True)
class Subject:
    """`build` gives a fresh model in float32 on the CPU each time, with the same weights."""

    name: str
    config: ModelConfig
    random: bool
    build: Callable[[], Model]

    @property
    def parameters(self) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in build_model(self.config).parameters())

    def __str__(self) -> str:
        weights = "random weights" if self.random else "trained weights"
        return f"{self.name} ({kind_of(self.config)}, {weights})"


def find_subject(name: str) -> Subject:
    """A preset without shipped weights, else what `load_model` finds. Raises UserError if there is none such."""
    if name in PRESETS and name not in available_models():
        return random_subject(name, PRESETS[name]())
    model = load_model(name).model
    return Subject(name, model.config, False, lambda: load_model(name).model)


def random_subject(name: str, config: ModelConfig) -> Subject:
    return Subject(name, config, True, lambda: random_model(config))


def random_model(config: ModelConfig, seed: int = 0) -> Model:
    """Random weights in every part: gains and output layers that start at zero would hide what they weigh."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(config).eval().requires_grad_(False)
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02)
    return model
