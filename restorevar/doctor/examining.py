"""All that is looked at, in the order in which it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ..errors import first_line
from .computing import look_at_devices, look_at_precision, look_at_threads, torch_works
from .finding import Finding
from .machine import look_at_disk, look_at_memory, look_at_versions
from .parts import look_at_browser, look_at_codecs, look_at_extras
from .trial import look_at_model, look_at_speed


def examine(model: str = "compact", device: str = "auto", dtype: str = "auto", speed: bool = True) -> Iterator[Finding]:
    """Findings as they are made; the last, the speed, takes about ten seconds and is left out on request."""
    yield from _look("versions", look_at_versions)
    works, broken = torch_works()
    if broken is not None:
        yield broken
    if works:
        yield from _look("device", lambda: look_at_devices(device))
        yield from _look("dtype", lambda: look_at_precision(device, dtype))
        yield from _look("threads", look_at_threads)
    yield from _look("memory", look_at_memory)
    yield from _look("disk", look_at_disk)
    yield from _look("extras", look_at_extras)
    yield from _look("codecs", look_at_codecs)
    yield from _look("browser", look_at_browser)
    whole = True
    for finding in _look("model", lambda: look_at_model(model)):
        whole = whole and finding.grade != "bad"
        yield finding
    if works and whole and speed:
        yield from _look("speed", lambda: look_at_speed(model, device, dtype))


def _look(name: str, at: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """What cannot even be looked at is a finding too."""
    try:
        yield from at()
    except Exception as error:
        yield Finding(name, "bad", f"could not be looked at ({type(error).__name__}: {first_line(error)})")
