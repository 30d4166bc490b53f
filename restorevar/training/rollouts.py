"""Frozen rollouts and their validation: what the later stages learn from, and what every stage is judged by."""

from __future__ import annotations

import torch
from torch import Tensor

from ..data.mixes import CLEAN
from ..data.pairs import Pairs, PairSource, to_model
from ..models import RestoreVAR
from .losses import psnr, ssim
from .replay import Make, Sample, Shape
from .trainer import Preview


def rollout(model: RestoreVAR, degraded_B3HW: Tensor) -> tuple[Tensor, Tensor]:
    """Frozen rollout from degraded images: (f_hat, hidden), as `restore` makes it, without stochastic depth."""
    training = model.transformer.training
    model.transformer.eval()
    with torch.no_grad():
        f_hat, hidden = model.generate(model.condition(degraded_B3HW))
    model.transformer.train(training)
    return f_hat, hidden


def rollout_samples(model: RestoreVAR, device: torch.device, images: bool) -> Make:
    """Pairs -> f_hat, hidden, the clean image's latent ("target"); with `images`, also the pairs themselves."""

    def make(pairs: Pairs) -> Sample:
        f_hat, hidden = rollout(model, to_model(pairs.degraded).to(device))
        target = model.vqvae.encode(to_model(pairs.clean).to(device))
        sample = {"f_hat": f_hat.float(), "hidden": hidden.bfloat16(), "target": target.float()}
        return sample | ({"clean": pairs.clean, "degraded": pairs.degraded} if images else {})

    return make


def validation_images(model: RestoreVAR, source: PairSource, shape: Shape, task: str, n: int) -> tuple[Tensor, Tensor]:
    """Clean and degraded crops (n, 3, h, w) of one task, in [-1, 1], on the model's device."""
    device = next(model.parameters()).device
    pairs = source.validation(n, *shape, task)
    return to_model(pairs.clean).to(device), to_model(pairs.degraded).to(device)


def gains(model: RestoreVAR, source: PairSource, shape: Shape, fidelity: float | None, n: int = 12) -> dict[str, float]:
    """dB gained on the degraded crop per task; for clean crops, dB of what came out; SSIM and the mean gain.

    "mean_gain" counts the tasks alike, the clean crops not.
    """
    figures, structures = {}, []
    for task in source.validation_tasks():
        clean, degraded = validation_images(model, source, shape, task, n)
        restored = model.decode(model.refine(*rollout(model, degraded)), degraded, fidelity)
        figures[task] = float((psnr(restored, clean) - (0 if task == CLEAN else psnr(degraded, clean))).mean())
        structures.append(float(ssim(restored, clean)))
    gained = [value for task, value in figures.items() if task != CLEAN]
    return figures | {"ssim": sum(structures) / len(structures), "mean_gain": sum(gained) / max(1, len(gained))}


def preview(model: RestoreVAR, source: PairSource, shape: Shape, fidelities: tuple[float, ...]) -> Preview:
    """Degraded, restored at each fidelity, and clean: one crop a task."""
    tasks = source.validation_tasks()
    columns: list[list[Tensor]] = []
    for task in tasks:
        clean, degraded = validation_images(model, source, shape, task, 1)
        refined = model.refine(*rollout(model, degraded))
        restored = [model.decode(refined, degraded, w)[0] for w in fidelities]
        columns.append([degraded[0], *restored, clean[0]])
    return Preview(tasks, [list(row) for row in zip(*columns, strict=True)])
