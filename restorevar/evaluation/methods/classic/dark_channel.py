"""The dark channel prior: in clear air something close by is dark in some channel, so what is pale there is haze.

K. He, J. Sun, X. Tang, "Single image haze removal using dark channel prior", CVPR 2009. The transmission is refined by
the authors' later guided filter instead of soft matting, as they propose there, with the radius and eps of that paper's
example of haze; its guide is luma, not colour.
"""

from __future__ import annotations

import numpy as np

from ...metrics.metric import luma, need_eval
from .guided_filter import guided_filter
from .method import Classic

#: Of a channel of the air light, so that black pictures can be divided by it.
_DARKEST_AIR = 1e-3


def remove_haze(
    image: np.ndarray, omega: float, t0: float, patch: int, brightest: float, radius: int, eps: float
) -> np.ndarray:
    """[H, W, 3] of floats in [0, 1], which may come out beyond them.

    omega       share of the haze that is taken away: a little makes distance visible
    t0          least transmission: where nothing shines through there is nothing to bring back
    patch       side of the squares of the dark channel
    brightest   share of the dark channel among which the air light is looked for
    radius      and eps: of the guided filter
    """
    air_3 = air_light(image, dark_channel(image, patch), brightest)
    transmission = 1 - omega * dark_channel(image / air_3, patch)  # equation 12
    transmission = guided_filter(transmission, luma(image), radius, eps)
    return (image - air_3) / np.maximum(transmission, t0)[..., None] + air_3  # equation 16


def dark_channel(image: np.ndarray, patch: int) -> np.ndarray:
    """[H, W]: the least of all channels in the square around each pixel (equation 5)."""
    return need_eval("scipy.ndimage").minimum_filter(image.min(axis=2), patch)


def air_light(image: np.ndarray, dark: np.ndarray, brightest: float) -> np.ndarray:
    """[3]: the brightest pixel of the image where the dark channel is brightest (section 4.4)."""
    count = max(1, round(brightest * dark.size))
    hazy = np.argpartition(dark, -count, axis=None)[-count:]
    candidates = image.reshape(-1, 3)[hazy]
    return np.maximum(candidates[candidates.sum(axis=1).argmax()], _DARKEST_AIR)


DARK_CHANNEL = Classic(
    "dark-channel",
    ("haze",),
    "dark channel prior (He, Sun, Tang 2009), its transmission refined by the guided filter (2013)",
    remove_haze,
    {"omega": 0.95, "t0": 0.1, "patch": 15, "brightest": 0.001, "radius": 20, "eps": 1e-3},
)
