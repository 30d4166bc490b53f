"""The graphs held against torch: pixels, tokens, and the time of both in one run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from ..acceleration import prepare
from ..models import RestoreVAR, ScaleEvent
from .runtime import OnnxModel

#: Largest difference of a pixel in [-1, 1] that float32 in another order may make.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Agreement:
    """`pixels`: largest difference in [-1, 1]. `seconds_*`: medians, of the same image, turn by turn."""

    pixels: float
    tokens_equal: int
    tokens: int
    seconds_torch: float
    seconds_onnx: float
    threads: int

    @property
    def holds(self) -> bool:
        return self.pixels <= TOLERANCE and self.tokens_equal == self.tokens

    def __str__(self) -> str:
        return (
            f"{self.tokens_equal} of {self.tokens} tokens equal, pixels within {self.pixels:.1e}; "
            f"onnxruntime {self.seconds_onnx:.3f} s, torch {self.seconds_torch:.3f} s "
            f"(fp32, {self.threads} {'thread' if self.threads == 1 else 'threads'}, median)"
        )


def compare(model: RestoreVAR, folder: Path, image_13HW: np.ndarray, scales: int, repeat: int = 3) -> Agreement:
    """`model` is made ready for the CPU, in place: torch's time is that of `restorevar restore`, not of the plain code.

    `image_13HW` in [-1, 1], of the exported size.
    """
    threads = torch.get_num_threads()
    exported = OnnxModel(folder, threads=threads)
    prepare(model, torch.device("cpu"), torch.float32)
    image = torch.from_numpy(np.ascontiguousarray(image_13HW, np.float32))
    tokens: list[torch.Tensor] = []

    def listen(event: ScaleEvent) -> None:
        tokens.append(event.tokens_Bl)

    expected = model.restore(image, on_scale=listen, scales=scales).numpy()
    found = exported.restore(image_13HW)
    seconds: dict[str, list[float]] = {"torch": [], "onnx": []}
    for _ in range(repeat):
        seconds["torch"].append(_timed(lambda: model.restore(image, scales=scales)))
        seconds["onnx"].append(_timed(lambda: exported.restore(image_13HW)))
    wanted = torch.cat(tokens, dim=1).numpy()
    return Agreement(
        pixels=float(np.abs(found.image_13HW - expected).max()),
        tokens_equal=int((found.tokens_1L == wanted).sum()),
        tokens=wanted.size,
        seconds_torch=median(seconds["torch"]),
        seconds_onnx=median(seconds["onnx"]),
        threads=threads,
    )


def _timed(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin
