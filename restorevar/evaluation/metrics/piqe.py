"""PIQE: distortion of the active blocks of an image, without reference and without trained weights.

N. Venkatanath et al., "Blind image quality evaluation using perception based features", NCC 2015. Where the paper
leaves something open, as MATLAB's function `piqe` does it, which is what others compare with.
"""

from __future__ import annotations

import numpy as np

from .metric import Metric, Scorer, luma, need_eval

BLOCK = 16
#: Length of a piece of a block's edge.
_PIECE = 6
#: A block is active above this variance; a piece of its edge is flat, and the block impaired, below this deviation.
_ACTIVE = _FLAT = 0.1


def _start(device: str) -> Scorer:
    need_eval("scipy.ndimage")
    return lambda image, reference: piqe(luma(image))


def piqe(gray: np.ndarray) -> float:
    """0 (clean) to 100 (distorted, or nothing but flat) of a plane [H, W] in [0, 1]."""
    height, width = gray.shape
    padded = np.pad(np.round(255 * gray.astype(np.float64)), ((0, -height % BLOCK), (0, -width % BLOCK)), "symmetric")
    blocks = _blocks(_normalised(padded))
    variance = blocks.var(axis=(1, 2), ddof=1)
    active = variance > _ACTIVE
    blocks, variance = blocks[active], variance[active]
    impaired, noisy = _impaired(blocks), _noisy(blocks, np.sqrt(variance))
    distortion = np.sum(impaired * (1 - variance)) + np.sum(noisy * variance)
    return float(100 * (distortion + 1) / (len(blocks) + 1))


def _normalised(gray: np.ndarray) -> np.ndarray:
    """Contrast-normalised: less the local mean, by the local deviation, of values up to 255."""
    from scipy.ndimage import gaussian_filter

    mean, square = (gaussian_filter(plane, 7 / 6, radius=3, mode="nearest") for plane in (gray, gray * gray))
    return (gray - mean) / (np.sqrt(np.abs(square - mean * mean)) + 1)


def _blocks(plane: np.ndarray) -> np.ndarray:
    """[n, 16, 16] of a plane whose sides are multiples of 16."""
    rows, columns = plane.shape[0] // BLOCK, plane.shape[1] // BLOCK
    return plane.reshape(rows, BLOCK, columns, BLOCK).swapaxes(1, 2).reshape(-1, BLOCK, BLOCK)


def _impaired(blocks: np.ndarray) -> np.ndarray:
    """[n] whether a piece of one of the block's four edges is flat: blocking, or a sudden artefact."""
    edges = np.stack([blocks[:, 0], blocks[:, -1], blocks[:, :, 0], blocks[:, :, -1]], axis=1)
    pieces = np.lib.stride_tricks.sliding_window_view(edges, _PIECE, axis=2)
    return np.any(pieces.std(axis=-1, ddof=1) < _FLAT, axis=(1, 2))


def _noisy(blocks: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """[n] whether the two middle columns vary as the rest does, as noise would."""
    n = len(blocks)
    middle = blocks[:, :, 7:9].reshape(n, 2 * BLOCK)
    # The second column to go is counted after the first has gone, in MATLAB's code: 7 and 9, not 7 and 8.
    rest = np.delete(blocks, [7, 9], axis=2).reshape(n, (BLOCK - 2) * BLOCK)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.nan_to_num(middle.std(axis=1, ddof=1) / rest.std(axis=1, ddof=1), nan=0.0, posinf=np.inf)
        beta = np.abs(deviation - ratio) / np.maximum(deviation, ratio)
        return deviation > 2 * beta  # false where beta is not a number


METRICS = (
    Metric("piqe", "PIQE", False, False, "restorevar", "of luma (Venkatanath et al. 2015), by scipy", _start, digits=2),
)
