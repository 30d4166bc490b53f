"""What the page says of a photo, in plain words."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from ...images import Photo
from ..engine import Restored

if TYPE_CHECKING:
    from ...diagnosis import Diagnosis

WAITING = "Waiting for its turn."
WORKING = "Having a first look."
BUSY = "Many photos are being restored right now. Yours waits for its turn."
CANCELLED = "Called off."

_NAMES = {"haze": "Haze", "rain": "Rain", "snow": "Snow", "lowlight": "Low light", "blur": "Blur"}
#: Where that reads better within a sentence.
_SPOKEN = {"lowlight": "darkness"}
#: Strength from which on -> word for it, for what was seen.
_STRENGTHS = ((0.7, "strong"), (0.4, "some"), (0.0, "a little"))


def facts(photo: Photo) -> str:
    """Size and kind of the file."""
    height, width = photo.rgb.shape[:2]
    bits = ", 16 bits" if photo.rgb.dtype == np.uint16 else ""
    return f"{width} × {height} pixels, {photo.format}{bits}"


def restored_name(name: str) -> str:
    """photo.jpg -> photo_restored.jpg"""
    path = PurePath(name)
    return f"{path.stem}_restored{path.suffix}"


def scale(done: int, scales: int) -> str:
    """`done` counts from 0."""
    return f"Restoring, coarse to fine: step {done + 1} of {scales}."


def done(restored: Restored) -> str:
    if restored.untouched:
        return "This photo needs nothing, so it was left as it is."
    sentence = f"Restored in {seconds(restored.seconds)}."
    if restored.diagnosis is not None and restored.diagnosis.needs_nothing:
        sentence += " It hardly needed it."
    return sentence


def seconds(value: float) -> str:
    return f"{value:.1f} seconds" if value < 10 else f"{value:.0f} seconds"


def failed(name: str, cause: str) -> str:
    """A sentence that names the file. Causes are predicates: "is damaged", "has 12 pages"."""
    return f"{name} {cause.rstrip('.')}."


def settings(restored: Restored) -> str:
    """What the result was made with, where that is not the usual."""
    strength = restored.settings.get("strength", 1.0)
    return "" if restored.untouched or strength == 1 else f"{strength:.0%} of the change was made."


def changed(share: float) -> str:
    return f"Visibly changed: {share:.0%} of the picture."


def sure(mean: float) -> str:
    return f"On average it gave what it chose a probability of {mean:.0%}."


def report(diagnosis: Diagnosis | None) -> dict[str, Any] | None:
    """`sentence`, and `rows`: for each degradation name, word, share of the bar, whether it was seen."""
    if diagnosis is None:
        return None
    rows = [
        {
            "name": _NAMES.get(name, name.capitalize()),
            "word": _word(strength) if name in diagnosis.seen else "no",
            "share": round(float(strength), 3),
            "seen": name in diagnosis.seen,
        }
        for name, strength in diagnosis.strengths.items()
    ]
    found = [f"{_word(diagnosis.strengths[name])} {_SPOKEN.get(name, name)}" for name in diagnosis.seen]
    sentence = f"{', '.join(found).capitalize()}." if found else "Nothing that restoring would be for."
    return {"sentence": sentence, "rows": rows}


def _word(strength: float) -> str:
    return next(word for start, word in _STRENGTHS if strength >= start)
