"""How much a service takes: what is above is refused with a sentence, before it costs anything."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from ..errors import UserError


@dataclass(frozen=True)
class Limits:
    """Raises UserError for what cannot be.

    queue          photos that wait, at most; those that are worked on are not among them
    queue_pixels   their pixels together; a single photo may always wait
    at_once        photos worked on at once: they share the passes of the model, and a small one need not wait for a
                   large one to end. None: as many as fill a pass, from 4 to 16
    bytes          of one request
    pixels         of one photo
    seconds        from the moment a photo is taken to its result; also for sending it
    gather         seconds that a window waits for others to share its pass
    """

    queue: int = 32
    queue_pixels: int = 200_000_000
    at_once: int | None = None
    bytes: int = 64 << 20
    pixels: int = 50_000_000
    seconds: float = 300.0
    gather: float = 0.005

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.name == "at_once":
                continue
            if not (math.isfinite(value) and (value > 0 or (value == 0 and field.name == "gather"))):
                raise UserError(f"the limit {field.name} is a number above 0, not {value!r}")
