"""What every stage is judged by: fixed crops of held-out photos, task by task, as figures and as pictures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..data.mixes import CLEAN
from ..data.pairs import PairSource, to_model
from .losses import psnr, ssim
from .replay import Shape, Shapes
from .trainer import M, Preview, Stage

#: Degraded (B, 3, h, w) in [-1, 1] -> restored, likewise.
Restore = Callable[[Tensor], Tensor]


def validation_images(
    source: PairSource, shape: Shape, task: str, n: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Clean and degraded crops (n, 3, h, w) of one task, in [-1, 1]; the same at every call."""
    pairs = source.validation(n, *shape, task)
    return to_model(pairs.clean).to(device), to_model(pairs.degraded).to(device)


@torch.no_grad()
def gains(restore: Restore, source: PairSource, shape: Shape, device: torch.device, n: int = 12) -> dict[str, float]:
    """dB gained on the degraded crop per task; for clean crops, dB of what came out; SSIM and the mean gain.

    "mean_gain" counts the tasks alike, the clean crops not.
    """
    figures, structures = {}, []
    for task in source.validation_tasks():
        clean, degraded = validation_images(source, shape, task, n, device)
        restored = restore(degraded)
        figures[task] = float((psnr(restored, clean) - (0 if task == CLEAN else psnr(degraded, clean))).mean())
        structures.append(float(ssim(restored, clean)))
    gained = [value for task, value in figures.items() if task != CLEAN]
    return figures | {"ssim": sum(structures) / len(structures), "mean_gain": sum(gained) / max(1, len(gained))}


def preview(restores: Sequence[Restore], source: PairSource, shape: Shape, device: torch.device) -> Preview:
    """Degraded, restored in each way, and clean: one crop a task."""
    tasks = source.validation_tasks()
    columns: list[list[Tensor]] = []
    for task in tasks:
        clean, degraded = validation_images(source, shape, task, 1, device)
        columns.append([degraded[0], *(restore(degraded)[0] for restore in restores), clean[0]])
    return Preview(tasks, [list(row) for row in zip(*columns, strict=True)])


class JudgedByGain(Stage[M]):
    """A stage whose model restores images: judged by the dB that it gains on held-out crops of its first shape."""

    source: PairSource
    device: torch.device
    shapes: Shapes

    @abstractmethod
    def restore_by(self, model: M) -> Restore:
        """What the model makes of degraded images, as far as this stage trains it."""

    @property
    def judged_shape(self) -> Shape:
        return next(iter(self.shapes))

    def validate(self, model: M) -> dict[str, float]:
        return gains(self.restore_by(model), self.source, self.judged_shape, self.device)

    def score(self, figures: dict[str, float]) -> float:
        return figures["mean_gain"]

    def preview(self, model: M) -> Preview:
        return preview([self.restore_by(model)], self.source, self.judged_shape, self.device)
