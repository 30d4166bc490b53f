"""Metrics that scikit-image computes: PSNR, SSIM, colour difference; sharpness, blur and noise without a reference."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from ...errors import UserError
from .metric import Metric, Scorer, luma, need, need_eval

#: dB of two equal images, of which the PSNR would be infinite and spoil every mean.
IDENTICAL = 100.0


def _psnr(device: str) -> Scorer:
    psnr = need_eval("skimage.metrics").peak_signal_noise_ratio

    def score(image: np.ndarray, reference: np.ndarray | None) -> float:
        assert reference is not None
        return IDENTICAL if np.array_equal(image, reference) else float(psnr(reference, image, data_range=1))

    return score


def _ssim(**options: Any) -> Any:
    def start(device: str) -> Scorer:
        ssim = need_eval("skimage.metrics").structural_similarity

        def score(image: np.ndarray, reference: np.ndarray | None) -> float:
            channels = 2 if image.ndim == 3 else None
            try:
                return float(ssim(reference, image, data_range=1, channel_axis=channels, **options))
            except ValueError:  # the window is larger than the image
                raise UserError("the image is smaller than the window of SSIM") from None

        return score

    return start


def _ciede2000(device: str) -> Scorer:
    color = need_eval("skimage.color")

    def score(image: np.ndarray, reference: np.ndarray | None) -> float:
        return float(np.mean(color.deltaE_ciede2000(color.rgb2lab(reference), color.rgb2lab(image))))

    return score


def _sharpness(device: str) -> Scorer:
    sobel = need_eval("skimage.filters").sobel
    return lambda image, reference: float(255 * np.mean(sobel(luma(image))))


def _sharpness_error(device: str) -> Scorer:
    sharpness = _sharpness(device)

    def score(image: np.ndarray, reference: np.ndarray | None) -> float:
        assert reference is not None
        truth = sharpness(reference, None)
        if truth < 1e-6:  # all but rounding
            raise UserError("the truth is flat: nothing is as sharp as it")
        return abs(sharpness(image, None) / truth - 1)

    return score


def _blur(device: str) -> Scorer:
    blur_effect = need_eval("skimage.measure").blur_effect
    return lambda image, reference: float(blur_effect(luma(image)))


def _noise(device: str) -> Scorer:
    estimate = need_eval("skimage.restoration").estimate_sigma
    need("pywt", 'pip install "restorevar[eval]"')  # scikit-image asks for it late

    def score(image: np.ndarray, reference: np.ndarray | None) -> float:
        channels = 2 if image.ndim == 3 else None
        # Coefficients of exactly zero are passed over there, so flat areas must not be a rounding error away from it.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            sigma = float(estimate(image * 255.0, average_sigmas=True, channel_axis=channels))
        return 0.0 if math.isnan(sigma) else sigma  # not a number where nothing but flat is left

    return score


_LIBRARY = "scikit-image"

METRICS = (
    Metric("psnr", "PSNR", True, True, _LIBRARY, "data_range=1, dB; 100 for equal images", _psnr, digits=2),
    Metric("ssim", "SSIM", True, True, _LIBRARY, "7x7 uniform window, data_range=1, mean over channels", _ssim()),
    Metric(
        "ssim-gaussian",
        "SSIM (Gaussian)",
        True,
        True,
        _LIBRARY,
        "11x11 Gaussian window, sigma 1.5, population covariance, data_range=1 (as Wang et al. 2004)",
        _ssim(gaussian_weights=True, sigma=1.5, use_sample_covariance=False),
    ),
    Metric("ciede2000", "CIEDE2000", False, True, _LIBRARY, "mean over pixels, sRGB, D65", _ciede2000, True, digits=2),
    Metric("sharpness", "Sharpness", True, False, _LIBRARY, "mean Sobel gradient, of 255", _sharpness, digits=2),
    Metric(
        "sharpness-error",
        "Sharpness off the truth",
        False,
        True,
        _LIBRARY,
        "mean Sobel gradient: how far from the truth's, as a share of it",
        _sharpness_error,
    ),
    Metric("blur", "Blur", False, False, _LIBRARY, "blur_effect of luma (Crete et al. 2007), 0 to 1", _blur),
    Metric("noise", "Noise", False, False, _LIBRARY, "estimate_sigma (wavelets), of 255", _noise, digits=2),
)
