"""The model itself: its files, and how long a photo takes."""

from __future__ import annotations

import time
from collections.abc import Iterator

from ..errors import UserError, first_line
from .finding import Finding

#: The photo whose time is told, and what is restored first to guess how long that would take. Sides in pixels.
PHOTO, PROBE = 512, 128
#: Seconds that the trial may take, more or less.
PATIENCE = 8.0


def look_at_model(name: str) -> Iterator[Finding]:
    """Every file held against its sha256; torch is not needed."""
    from ..checkpoints.finding import resolve_model
    from ..checkpoints.folders import check_weights, read_config

    try:
        folder = resolve_model(name)
        _, digest = check_weights(folder, read_config(folder))
    except UserError as error:
        yield Finding("model", "bad", str(error), "pip install --force-reinstall restorevar, or give another --model")
        return
    yield Finding("model", "good", f"{name}: files are whole, sha256 {digest[:12]}", values={"sha256": digest})


def look_at_speed(name: str, device: str, dtype: str, patience: float = PATIENCE) -> Iterator[Finding]:
    """Seconds for a photo of 512x512 pixels: measured, or told from the largest size that `patience` allows."""
    import numpy as np

    from ..pipeline import Restorer

    try:
        restorer = Restorer.from_pretrained(name, device, dtype)
        rng = np.random.default_rng(0)

        def seconds(side: int) -> float:
            photo = rng.integers(0, 256, (side, side, 3), np.uint8)
            begin = time.perf_counter()
            restorer.restore_pixels(photo)
            return time.perf_counter() - begin

        seconds(PROBE)  # the first pass sets things up
        side, taken = PROBE, seconds(PROBE)
        for larger in (PHOTO, PHOTO // 2):
            # Twice the guess: the first photo of a size is slower than those after it.
            if 2 * taken * (larger / PROBE) ** 2 <= patience:
                side, taken = larger, min(seconds(larger), seconds(larger))
                break
    except Exception as error:  # whatever stops it is what the user came to hear
        yield Finding("speed", "bad", f"restoring failed ({type(error).__name__}: {first_line(error)})")
        return
    scaled = taken * (PHOTO / side) ** 2
    how = "" if side == PHOTO else f" (by the area, from {taken:.2f} s for {side}x{side})"
    yield Finding(
        "speed",
        "good",
        f"{scaled:.2f} s for a photo of {PHOTO}x{PHOTO}{how}: {restorer.summary}",
        values={"seconds": scaled, "measured_side": side, "measured_seconds": taken},
    )
