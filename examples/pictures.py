"""What the scripts here share: the photos that may be shown, and panels beside each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from skimage import data
from torch import Tensor

#: Name in skimage.data -> (credit, terms), as its docstrings state them: all photographs of a scene that are free and
#: come with scikit-image itself. Without stated terms: motorcycle. No scene: textures, coins, scans, microscope, space.
CREDITS = {
    "astronaut": ("NASA, portrait of Eileen Collins", "public domain"),
    "camera": ("Lav Varshney", "CC0"),
    "chelsea": ("Stefan van der Walt", "CC0"),
    "coffee": ("Rachel Michetti", "CC0"),
    "rocket": ("SpaceX, launch of DSCOVR", "public domain"),
}


def photo(name: str) -> Tensor:
    """(3, H, W) uint8; of a gray photo (camera) all three are equal."""
    pixels = torch.from_numpy(getattr(data, name)())
    return pixels.permute(2, 0, 1) if pixels.ndim == 3 else pixels.expand(3, -1, -1)


def picture(pixels_3HW: Tensor) -> Image.Image:
    """(3, H, W) uint8 as a Pillow image."""
    return Image.fromarray(pixels_3HW.permute(1, 2, 0).contiguous().numpy())


def side_by_side(panels: Sequence[Image.Image]) -> Image.Image:
    """Panels of one size, two pixels of white around each."""
    width, height = (side + 4 for side in panels[0].size)
    strip = Image.new("RGB", (width * len(panels), height), "white")
    for x, panel in enumerate(panels):
        strip.paste(panel, (x * width + 2, 2))
    return strip
