"""What restoring changed in a photo, split by the part that changed it.

    round trip   encoding and decoding alone, nothing restored: what the VQVAE cannot keep
    prediction   the restored latent in place of the photo's own, decoder alone: next-scale prediction and refiner
    branch       the fidelity branch at its weight, where the model has one

The three add up to the whole change, pixel by pixel and with its sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from ...images import from_tensor
from ...pipeline import Restorer
from .drawing import Strip, Tile, heat, sheet
from .views import View, decode_plain, latent_model

#: A change of so many levels of 255 is as bright as it gets.
BRIGHTEST = 64
TITLES = {
    "round trip": "the VQVAE's round trip alone",
    "prediction": "prediction and refiner",
    "branch": "fidelity branch",
}


@dataclass(frozen=True)
class Change:
    """All images (3, H, W) in [-1, 1] on the CPU.

    stages   the photo after each part: "round trip", "prediction" and, where there is one, "branch"
    parts    signed difference that each of them made; their sum is `whole`
    """

    photo: Tensor
    stages: Mapping[str, Tensor]
    parts: Mapping[str, Tensor]

    @property
    def restored(self) -> Tensor:
        return list(self.stages.values())[-1]

    @property
    def whole(self) -> Tensor:
        return self.restored - self.photo

    def levels(self) -> dict[str, float]:
        """Root mean square of each part, and of the whole, in levels of 255."""
        return {name: float(change.double().square().mean().sqrt() * 127.5) for name, change in self._named().items()}

    def _named(self) -> dict[str, Tensor]:
        return {**self.parts, "whole": self.whole}


@torch.inference_mode()
def split_change(restorer: Restorer, degraded: View) -> Change:
    """Restore one view at the restorer's weight of the fidelity branch and tell who changed what."""
    model, image = latent_model(restorer), degraded.image_B3HW
    f_hat, hidden = model.generate(model.condition(image))
    refined = model.refine(f_hat, hidden)
    stages = {
        "round trip": degraded.crop(decode_plain(model, model.vqvae.encode(image))),
        "prediction": degraded.crop(decode_plain(model, refined)),
    }
    if restorer.fidelity:
        stages["branch"] = degraded.crop(model.decode(refined, image, restorer.fidelity))
    before, parts = degraded.photo_3HW, {}
    for name, after in stages.items():
        parts[name], before = after - before, after
    return Change(degraded.photo_3HW, stages, parts)


def change_map(change_3HW: Tensor) -> Tensor:
    """(H, W) how much each pixel changed, in levels of 255: the mean over the channels of its size."""
    return change_3HW.abs().mean(0) * 127.5


def picture(change: Change) -> Image.Image:
    """The photo after each part, and below it what the part changed."""
    levels = change.levels()
    photos = [Tile(from_tensor(change.photo), "photo")]
    photos += [Tile(from_tensor(image), f"after {TITLES[name]}") for name, image in change.stages.items()]
    maps = {"whole": change.whole, **change.parts}
    titles = {"whole": "the whole change", **TITLES}
    tiles = [
        Tile(heat(change_map(values), 0, BRIGHTEST), f"{titles[name]}: {levels[name]:.1f} levels")
        for name, values in maps.items()
    ]
    title = f"Change, its root mean square in levels of 255: dark 0, bright {BRIGHTEST} and more"
    return sheet([Strip("Photo, part after part", photos), Strip(title, tiles)], cell=320)
