"""The device: its name, and what it reaches at its best. Measured, for data sheets tell of other machines."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import torch
from torch import nn

from .. import __version__
from ..acceleration import device_name
from .timing import measure

#: Sides of the square matrices tried: large enough to keep the device busy, small enough to take seconds.
SIDES, SIDES_CPU = (2048, 4096, 8192), (1024, 2048)
#: Batch, channels and side of the convolved images.
CONVOLVED, CONVOLVED_CPU = (32, 256, 128), (1, 256, 128)
#: Bytes of the copied buffer: far more than any cache holds.
COPIED, COPIED_CPU = 1 << 30, 1 << 28


@dataclass(frozen=True)
class Peak:
    """The most that the device was seen to do in one dtype: FLOP/s (2 per multiply-add), bytes/s to and from memory."""

    dtype: str
    matmul: float  #: FLOP/s of the fastest square matrix product
    side: int  #: of its matrices
    convolution: float  #: FLOP/s of a 3x3 convolution, channels last
    bytes_per_second: float

    @property
    def flops_per_second(self) -> float:
        """The higher of both: some CPUs convolve faster than they multiply matrices."""
        return max(self.matmul, self.convolution)


def measure_peak(device: torch.device, dtype: torch.dtype, repeat: int = 5) -> Peak:
    """The fastest of a few matrix products, a convolution, and a copy, which reads and writes every byte; medians."""
    cpu = device.type == "cpu"
    rates = {side: _matmul_rate(side, device, dtype, repeat) for side in (SIDES_CPU if cpu else SIDES)}
    best = max(rates, key=lambda side: rates[side])
    convolution = _convolution_rate(CONVOLVED_CPU if cpu else CONVOLVED, device, dtype, repeat)
    bandwidth = _copy_rate(COPIED_CPU if cpu else COPIED, device, repeat)
    return Peak(str(dtype).removeprefix("torch."), rates[best], best, convolution, bandwidth)


def _matmul_rate(side: int, device: torch.device, dtype: torch.dtype, repeat: int) -> float:
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return 2 * side**3 / measure(lambda: torch.mm(a, b, out=out), device, repeat).median


@torch.inference_mode()
def _convolution_rate(shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype, repeat: int) -> float:
    batch, channels, side = shape
    image = torch.randn(batch, channels, side, side, device=device).to(dtype, memory_format=torch.channels_last)
    layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(device, dtype)
    layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return 2 * 9 * image.numel() * channels / measure(lambda: layer(image), device, repeat).median


def _copy_rate(size: int, device: torch.device, repeat: int) -> float:
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / measure(lambda: target.copy_(source), device, repeat).median


def environment(device: torch.device) -> dict[str, Any]:
    """What a figure has to be told with; plain JSON types."""
    return {
        "device": device.type,
        "device_name": device_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "restorevar": __version__,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
