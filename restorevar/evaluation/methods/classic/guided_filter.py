"""The guided filter: smooths a plane, and keeps those of its edges that another image has too.

K. He, J. Sun, X. Tang, "Guided image filtering", ECCV 2010 and TPAMI 35(6), 2013; equations of the latter.
"""

from __future__ import annotations

import numpy as np

from ...metrics.metric import need_eval


def guided_filter(plane: np.ndarray, guide: np.ndarray, radius: int, eps: float) -> np.ndarray:
    """[H, W] of two planes [H, W]: in every window a line a * guide + b fitted to `plane`, the lines averaged.

    radius   of the windows, squares of 2 radius + 1 pixels; of those at the border the pixels inside count
    eps      variance of the guide below which its edges are smoothed away; above 0

    Raises UserError without scipy.
    """
    uniform_filter = need_eval("scipy.ndimage").uniform_filter

    def box(values: np.ndarray) -> np.ndarray:
        return uniform_filter(values, 2 * radius + 1, mode="constant")

    inside = box(np.ones_like(guide))
    mean_guide, mean_plane = box(guide) / inside, box(plane) / inside
    covariance = box(guide * plane) / inside - mean_guide * mean_plane
    variance = box(guide * guide) / inside - mean_guide**2
    a = covariance / (variance + eps)  # equation 5
    b = mean_plane - a * mean_guide  # equation 6
    return (box(a) * guide + box(b)) / inside  # equation 8
