"""Numbers of one photo that haze, rain, snow, darkness and blur change, to compare one set of photos with another.

Not those of `diagnosis/measures.py`, which a network reads block by block: fewer, of the whole photo, each with a
meaning that tells which parameter of a generator to turn. Needs the extra `eval`.

Suffixes: HW one plane, K rings of the power spectrum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ...diagnosis.measures import dark_channel
from ..metrics import find_metric
from ..metrics.metric import luma, need_eval

#: No side may be smaller: a block of contrast, and the widest ring of the spectrum, have to fit.
SMALLEST = 64
#: Luma above which, and below which, a pixel counts as white and as black.
_WHITE, _BLACK = 0.95, 0.05
#: Sides of the squares that a speck and a flake cannot hold, and by how much both are brighter than around.
_SPECK, _FLAKE, _STANDS_OUT = 5, 17, 0.08
#: Rings per octave, and octaves, of the spectrum: from the finest detail there is, half a cycle per pixel, down.
_PER_OCTAVE, _OCTAVES = 3, 5
#: Power of white noise far below what rounding to 8 bits leaves: keeps the logarithm of flat photos finite.
_FLOOR = 1e-9


@dataclass(frozen=True)
class Statistic:
    """A number of a photo: as a column is called, and how many digits after the point say something."""

    name: str
    meaning: str
    digits: int = 2


STATISTICS = (
    Statistic("luma", "mean luma, 0 to 1"),
    Statistic("luma spread", "standard deviation of luma"),
    Statistic("black", "pixels of luma below 0.05, %", 1),
    Statistic("white", "pixels of luma above 0.95, %", 1),
    Statistic("saturation", "mean saturation (HSV), 0 to 1"),
    Statistic("warmth", "mean red less mean blue, of 255", 1),
    Statistic("contrast", "standard deviation of luma within blocks of 64 pixels, mean", 3),
    Statistic("dark channel", "darkest channel within 7x7 pixels, mean: the veil of haze"),
    Statistic("dark spread", "its standard deviation over the photo"),
    Statistic("gradient", "mean slope of luma (metric sharpness), of 255", 1),
    Statistic("edges", "95th percentile of the slope of luma, of 255", 1),
    Statistic("slope", "exponent of the power spectrum against frequency; -2 is usual, less is softer"),
    Statistic("octave", "power in the finest octave, dB of all but the coarsest", 1),
    Statistic("anisotropy", "how much slopes share one direction, 0 to 1"),
    Statistic("upright", "whether lines stand (towards 1) or lie (towards -1)"),
    Statistic("blur", "metric blur, 0 to 1, more is softer"),
    Statistic("noise", "metric noise: sigma by wavelets, of 255"),
    Statistic("specks", "pixels of bright spots and lines up to 4 pixels wide, %"),
    Statistic("flakes", "the same, 5 to 16 pixels wide, %"),
)


@dataclass(frozen=True)
class Measured:
    """Statistics by name, and the power spectrum for a chart: log10 of the mean power of each ring of `FREQUENCIES`."""

    figures: dict[str, float]
    spectrum_K: np.ndarray


def measurer() -> Callable[[np.ndarray], Measured]:
    """Photo [H, W, 3] uint8, no side below SMALLEST -> Measured. Raises UserError where an extra is missing."""
    sharpness, blur, noise = (find_metric(name).start("cpu") for name in ("sharpness", "blur", "noise"))
    color, filters = need_eval("skimage.color"), need_eval("skimage.filters")

    def measure(photo: np.ndarray) -> Measured:
        image = photo.astype(np.float64) / 255
        luma_HW = luma(image)
        dark = dark_channel(torch.from_numpy(image).permute(2, 0, 1))
        across_HW, down_HW = filters.sobel_v(luma_HW), filters.sobel_h(luma_HW)
        anisotropy, upright = _directions(across_HW, down_HW)
        spectrum_K = _spectrum(luma_HW)
        figures = {
            "luma": luma_HW.mean(),
            "luma spread": luma_HW.std(),
            "black": 100 * np.mean(luma_HW < _BLACK),
            "white": 100 * np.mean(luma_HW > _WHITE),
            "saturation": color.rgb2hsv(image)[..., 1].mean(),
            "warmth": 255 * (image[..., 0].mean() - image[..., 2].mean()),
            "contrast": _contrast(luma_HW),
            "dark channel": dark.mean(),
            "dark spread": dark.std(),
            "gradient": sharpness(image, None),
            "edges": 255 * np.quantile(filters.sobel(luma_HW), 0.95),
            "slope": np.polyfit(np.log10(FREQUENCIES), spectrum_K, 1)[0],
            "octave": _finest_octave(spectrum_K),
            "anisotropy": anisotropy,
            "upright": upright,
            "blur": blur(image, None),
            "noise": noise(image, None),
            **_spots(luma_HW),
        }
        return Measured({name: float(value) for name, value in figures.items()}, spectrum_K)

    return measure


def _contrast(luma_HW: np.ndarray) -> float:
    """What is left over at the right and at the bottom is left out."""
    height, width = (side - side % SMALLEST for side in luma_HW.shape)
    blocks = need_eval("skimage.util").view_as_blocks(
        np.ascontiguousarray(luma_HW[:height, :width]), (SMALLEST, SMALLEST)
    )
    return float(blocks.std(axis=(2, 3)).mean())


def _directions(across_HW: np.ndarray, down_HW: np.ndarray) -> tuple[float, float]:
    """Anisotropy and uprightness of all slopes together: from the mean structure tensor."""
    total = np.sum(across_HW**2 + down_HW**2) + 1e-12
    turn, lean = np.sum(across_HW**2 - down_HW**2) / total, 2 * np.sum(across_HW * down_HW) / total
    return float(np.hypot(turn, lean)), float(turn)


def _spots(luma_HW: np.ndarray) -> dict[str, float]:
    """By white top-hats: what vanishes when every square of a side is filled with the darkest of it."""
    opening = need_eval("scipy.ndimage").grey_opening
    without_specks = opening(luma_HW, size=_SPECK)
    without_flakes = opening(without_specks, size=_FLAKE)
    return {
        "specks": 100 * np.mean(luma_HW - without_specks > _STANDS_OUT),
        "flakes": 100 * np.mean(without_specks - without_flakes > _STANDS_OUT),
    }


# --------------------------------------------------------------------------------------------------- the spectrum

_RINGS = 0.5 * 2.0 ** (-np.arange(_PER_OCTAVE * _OCTAVES + 1)[::-1] / _PER_OCTAVE)
#: Cycles per pixel in the middle of each ring, from coarse to fine; the same for photos of any size.
FREQUENCIES = np.sqrt(_RINGS[:-1] * _RINGS[1:])


def _spectrum(luma_HW: np.ndarray) -> np.ndarray:
    """log10 of the mean power of each ring; a Hann window keeps the border from looking like an edge."""
    height, width = luma_HW.shape
    window_HW = np.outer(np.hanning(height), np.hanning(width))
    power_HW = np.abs(np.fft.fft2((luma_HW - luma_HW.mean()) * window_HW)) ** 2 / np.sum(window_HW**2)
    frequency_HW = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    sums_K, _ = np.histogram(frequency_HW, _RINGS, weights=power_HW)
    counts_K, _ = np.histogram(frequency_HW, _RINGS)
    return np.log10(sums_K / np.maximum(counts_K, 1) + _FLOOR)


def _finest_octave(spectrum_K: np.ndarray) -> float:
    power_K = 10**spectrum_K * (_RINGS[1:] ** 2 - _RINGS[:-1] ** 2)  # times the area of the ring
    return float(10 * np.log10(power_K[-_PER_OCTAVE:].sum() / power_K.sum()))
