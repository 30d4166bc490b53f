"""Makes tests/fixtures/calibration.json: what other libraries say of procedural pictures, to check our metrics by.

    pip install scikit-image PyWavelets piq pytorch-msssim colour-science pypiqe
    python tests/calibration.py

Nothing of restorevar is used. Two libraries are asked where two were to be had. piq imports torchvision for measures
that are not used here: where torchvision is not installed, a stand-in is imported in its place.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np

FILE = Path(__file__).parent / "fixtures" / "calibration.json"


def picture(height: int = 256, width: int = 320) -> np.ndarray:
    """uint8 [H, W, 3]: ramps, bars that become finer, discs, and a texture. Integers only: the same everywhere."""
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    ramp = (x * 160 // width + y * 90 // height) % 256
    bars = 120 * ((x * x // 700 + y // 9) % 2)
    discs = 90 * ((((x % 64) - 32) ** 2 + ((y % 48) - 24) ** 2) < 300)
    texture = (x * 7919 + y * 104729 + (x * y) % 1013) % 41
    red = np.where(y < height // 2, ramp + texture, bars + texture)
    green = ramp // 2 + discs + texture // 2
    blue = 255 - ramp + (texture - 20) // 2
    image = np.clip(np.stack([red, green, blue], -1), 0, 255).astype(np.uint8)
    image[:48, -64:] = 200  # nothing at all happens here
    image[-1, -1] = 255
    return image


def cases() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(image, reference) by name, both uint8."""
    truth = picture()
    wide = truth.astype(np.int64)
    noise = np.random.default_rng(0).integers(-24, 25, truth.shape)
    padded = np.pad(wide, ((2, 2), (2, 2), (0, 0)), "edge")
    blurred = sum(padded[i : i + 256, j : j + 320] for i in range(5) for j in range(5)) // 25
    whitened = np.roll(wide, 3, axis=1) * 6 // 10 + 95
    degraded = {"noise": wide + noise, "blur": blurred, "haze": whitened, "dark": wide * wide // 900 + noise // 8}
    images = {name: np.clip(image, 0, 255).astype(np.uint8) for name, image in degraded.items()}
    for image in images.values():
        image[-1, -1] = 255  # pypiqe stretches what has no white, MATLAB and we do not
    return {name: (image, truth) for name, image in images.items()}


def in_floats(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float64) / 255


# ------------------------------------------------------------------------------------ what the libraries say


def judges() -> dict[str, dict[str, Callable[[np.ndarray, np.ndarray], float]]]:
    """By metric and library, functions of (image, reference), both uint8 [H, W, 3]."""
    if find_spec("torchvision") is None:
        sys.modules["torchvision"] = sys.modules["torchvision.models"] = MagicMock()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # colour and pypiqe, of what they would like to have too
        import colour
        import piq
        import pytorch_msssim
        import torch
        from pypiqe.piqe import piqe
        from skimage import measure, metrics, restoration

    def tensor(image: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(in_floats(image)).permute(2, 0, 1)[None]

    def gray(image: np.ndarray) -> np.ndarray:
        return in_floats(image) @ [0.299, 0.587, 0.114]

    def lab(image: np.ndarray) -> np.ndarray:
        return colour.XYZ_to_Lab(colour.sRGB_to_XYZ(in_floats(image)), [0.3127, 0.3290])

    def by_hand(image: np.ndarray) -> float:
        """Mean of the Sobel gradient as scikit-image scales it: kernels of sum 1, root of the mean of squares."""
        p = np.pad(gray(image), 1, "symmetric")
        h, w = image.shape[:2]
        at = [[p[i : i + h, j : j + w] for j in range(3)] for i in range(3)]
        across = sum(k * (at[i][2] - at[i][0]) for i, k in enumerate((1, 2, 1))) / 4
        down = sum(k * (at[2][j] - at[0][j]) for j, k in enumerate((1, 2, 1))) / 4
        return 255 * float(np.mean(np.sqrt((across**2 + down**2) / 2)))

    return {
        "psnr": {
            "scikit-image": lambda a, b: metrics.peak_signal_noise_ratio(b, a),
            "piq": lambda a, b: float(piq.psnr(tensor(a), tensor(b))),
        },
        "ssim": {
            "scikit-image": lambda a, b: metrics.structural_similarity(b, a, data_range=255, channel_axis=2, win_size=7)
        },
        "ssim-gaussian": {
            "piq": lambda a, b: float(piq.ssim(tensor(a), tensor(b), downsample=False)),
            "pytorch-msssim": lambda a, b: float(pytorch_msssim.ssim(tensor(a), tensor(b), data_range=1)),
        },
        "ms-ssim": {
            "piq": lambda a, b: float(piq.multi_scale_ssim(tensor(a), tensor(b))),
            "pytorch-msssim": lambda a, b: float(pytorch_msssim.ms_ssim(tensor(a), tensor(b), data_range=1)),
        },
        "gmsd": {"piq": lambda a, b: float(piq.gmsd(tensor(a), tensor(b)))},
        "ciede2000": {
            "colour-science": lambda a, b: float(np.mean(colour.difference.delta_E_CIE2000(lab(b), lab(a)))),
        },
        "piqe": {"pypiqe": lambda a, b: float(piqe(np.round(255 * gray(a)).astype(np.uint8))[0])},
        "sharpness": {"numpy": lambda a, b: by_hand(a)},
        "sharpness-error": {"numpy": lambda a, b: abs(by_hand(a) - by_hand(b)) / by_hand(b)},
        "blur": {"scikit-image": lambda a, b: float(measure.blur_effect(gray(a)))},
        "noise": {
            "scikit-image": lambda a, b: float(
                np.mean([restoration.estimate_sigma(a[..., i].astype(np.float64)) for i in range(3)])
            )
        },
    }


def main() -> None:
    by = judges()
    values = {
        metric: {
            library: {case: round(float(judge(*pair)), 8) for case, pair in cases().items()}
            for library, judge in libraries.items()
        }
        for metric, libraries in by.items()
    }
    names = sorted({library for libraries in by.values() for library in libraries})
    table = {
        "made by": "tests/calibration.py",
        "libraries": {name: metadata.version(name) for name in names},
        "pictures": {name: [int(p.astype(np.int64).sum()) for p in pair] for name, pair in cases().items()},
        "values": values,
    }
    FILE.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
