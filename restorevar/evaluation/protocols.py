"""Protocols: what exactly a score was computed on. A score without its protocol is noise.

An image goes through three functions: `prepare` gives what the method restores, `finish` what becomes of its result,
`view` the numbers that metrics read of that and of the truth.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
from PIL import Image

from ..errors import UserError
from .pairs import Pair, first_of_each

#: What becomes of a result before it is judged: nothing, the nearest of 256 values, or the next lower one.
Rounding = Literal["none", "nearest", "down"]


@dataclass(frozen=True)
class Protocol:
    """A named way from a degraded image and a method to the two arrays that metrics compare.

    The five after its name are its text, the others do what that says.

    geometry         sizes and crops
    colour           channels and colour space
    range            of the values
    rounding         what happens to them between the method and the metrics
    implementation   of the metrics
    metrics          asked for where the user names none
    side             images are squashed to squares of this side, before restoring
    bits             see Rounding
    floats           what is computed in
    luma             only Y is judged
    jpeg             data sets (in lower case, parts of their names) whose results are saved as JPEG
    limit            images of a data set, the first ones of it
    """

    name: str
    geometry: str
    colour: str
    range: str
    rounding: str
    implementation: str
    metrics: tuple[str, ...] = ("psnr", "ssim")
    side: int | None = None
    bits: Rounding = "none"
    floats: type[np.floating] = np.float64
    luma: bool = False
    jpeg: tuple[str, ...] = ()
    limit: int | None = None

    @property
    def text(self) -> str:
        """All of it in one line, for captions."""
        parts = (self.geometry, self.colour, self.range, self.rounding, self.implementation)
        return f"{self.name}: {'; '.join(parts)}"

    def select(self, pairs: Iterable[Pair]) -> list[Pair]:
        """Those that the protocol looks at."""
        return first_of_each(pairs, self.limit)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """The degraded image, or the truth, as it is restored or compared: [H, W, 3] uint8 to the same."""
        return image if self.side is None else resized(image, (self.side, self.side))

    def finish(
        self, restored: np.ndarray, degraded: np.ndarray, target: np.ndarray | None = None, dataset: str = ""
    ) -> np.ndarray:
        """The result as it is judged: [H, W, 3], uint8 where the protocol rounds, else float in [0, 1].

        restored   float in [0, 1], or uint8
        degraded   what `prepare` gave, and `target` likewise; they lie beside the result in the published JPEGs
        """
        if self.bits == "none":
            return restored if restored.dtype == np.uint8 else restored.astype(self.floats)
        pixels = restored if restored.dtype == np.uint8 else _to_bytes(restored, self.bits)
        if not any(name in dataset.lower() for name in self.jpeg):
            return pixels
        return _as_jpeg(_in_a_strip(pixels, degraded, degraded if target is None else target))

    def view(self, image: np.ndarray) -> np.ndarray:
        """What metrics see of a finished result or of the truth: floats in [0, 1], [H, W, 3], or [H, W] of luma."""
        floats = image.astype(self.floats) / 255 if image.dtype == np.uint8 else image
        return studio_luma(floats) if self.luma else floats


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[H, W, 3] uint8 at (width, height), by Pillow's Lanczos as the published code has it; unchanged if it fits."""
    if (image.shape[1], image.shape[0]) == tuple(size):
        return image
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize(size, Image.Resampling.LANCZOS))


def studio_luma(rgb: np.ndarray) -> np.ndarray:
    """Y of BT.601 as MATLAB's rgb2ycbcr has it, in units of 255: from 16/255 (black) to 235/255 (white)."""
    return (rgb @ np.array([65.481, 128.553, 24.966], rgb.dtype) + 16) / 255


def _to_bytes(image: np.ndarray, bits: Rounding) -> np.ndarray:
    scaled = image * 255
    return (np.round(scaled) if bits == "nearest" else scaled).astype(np.uint8)


def _in_a_strip(pixels: np.ndarray, degraded: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The published code saves input, result and truth side by side, and cuts them apart again.

    Where they touch, the decoder mixes their colours.
    """
    strip = _as_jpeg(np.concatenate([degraded, pixels, target], axis=1))
    return strip[:, pixels.shape[1] : 2 * pixels.shape[1]]


def _as_jpeg(pixels: np.ndarray) -> np.ndarray:
    """The pixels after a JPEG of quality 95, colour at half the resolution (the default of Pillow and of OpenCV)."""
    stream = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "JPEG", quality=95)
    return np.asarray(Image.open(stream))


_SCIKIT = "PSNR and SSIM (7x7 uniform window, mean over channels) by scikit-image with data_range=1, mean over images"
_SQUARE = "resized to 512x512 by Pillow's Lanczos (aspect ratio lost, no crop) before restoring, and judged so"

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "restorevar-512",
            f"degraded image and truth {_SQUARE}; at most 5,001 images of a data set",
            "RGB",
            "[0, 1]",
            "none: float32, before 8 bits",
            f"{_SCIKIT}; LPIPS with AlexNet on [-1, 1]",
            side=512,
            floats=np.float32,
            limit=5001,
        ),
        Protocol(
            "restorevar-512-noref",
            f"degraded image {_SQUARE}; at most 5,001 images of a data set",
            "RGB",
            "[0, 1]",
            "truncated (not rounded) to 8 bits, then PNG; CDD and LOLBlur instead twice JPEG of quality 95, the first "
            "time between input and truth",
            "no-reference metrics of the saved file (MUSIQ and CLIPIQA by pyiqa), mean over images",
            metrics=("musiq", "clipiqa", "piqe", "blur"),
            side=512,
            bits="down",
            floats=np.float32,
            jpeg=("cdd", "lolblur"),
            limit=5001,
        ),
        Protocol("native-rgb", "native size, no crop", "RGB", "[0, 1]", "none: float, before 8 bits", _SCIKIT),
        Protocol(
            "native-y",
            "native size, no crop",
            "Y of YCbCr, BT.601 with studio swing as MATLAB's rgb2ycbcr (16 to 235 of 255)",
            "[0, 1], 1 being 255",
            "RGB rounded to 8 bits, Y not rounded",
            f"{_SCIKIT}; ssim-gaussian has the 11x11 Gaussian window that MATLAB's SSIM in this field has",
            metrics=("psnr", "ssim", "ssim-gaussian"),
            bits="nearest",
            luma=True,
        ),
        Protocol("saved-8bit", "native size, no crop", "RGB", "[0, 1]", "rounded to 8 bits", _SCIKIT, bits="nearest"),
    )
}


def find_protocol(name: str) -> Protocol:
    """By name; raises UserError with the known ones."""
    try:
        return PROTOCOLS[name]
    except KeyError:
        raise UserError(f"no protocol {name}; there are {', '.join(PROTOCOLS)}") from None
