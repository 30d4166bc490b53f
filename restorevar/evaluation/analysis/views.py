"""A photo as the model sees it: whole, in one window, small enough for that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ... import tiling
from ...errors import UserError
from ...images import read_photo, to_tensor
from ...images.pixels import eight_bit
from ...models import RestoreVAR
from ...pipeline import MIN_SIDE, TILE, Restorer


@dataclass(frozen=True)
class View:
    """One image (1, 3, h, w) in [-1, 1] on the model's device, of which the first `height` and `width` are photo."""

    image_B3HW: Tensor
    height: int
    width: int

    def crop(self, image_B3HW: Tensor) -> Tensor:
        """(3, height, width) float32 on the CPU: an image of the padded size without its padding."""
        return image_B3HW[0, :, : self.height, : self.width].float().cpu()

    @property
    def photo_3HW(self) -> Tensor:
        return self.crop(self.image_B3HW)


def view(restorer: Restorer, rgb: np.ndarray, size: int = TILE) -> View:
    """Pixels [H, W, 3] (uint8, uint16), shrunken until no side exceeds `size`, reflected up to what the model takes.

    A model with a fixed window shrinks to that window, whatever `size` says.
    """
    config = restorer.model.config
    limit = size if config.any_window else config.window
    image = tiling.shrink(rgb, limit)[0] if max(rgb.shape[:2]) > limit else to_tensor(rgb)
    height, width = image.shape[1:]
    sides = [-(-max(side, MIN_SIDE) // config.downsample) * config.downsample for side in (height, width)]
    if not config.any_window:
        sides = [config.window, config.window]
    return View(tiling.pad_to(image[None], *sides).to(restorer.device), height, width)


def view_of(restorer: Restorer, path: Path, size: int = TILE) -> View:
    """As `view`, of a file. Raises UserError for what is no readable photo."""
    return view(restorer, eight_bit(read_photo(path).rgb), size)


def views_of_pair(restorer: Restorer, clean: Path, degraded: Path, size: int = TILE) -> tuple[View, View]:
    """(clean, degraded). Raises UserError where the two differ in size."""
    photos = [eight_bit(read_photo(path).rgb) for path in (clean, degraded)]
    if photos[0].shape != photos[1].shape:
        sizes = [f"{photo.shape[1]}x{photo.shape[0]}" for photo in photos]
        raise UserError(f"{degraded}: {sizes[1]} pixels, but {clean} has {sizes[0]}")
    return view(restorer, photos[0], size), view(restorer, photos[1], size)


def latent_model(restorer: Restorer) -> RestoreVAR:
    """The restorer's model. Raises UserError for one that has no token maps."""
    if not isinstance(restorer.model, RestoreVAR):
        raise UserError(f"{restorer.name}: a regression network has no token maps to look at")
    return restorer.model


def decode_plain(model: RestoreVAR, latent_BCHW: Tensor) -> Tensor:
    """Latent -> image by the decoder alone, as in the paper: no fidelity branch."""
    with torch.inference_mode():
        return model.vqvae.decode(latent_BCHW)


def psnr(image: Tensor, truth: Tensor) -> float:
    """dB between images of one shape in [-1, 1], before any rounding; 100 for equal ones."""
    error = (image.double() - truth.double()).square().mean()
    return float(10 * torch.log10(4 / error.clamp_min(4e-10)))
