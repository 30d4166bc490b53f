"""Torch: whether it works, where it computes, in which precision, on how many threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from ..errors import UserError, first_line
from .finding import Finding
from .machine import usable_cores


def torch_works() -> tuple[bool, Finding | None]:
    """Imports torch and adds two numbers; a finding if it cannot."""
    try:
        import torch

        assert float(torch.ones(2).sum()) == 2
    except Exception as error:  # a broken installation fails in any way there is
        return False, Finding(
            "torch",
            "bad",
            f"does not work ({type(error).__name__}: {first_line(error)})",
            "install it again as https://pytorch.org says for this system",
        )
    return True, None


def look_at_devices(device: str) -> Iterator[Finding]:
    """What there is, and what `--device` picks."""
    import torch

    from ..acceleration import pick_device

    found = [f"cpu ({torch.backends.cpu.get_cpu_capability()}, {usable_cores()} cores)"]
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        about = torch.cuda.get_device_properties(i)
        found.append(f"cuda:{i} ({about.name}, {about.total_memory / 1e9:.0f} GB)")
    if torch.backends.mps.is_available():
        found.append("mps")
    try:
        picked = str(pick_device(device))
    except UserError as error:
        yield Finding("device", "bad", str(error), f"there is: {', '.join(found)}", {"found": found})
        return
    help = ""
    if picked == "cpu" and torch.version.cuda is None and os.path.exists("/proc/driver/nvidia"):
        help = "there is an NVIDIA driver, but this torch is built without CUDA"
    yield Finding(
        "device", "note" if help else "good", f"{picked}; there is: {', '.join(found)}", help, {"picked": picked}
    )


def look_at_precision(device: str, dtype: str) -> Iterator[Finding]:
    """What `--dtype` picks on that device, and why."""
    from ..acceleration import DTYPES, computes_bf16, pick_device, pick_dtype

    try:
        place = pick_device(device)
        picked = pick_dtype(place, dtype)
    except UserError as error:
        yield Finding("dtype", "bad", str(error))
        return
    name = next(key for key, kind in DTYPES.items() if kind == picked)
    units = computes_bf16(place)
    why = "as asked" if dtype != "auto" else _reason(place, units)
    slow = name == "bf16" and not units
    yield Finding(
        "dtype",
        "note" if slow else "good",
        f"{name}: {why}",
        f"bf16 is emulated on this {place.type}, and much slower than fp32" if slow else "",
        {"picked": name, "bf16_units": units, "amx": _has_amx()},
    )


def _reason(place: Any, units: bool) -> str:
    if place.type == "cpu":
        return (
            ("this CPU computes in bf16" + (", with AMX" if _has_amx() else ""))
            if units
            else ("this CPU has no units for bf16")
        )
    if place.type == "cuda":
        return "this GPU computes in bf16" if units else "this GPU has no units for bf16"
    return "bf16 is untried on this device"


def _has_amx() -> bool:
    import torch

    probe = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(probe is not None and probe())


def look_at_threads() -> Iterator[Finding]:
    import torch

    threads, cores = torch.get_num_threads(), usable_cores()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    notes = []
    if threads > cores:
        notes.append(f"more threads than cores wait for each other: OMP_NUM_THREADS={cores}")
    elif threads * 2 < cores:
        notes.append(f"only {threads} of {cores} cores are used: OMP_NUM_THREADS={cores}")
    if load > cores:
        notes.append(f"other programs keep this machine busy (load {load:.1f}): all will be slower")
    yield Finding(
        "threads",
        "note" if notes else "good",
        f"{threads} threads on {cores} cores, load {load:.1f}",
        "; ".join(notes),
        {"threads": threads, "cores": cores, "load": load},
    )
