"""Recipes: the page where the numbers of a training can be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ..data.crops import Geometry
from ..models import ModelConfig, RegressionConfig, RestoreVARConfig
from ..models import config as presets
from .decoder_stage import DecoderStage
from .fidelity_stage import BranchStage, FidelityStage
from .focus_stage import FocusStage
from .image_loss import ImageLoss
from .refiner_stage import RefinerStage
from .regression_stage import RegressionStage
from .tone_stage import ToneStage
from .trainer import Schedule, Stage
from .transformer_stage import TransformerStage
from .vqvae_stage import AutoencoderStage, CodebookStage, TokenizerStage

#: What `--stage` takes -> the stages it runs. The paper counts four.
STAGE_GROUPS = {
    "vqvae": ("autoencoder", "codebook", "tokenizer"),
    "transformer": ("transformer",),
    "refiner": ("refiner",),
    "decoder": ("decoder", "tone", "focus", "branch", "fidelity"),
}


@dataclass(frozen=True)
class Recipe:
    """A model and the stages that train it, in order. `share` of a stage is its part of a `--budget`."""

    model: Callable[[], ModelConfig]
    stages: Callable[[], list[Stage]]
    about: str
    geometry: Geometry = "scene"


def compact() -> list[Stage]:
    """From scratch on a CPU or a GPU. Trains the VQVAE in two steps: in the third the two chased each other."""
    windows = {(256, 256): 0.75, (256, 384): 0.1, (384, 384): 0.1, (512, 512): 0.05}
    return [
        AutoencoderStage(Schedule(lr=8e-4, batch=16, ema=0.995), share=0.22),
        CodebookStage(Schedule(lr=2e-3, batch=32), share=0.03),
        TransformerStage(
            Schedule(lr=6e-4, batch=16, weight_decay=0.05, clip=2.0, ema=0.995),
            share=0.30,
            shapes=windows,
            scale_balance=0.5,
            self_rollout=0.75,
        ),
        RefinerStage(Schedule(lr=6e-4, batch=16), share=0.03, shapes=windows),
        DecoderStage(Schedule(lr=2e-4, batch=8, ema=0.99), share=0.02, shapes={(192, 192): 1.0}),
        # No fidelity stage: the branch does not enter the decoder here, they have nothing to agree on.
        ToneStage(Schedule(lr=1.5e-3, batch=48, weight_decay=0.2, ema=0.998), share=0.10),
        FocusStage(Schedule(lr=2e-3, batch=128, weight_decay=0.01, ema=0.998), share=0.05),
        BranchStage(
            Schedule(lr=6e-4, batch=12, ema=0.998, validate_seconds=900),
            share=0.30,
            shapes={(256, 256): 0.7, (384, 384): 0.2, (512, 512): 0.1},
            scales=7,
        ),
    ]


def regression() -> list[Stage]:
    """What a regression makes of the same budget. NAFNet's rate, with cosine (section 5)."""
    return [RegressionStage(Schedule(lr=1e-3, batch=32, ema=0.998, validate_seconds=900))]


def _paper(window: int) -> list[Stage]:
    """Facts of the paper (section 4.1) and its code where they are known; the VQVAE's and the decoder's are VQGAN's."""
    shapes = {(window, window): 1.0}
    judged = ImageLoss(ssim=0.2, perceptual=1.0, perceptual_kind="lpips", adversarial=0.8, adversarial_start=5000)
    vqvae = replace(judged, ssim=0.0, mse=1.0)
    hourly: Any = {"checkpoint_seconds": 1800.0, "validate_seconds": 3600.0}
    return [
        AutoencoderStage(
            Schedule(lr=1e-4, batch=32, epochs=10, clip=2.0, **hourly), loss=replace(vqvae, adversarial=0.0), crop=256
        ),
        CodebookStage(Schedule(lr=1e-3, batch=64, epochs=1, **hourly), crop=window),
        TokenizerStage(Schedule(lr=5e-5, batch=32, epochs=10, clip=2.0, ema=0.999, **hourly), loss=vqvae, crop=256),
        TransformerStage(
            # Base rate 5.33e-4 for 256 samples; "lin0"; the published run had 2 x 24 samples.
            Schedule(lr=1e-4, batch=48, epochs=50, weight_decay=0.05, clip=2.0, decay="linear", floor=0.0, **hourly),
            shapes=shapes,
            reuse=1,
        ),
        RefinerStage(Schedule(lr=1e-4, batch=48, epochs=50, **hourly), shapes=shapes, reuse=1),
        DecoderStage(Schedule(lr=1e-4, batch=16, epochs=10, **hourly), shapes=shapes, loss=judged, reuse=1, rollouts=0),
        # Ours; only where the model is given the branch: --set model.fidelity.width=32.
        ToneStage(Schedule(lr=1e-3, batch=64, epochs=10, ema=0.999, **hourly), shapes=shapes),
        BranchStage(Schedule(lr=1e-3, batch=32, epochs=10, ema=0.999, **hourly), shapes=shapes),
        FidelityStage(Schedule(lr=2e-4, batch=16, epochs=10, ema=0.999, **hourly), shapes=shapes, crop=(256,)),
    ]


def paper_512() -> list[Stage]:
    return _paper(512)


def paper_256() -> list[Stage]:
    return _paper(256)


def ablation_model() -> RestoreVARConfig:
    """Every option of `compact` but the fidelity branch, on windows of 64 pixels; a million parameters.

    The VQVAE has one level of 8 x 8 patches: of all that were tried it is the only one that learns in two minutes.
    """
    return RestoreVARConfig(
        scales=presets.ScaleSchedule((1, 2, 3, 5, 8)),
        vqvae=presets.VQVAEConfig(
            widths=(64,), blocks=1, patch=8, latent_channels=32, codebook_size=512, attention=False, norm="channel"
        ),
        transformer=presets.TransformerConfig(
            depth=4, width=64, heads=2, classes=0, aligned_condition=True, drop_path=0.0
        ),
        refiner=presets.RefinerConfig(depth=2, width=64, heads=2, mlp_width=128, positions="rotary"),
        rollout="expected",
    )


def ablation() -> list[Stage]:
    """The smallest training whose differences mean anything: one window size, every loss of the paper's decoder.

    A minute a variant on two slow cores, and three for the VQVAE, which all share.
    """
    shapes = {(64, 64): 1.0}
    judged = ImageLoss(ssim=0.2, perceptual=0.1, perceptual_kind="encoder", adversarial=0.1, discriminator_width=16)
    return [
        AutoencoderStage(Schedule(lr=2e-3, batch=16, ema=0.99), share=4.0, crop=64),
        CodebookStage(Schedule(lr=3e-3, batch=64), share=0.4, crop=64),
        TransformerStage(
            Schedule(lr=2e-3, batch=16, weight_decay=0.05, clip=2.0, ema=0.98),
            share=1.2,
            shapes=shapes,
            scale_balance=0.5,
            self_rollout=0.75,
        ),
        RefinerStage(Schedule(lr=1e-3, batch=16, ema=0.98), share=0.25, shapes=shapes),
        DecoderStage(Schedule(lr=3e-4, batch=16, ema=0.98), share=0.3, shapes=shapes, loss=judged),
    ]


def debug() -> list[Stage]:
    """Two steps a stage, every loss on that needs no download: for tests."""
    schedule = Schedule(lr=1e-3, batch=2, steps=2, warmup_steps=1)
    shape = {(32, 32): 1.0}
    every = ImageLoss(
        mse=1.0, ssim=0.2, edges=0.5, perceptual=0.1, perceptual_kind="encoder", adversarial=0.1, discriminator_width=4
    )
    return [
        AutoencoderStage(schedule, crop=32),
        CodebookStage(schedule, crop=32),
        TokenizerStage(schedule, crop=32, loss=replace(every, perceptual=0.0)),
        TransformerStage(schedule, shapes=shape, self_rollout=0.5, label_smoothing=0.05),
        RefinerStage(schedule, shapes=shape),
        DecoderStage(schedule, shapes=shape, loss=every),
        ToneStage(schedule, shapes=shape),
        FocusStage(schedule, shapes=shape),
        BranchStage(schedule, shapes=shape, crop=(16,)),
        FidelityStage(schedule, shapes=shape, crop=(16,)),
    ]


RECIPES = {
    "paper_512": Recipe(presets.paper, paper_512, "the published 512 px model", "published"),
    "paper_256": Recipe(presets.paper_256, paper_256, "the same on VAR's 256 px scales", "published"),
    "compact": Recipe(presets.compact, compact, "the shipped default, from scratch on any machine"),
    "regression": Recipe(RegressionConfig, regression, "a regression network of compact's size, to compare with"),
    "ablation": Recipe(ablation_model, ablation, "small, to compare variants with (training/ablation.py)"),
    "debug": Recipe(presets.debug, debug, "tiny, for tests"),
}
