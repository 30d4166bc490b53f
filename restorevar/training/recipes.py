"""Recipes: the page where the numbers of a training can be read."""

from __future__ import annotations

from collections.abc import Callable

from ..data.pairs import PairSource
from ..models import RestoreVARConfig
from ..models import config as presets
from .decoder_stage import DecoderStage, FidelityStage
from .refiner_stage import RefinerStage
from .trainer import Schedule, Stage
from .transformer_stage import TransformerStage
from .vqvae_stage import AutoencoderStage, CodebookStage

Recipe = Callable[[PairSource, float], list[Stage]]

#: What `--stage` takes -> the stages it runs. The paper counts four.
STAGE_GROUPS = {
    "vqvae": ("autoencoder", "codebook"),
    "transformer": ("transformer",),
    "refiner": ("refiner",),
    "decoder": ("decoder", "fidelity"),
}


def compact(source: PairSource, seconds: float) -> list[Stage]:
    """The shipped default, from scratch, on a CPU or a GPU, within `seconds` of training altogether."""
    windows = {(256, 256): 0.75, (256, 384): 0.1, (384, 384): 0.1, (512, 512): 0.05}
    return [
        AutoencoderStage(source, Schedule(lr=8e-4, batch=16, seconds=0.28 * seconds, ema=0.995)),
        CodebookStage(source, Schedule(lr=2e-3, batch=32, seconds=0.03 * seconds)),
        TransformerStage(
            source,
            Schedule(lr=6e-4, batch=16, seconds=0.22 * seconds, weight_decay=0.05, clip=2.0),
            windows,
            token_noise=0.05,
        ),
        RefinerStage(source, Schedule(lr=6e-4, batch=16, seconds=0.04 * seconds), windows),
        DecoderStage(source, Schedule(lr=2e-4, batch=8, seconds=0.03 * seconds, ema=0.99), {(192, 192): 1.0}),
        FidelityStage(
            source,
            Schedule(lr=8e-4, batch=12, seconds=0.40 * seconds, ema=0.998, validate_seconds=900),
            {(256, 256): 1.0, (384, 384): 0.1},
            reuse=6,
            crop=128,
        ),
    ]


def debug(source: PairSource, seconds: float) -> list[Stage]:
    """Two steps a stage, for tests."""
    schedule = Schedule(lr=1e-3, batch=2, steps=2, warmup_steps=1, seconds=seconds)
    shape = {(32, 32): 1.0}
    return [
        AutoencoderStage(source, schedule, crop=32),
        CodebookStage(source, schedule, crop=32),
        TransformerStage(source, schedule, shape),
        RefinerStage(source, schedule, shape),
        DecoderStage(source, schedule, shape),
        FidelityStage(source, schedule, shape, crop=16),
    ]


RECIPES: dict[str, tuple[Callable[[], RestoreVARConfig], Recipe]] = {
    "compact": (presets.compact, compact),
    "debug": (presets.debug, debug),
}
