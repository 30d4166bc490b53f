"""Two full-reference measures of structure that no light library has: MS-SSIM and GMSD.

Z. Wang, E. P. Simoncelli, A. C. Bovik, "Multi-scale structural similarity for image quality assessment", 2003;
W. Xue, L. Zhang, X. Mou, A. C. Bovik, "Gradient magnitude similarity deviation", 2014.
"""

from __future__ import annotations

import numpy as np

from ...errors import UserError
from .metric import Metric, Scorer, luma, need_eval

#: Exponents of the five scales, finest first (table of the paper).
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
#: Reach of the 11x11 window.
_RADIUS = 5
#: No side may be smaller: the window has to fit into the coarsest scale.
SMALLEST = (2 * _RADIUS + 1) * 2 ** (len(_WEIGHTS) - 1)
#: GMSD's constant for values up to 255.
_T = 170 / 255**2


def _ms_ssim(device: str) -> Scorer:
    need_eval("scipy.ndimage")

    def score(image: np.ndarray, reference: np.ndarray | None) -> float:
        assert reference is not None
        if min(image.shape[:2]) < SMALLEST:
            raise UserError(f"MS-SSIM needs images of {SMALLEST} pixels at least")
        planes = (image[..., None], reference[..., None]) if image.ndim == 2 else (image, reference)
        pairs = zip(*(np.moveaxis(p.astype(np.float64), -1, 0) for p in planes), strict=True)
        return float(np.mean([ms_ssim(a, b) for a, b in pairs]))

    return score


def ms_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Of two planes [H, W] in [0, 1]: contrast and structure of every scale, luminance of the coarsest only."""
    product = 1.0
    for scale, weight in enumerate(_WEIGHTS):
        luminance, structure = _similarity(a, b)
        last = scale == len(_WEIGHTS) - 1
        term = np.mean(luminance * structure) if last else np.mean(structure)
        product *= max(float(term), 0.0) ** weight  # negative where structure is inverted: no power of it
        a, b = _halved(a), _halved(b)
    return product


def _similarity(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps of luminance, and of contrast and structure together, where the whole window lies inside."""
    mean_a, mean_b = _smooth(a), _smooth(b)
    var_a, var_b = _smooth(a * a) - mean_a**2, _smooth(b * b) - mean_b**2
    covariance = _smooth(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return luminance, (2 * covariance + c2) / (var_a + var_b + c2)


def _smooth(plane: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(plane, 1.5, radius=_RADIUS)[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS]


def _gmsd(device: str) -> Scorer:
    need_eval("scipy.ndimage")

    def score(image: np.ndarray, reference: np.ndarray | None) -> float:
        assert reference is not None
        return gmsd(luma(image), luma(reference))

    return score


def gmsd(a: np.ndarray, b: np.ndarray) -> float:
    """Of two planes [H, W] in [0, 1]: how unevenly the similarity of their gradients is spread. 0 is equal."""
    a, b = (_gradient(_halved(plane.astype(np.float64))) for plane in (a, b))
    similarity = (2 * a * b + _T) / (a * a + b * b + _T)
    return float(np.std(similarity))


def _gradient(plane: np.ndarray) -> np.ndarray:
    """Magnitude by Prewitt's operator; zeros beyond the border, as in the authors' code."""
    from scipy.ndimage import prewitt

    down, across = (prewitt(plane, axis, mode="constant") / 3 for axis in (0, 1))
    return np.hypot(down, across)


def _halved(plane: np.ndarray) -> np.ndarray:
    """Means of 2x2 cells; an odd last row or column is left out."""
    height, width = (side - side % 2 for side in plane.shape)
    return plane[:height, :width].reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))


METRICS = (
    Metric(
        "ms-ssim",
        "MS-SSIM",
        True,
        True,
        "restorevar",
        "five scales, 11x11 Gaussian window, mean over channels (Wang et al. 2003), by scipy",
        _ms_ssim,
    ),
    Metric("gmsd", "GMSD", False, True, "restorevar", "of luma (Xue et al. 2014), by scipy", _gmsd),
)
