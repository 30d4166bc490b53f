"""Where and in which precision a model runs."""

from __future__ import annotations

from collections.abc import Callable

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
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu" and _cpu_computes_bf16():
        return torch.bfloat16
    return torch.float32


def _cpu_computes_bf16() -> bool:
    """Whether the CPU has bf16 dot products; without them bf16 is emulated and slower than float32."""
    probes: list[Callable[[], bool] | None] = [
        getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    ]
    return any(probe() for probe in probes if probe is not None)
