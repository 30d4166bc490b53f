"""LIME, nearly: a photo is reflectance times illumination, and that is estimated and divided by.

X. Guo, Y. Li, H. Ling, "LIME: Low-light image enhancement via illumination map estimation", TIP 26(2), 2017. Two things
are not the paper's: the illumination is smoothed by a guided filter that it guides itself, in place of the weighted
total variation, and the result is not denoised (the paper has BM3D after it).
"""

from __future__ import annotations

import numpy as np

from .guided_filter import guided_filter
from .method import Classic


def brighten(image: np.ndarray, gamma: float, radius: int, eps: float, darkest: float) -> np.ndarray:
    """[H, W, 3] of floats in [0, 1], which may come out beyond 1: R = L / T^gamma (the paper's L = R T and section II).

    gamma     of the illumination: below 1 the night is left a little darker than day
    radius    and eps: of the guided filter
    darkest   least illumination, so that black stays black
    """
    brightest_channel = image.max(axis=2)  # the paper's first estimate of T
    illumination = guided_filter(brightest_channel, brightest_channel, radius, eps)
    return image / np.clip(illumination, darkest, 1)[..., None] ** gamma


LIME = Classic(
    "lime",
    ("lowlight",),
    "after LIME (Guo, Li, Ling 2017): divided by its illumination, smoothed here by a guided filter, not denoised",
    brighten,
    {"gamma": 0.8, "radius": 15, "eps": 1e-3, "darkest": 0.01},
)
