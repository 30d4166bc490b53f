"""Where and in which precision a model runs."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

import torch

from ..errors import UserError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str = "auto") -> torch.device:
    """ "auto", "cpu", "cuda" (or "cuda:1"), "mps" -> device. Raises UserError for one that is not there."""
    kind = name.split(":")[0]
    if kind == "auto":
        kind = name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if kind not in present:
        raise UserError(f"unknown device {name!r}: one of auto, cpu, cuda, mps")
    if not present[kind]:
        raise UserError(f"device {name!r} is not available here; try --device auto")
    try:
        return torch.device(name)
    except RuntimeError:
        raise UserError(f"unknown device {name!r}: one of auto, cpu, cuda, mps") from None


def pick_dtype(device: torch.device, name: str = "auto") -> torch.dtype:
    """ "auto" -> the fastest precision that keeps the quality on this device.

    bf16 wherever the hardware computes in it; float32 elsewhere, on MPS too (its bf16 convolutions are untried).
    """
    if name in DTYPES:
        return DTYPES[name]
    if name != "auto":
        raise UserError(f"unknown dtype {name!r}: one of auto, {', '.join(DTYPES)}")
    if computes_bf16(device):
        return torch.bfloat16
    return torch.float16 if device.type == "cuda" else torch.float32


def computes_bf16(device: torch.device) -> bool:
    """Whether it has units for bf16; elsewhere bf16 is emulated, on CPUs a hundred times slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and _cpu_computes_bf16()


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given; without this a clock sees only the launching."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def device_name(device: torch.device) -> str:
    """The model of the GPU or processor. Linux names a processor in /proc/cpuinfo only."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _cpu_computes_bf16() -> bool:
    """Whether the CPU has bf16 dot products."""
    probes: list[Callable[[], bool] | None] = [
        getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    ]
    return any(probe() for probe in probes if probe is not None)
