"""How long something takes and how much memory it needs at most."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from ..acceleration import synchronize

#: Runs before the clock starts: they take memory, choose kernels, compile. A CPU has less to find out.
WARMUP, WARMUP_CPU = 3, 1
_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: median, first and third quartile, number of calls."""

    median: float
    low: float
    high: float
    n: int

    def times(self, factor: float) -> Timing:
        """Of `factor` such calls."""
        return Timing(self.median * factor, self.low * factor, self.high * factor, self.n)


def summarise(seconds: Sequence[float]) -> Timing:
    quartiles = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 3
    return Timing(quartiles[1], quartiles[0], quartiles[2], len(seconds))


def timed(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of one synchronised call."""
    synchronize(device)
    start = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - start


def warm_up(run: Callable[[], object], device: torch.device) -> None:
    for _ in range(WARMUP_CPU if device.type == "cpu" else WARMUP):
        run()
    synchronize(device)


def measure(run: Callable[[], object], device: torch.device, repeat: int = 5) -> Timing:
    """Warm up, then time `repeat` calls."""
    warm_up(run, device)
    return summarise([timed(run, device) for _ in range(repeat)])


# ----------------------------------------------------------------------------------------------------- memory


@dataclass
class PeakMemory:
    """Most bytes held at a time, filled in when the stretch ends; None where the platform does not tell.

    `kind` says of what: a CUDA peak is of tensors, a CPU peak of the whole process, libraries and weights included.
    """

    bytes: int | None = None
    kind: str = ""


@contextmanager
def peak_memory(device: torch.device) -> Iterator[PeakMemory]:
    """The high-water mark of what runs inside."""
    peak = PeakMemory()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        peak.kind = "tensors on the device"
    else:
        fresh = _reset_high_water()
        peak.kind = "resident memory of the process" + ("" if fresh else ", since its start")
    yield peak
    peak.bytes = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else high_water()


def _reset_high_water() -> bool:
    """Linux only: "5" sets the high-water mark back to what is resident now (proc(5), clear_refs)."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def high_water() -> int | None:
    """Most resident bytes of this process since its start, or since `_reset_high_water`."""
    try:
        lines = _STATUS.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return _largest_resident()


def _largest_resident() -> int | None:
    """Where there is no /proc: kibibytes everywhere but on macOS, nothing on Windows."""
    try:
        import resource
        import sys
    except ImportError:
        return None
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage if sys.platform == "darwin" else usage * 1024
