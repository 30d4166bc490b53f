"""Diagnosis: which of the five degradations a photo shows, how strongly, and that in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: The degradations, in the order in which they are told.
NAMES = ("haze", "rain", "snow", "lowlight", "blur")
#: What is barely visible has this strength, so that it differs from nothing.
BARELY = 0.2
#: Strength up to which -> word for it.
_WORDS = ((0.4, "a little "), (0.7, ""), (1.0, "strong "))
_SPOKEN = {"lowlight": "low light"}
NOTHING = "needs nothing"


def strength_of(parameter: float) -> float:
    """The strength in [0, 1] of what `restorevar degrade` makes with this strength in [0, 1], barely visible to heavy.

    0 is left for photos without the degradation.
    """
    return BARELY + (1 - BARELY) * parameter


@dataclass(frozen=True)
class Diagnosis:
    """What a photo suffers from.

    strengths    of each of NAMES, in [0, 1]: 0 nothing, 0.2 barely visible, 1 as heavy as `restorevar degrade` makes
                 it. An expectation: where the photo leaves a doubt, it lies between nothing and what it may be
    thresholds   what the strength must reach for the degradation to be told of; chosen on clean photographs
    """

    strengths: dict[str, float]
    thresholds: Mapping[str, float] = field(repr=False)

    @property
    def seen(self) -> tuple[str, ...]:
        """The degradations told of, strongest first."""
        found = [name for name, strength in self.strengths.items() if strength >= self.thresholds[name]]
        return tuple(sorted(found, key=self.strengths.__getitem__, reverse=True))

    @property
    def needs_nothing(self) -> bool:
        """Nothing is seen that a restoration would be for."""
        return not self.seen

    @property
    def sentence(self) -> str:
        """One line for people: "shows strong haze and a little rain", or that the photo needs nothing."""
        if self.needs_nothing:
            return NOTHING
        *first, last = (_word(self.strengths[name]) + _SPOKEN.get(name, name) for name in self.seen)
        return "shows " + (f"{', '.join(first)} and {last}" if first else last)

    def __str__(self) -> str:
        """The sentence, and all strengths."""
        return f"{self.sentence} ({', '.join(f'{name} {value:.2f}' for name, value in self.strengths.items())})"

    def as_json(self) -> dict[str, object]:
        """Plain JSON types."""
        strengths = {name: round(strength, 3) for name, strength in self.strengths.items()}
        return {
            "sentence": self.sentence,
            "needs_nothing": self.needs_nothing,
            "seen": list(self.seen),
            "strengths": strengths,
        }


def _word(strength: float) -> str:
    return next(word for top, word in _WORDS if strength <= top)
