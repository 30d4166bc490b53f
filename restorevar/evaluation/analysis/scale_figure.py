"""The picture of one pair's scale study, as the paper's figures 2, 9 and 13."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ...images import from_tensor
from ...models import RestoreVAR
from .drawing import Strip, Tile, code_colours, sheet
from .pyramid import Pyramid
from .swaps import Base, Curve, End, Swaps
from .views import View

_TITLES: dict[Base, dict[End, str]] = {
    "truth": {
        "coarse": "Clean photo's token maps, the coarsest N taken from the degraded photo",
        "fine": "Clean photo's token maps, the finest N taken from the degraded photo",
    },
    "outputs": {
        "coarse": "Model's output, the coarsest N scales taken from the degraded photo",
        "fine": "Model's output, the finest N scales taken from the degraded photo",
    },
}


def picture(model: RestoreVAR, clean: View, degraded: View, swaps: Swaps) -> Image.Image:
    """Photos, token maps of both, and a row of decoded mixtures for each curve. `swaps` with kept images."""
    photos = [
        Tile(from_tensor(clean.photo_3HW), "clean"),
        Tile(from_tensor(degraded.photo_3HW), "degraded"),
        Tile(from_tensor(swaps.curves["truth"]["coarse"].images[0]), "clean, tokens decoded"),
        Tile(from_tensor(swaps.curves["truth"]["coarse"].images[-1]), "degraded, tokens decoded"),
    ]
    if "outputs" in swaps.curves:
        photos.append(Tile(from_tensor(swaps.curves["outputs"]["coarse"].images[0]), "model's output, no refiner"))
    colours = code_colours(model.vqvae.quantizer.codebook.weight)
    strips = [
        Strip("Photos", photos),
        Strip("Token maps of the clean photo: a colour a code, alike codes alike", token_tiles(swaps.clean, colours)),
        Strip("Token maps of the degraded photo", token_tiles(swaps.degraded, colours)),
    ]
    for base, ends in swaps.curves.items():
        strips += [Strip(_TITLES[base][end], _mixtures(curve)) for end, curve in ends.items()]
    return sheet(strips)


def token_tiles(pyramid: Pyramid, colours_V3: np.ndarray, notes: Sequence[str] = ()) -> list[Tile]:
    """One tile a scale."""
    tiles = []
    for k, tokens in enumerate(pyramid.tokens):
        height, width = tokens.shape[-2:]
        caption = notes[k] if notes else f"{k + 1}: {height}x{width}"
        tiles.append(Tile(colours_V3[tokens[0].cpu().numpy()], caption, blocks=True))
    return tiles


def _mixtures(curve: Curve) -> list[Tile]:
    return [
        Tile(from_tensor(image), f"N = {p.swapped}: {p.psnr:.1f} dB, {100 * p.returned:.0f} % back")
        for p, image in zip(curve.points, curve.images, strict=True)
    ]
