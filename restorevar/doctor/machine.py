"""Python, memory and disk: what needs no torch to be known."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .finding import Finding, Grade

#: Packages whose versions a report of a fault should name.
PACKAGES = ("restorevar", "torch", "numpy", "pillow", "safetensors", "huggingface_hub", "typer")
#: The default model on a 512-pixel window stays below it (docs/benchmarks.md: 12 megapixels take 0.87 GB).
MEMORY_NEEDED = 1.5e9
#: Less free disk is worth telling: results of one folder may be more.
DISK_WANTED = 2e9


def look_at_versions() -> Iterator[Finding]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = ""
    text = ", ".join(f"{name} {number or 'missing'}" for name, number in versions.items())
    yield Finding("versions", "good", text, values={**versions, "system": platform.platform()})


def look_at_memory() -> Iterator[Finding]:
    free = free_memory()
    if free is None:
        yield Finding("memory", "note", "free memory is not known on this system")
        return
    short = free < MEMORY_NEEDED
    yield Finding(
        "memory",
        "note" if short else "good",
        f"{free / 1e9:.1f} GB free",
        "large photos may not fit; --tile 256 needs less" if short else "",
        {"free_bytes": free},
    )


def look_at_disk() -> Iterator[Finding]:
    """Here, where results go, and where models of the Hub are kept."""
    from huggingface_hub.constants import HF_HUB_CACHE

    for name, place in (("disk", Path.cwd()), ("disk of the Hub's cache", Path(HF_HUB_CACHE))):
        try:
            free = shutil.disk_usage(_existing(place)).free
        except OSError as error:
            yield Finding(name, "note", f"{place}: not known ({error.strerror or error})")
            continue
        grade: Grade = "note" if free < DISK_WANTED else "good"
        yield Finding(name, grade, f"{free / 1e9:.1f} GB free at {place}", values={"free_bytes": free})


def _existing(place: Path) -> Path:
    """The nearest folder above that is there."""
    return next(path for path in (place, *place.parents) if path.exists())


def free_memory() -> int | None:
    """Bytes that a program could still take, the limit of a container counted; None where nothing tells."""
    if not sys.platform.startswith("linux"):
        return _by_psutil()
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines() if ":" in line)
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return _by_psutil()
    limit, used = (_number(Path("/sys/fs/cgroup") / name) for name in ("memory.max", "memory.current"))
    return free if limit is None or used is None else min(free, max(0, limit - used))


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # not there; or "max"
        return None


def _by_psutil() -> int | None:
    try:
        import psutil
    except ImportError:
        return None
    return int(psutil.virtual_memory().available)


def usable_cores() -> int:
    """Those that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
