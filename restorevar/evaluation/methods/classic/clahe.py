"""CLAHE: the histogram of every part of a photo is spread out, its contrast limited lest noise be all that is seen.

K. Zuiderveld, "Contrast limited adaptive histogram equalization", Graphics Gems IV, 1994; by scikit-image.
"""

from __future__ import annotations

import warnings

import numpy as np

from ...metrics.metric import need_eval
from .method import Classic


def equalise(image: np.ndarray, clip_limit: float, tiles: int, bins: int) -> np.ndarray:
    """[H, W, 3] of floats in [0, 1]: lightness (L of CIELAB, D65) equalised, a and b as they are.

    clip_limit   share of a tile's pixels that a bin may hold; the higher, the more contrast
    tiles        along each side
    bins         of the histograms
    """
    color, exposure = need_eval("skimage.color"), need_eval("skimage.exposure")
    lab = color.rgb2lab(image)
    lightness = np.clip(lab[..., 0] / 100, 0, 1)
    if np.ptp(lightness) == 0:  # scikit-image first stretches it over the whole range, and there is none
        return image
    kernel = [max(1, side // tiles) for side in lightness.shape]
    lab[..., 0] = 100 * exposure.equalize_adapthist(lightness, kernel, clip_limit, bins)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of colours beyond sRGB, which are cut off
        return color.lab2rgb(lab)


CLAHE = Classic(
    "clahe",
    ("lowlight",),
    "contrast limited adaptive histogram equalisation (Zuiderveld 1994) of lightness, by scikit-image",
    equalise,
    {"clip_limit": 0.01, "tiles": 8, "bins": 256},
)
