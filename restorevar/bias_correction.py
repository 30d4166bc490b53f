"""What a network changes on clean photos in the mean, taken back by the biases of its last layer.

Means of weights lighten every photo by about 1/255, nearly the same whatever it shows (docs/log.md), as rounded weights
shift what a layer gives; the cure is the one found for these (Nagel et al. 2019, "Data-Free Quantization Through Weight
Equalization and Bias Correction", section 4.2), measured on photos.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from .data.photos import load_rgb
from .errors import UserError
from .models import Model, RestoreVAR
from .pipeline import Restorer

#: Longer side in pixels to which photos are brought down: what is looked for is the same at any size.
SIDE = 512


@dataclass(frozen=True)
class Correction:
    """What was found on `photos` photos: the median of their mean changes, in 1/255, before and after."""

    photos: int
    before: float
    after: float


def correct_bias(
    model: Model, photos: Sequence[Path], device: str = "auto", progress: Callable[[int, int], None] | None = None
) -> Correction:
    """Change the biases of the picture's last layer, in place, so that clean photos keep their light and colour.

    Of each colour and place in a patch the median over the photos of the mean change is taken back: one that the model
    takes for a dark or a hazy one does not count. Each is restored twice, in float32, at W = 1; `progress` is told
    (done, of how many). Raises UserError for a model without a fidelity branch, for no photos and for files that are
    none.
    """
    layer = _last_layer(model)
    if not photos:
        raise UserError("no photographs to correct the bias on")
    patch, done = model.config.vqvae.patch, 0  # type: ignore[union-attr]
    pixels = [_small(path, patch) for path in photos]

    def change() -> np.ndarray:
        """[patch, patch, 3]: down, across, colour; in 1/255."""
        nonlocal done
        restorer = Restorer(copy.deepcopy(model), device=device, dtype="fp32", fidelity=1.0)
        found = []
        for rgb in pixels:
            difference = restorer(rgb).astype(np.float64) - rgb
            found.append(difference.reshape(rgb.shape[0] // patch, patch, -1, patch, 3).mean((0, 2)))
            done += 1
            if progress is not None:
                progress(done, 2 * len(pixels))
        return np.median(found, axis=0)

    before = change()
    by_channel = before.transpose(2, 0, 1).reshape(-1) * 2 / 255  # as pixel_shuffle has them; images are in [-1, 1]
    assert layer.bias is not None
    with torch.no_grad():
        layer.bias -= torch.from_numpy(by_channel).to(layer.bias)
    return Correction(len(photos), float(before.mean()), float(change().mean()))


def _last_layer(model: Model) -> nn.Conv2d:
    branch = model.fidelity if isinstance(model, RestoreVAR) else None
    if branch is None:
        raise UserError("only a model with a fidelity branch has a bias to correct")
    return branch.detail


def _small(path: Path, patch: int) -> np.ndarray:
    """[H, W, 3] uint8, whole patches, at most SIDE pixels a side."""
    photo = Image.fromarray(load_rgb(path).permute(1, 2, 0).numpy())
    photo.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    width, height = (side // patch * patch for side in photo.size)
    if not width or not height:
        raise UserError(f"{path}: smaller than a patch of {patch} pixels")
    return np.asarray(photo)[:height, :width]
