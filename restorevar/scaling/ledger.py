"""Which photos were begun and which ended, kept where it outlives the workers.

A worker that is killed leaves photos begun and not ended. Whoever takes its chunk next finds them here and begins each
of them alone: then one that kills its worker again is told from those that were only near it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol


class Ledger(Protocol):
    """Numbers are those of the items, outcomes are `Outcome.as_json`."""

    def look(self, numbers: Sequence[int]) -> list[tuple[int, str]]:
        """How often each was begun, and its outcome; "" while there is none."""

    def begin(self, numbers: Sequence[int]) -> None:
        """They are about to be worked on."""

    def end(self, number: int, outcome: str) -> None:
        """It has ended."""


class Book:
    """The ledger itself."""

    def __init__(self) -> None:
        self._begun: dict[int, int] = {}
        self._ended: dict[int, str] = {}

    def look(self, numbers: Sequence[int]) -> list[tuple[int, str]]:
        return [(self._begun.get(number, 0), self._ended.get(number, "")) for number in numbers]

    def begin(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._begun[number] = self._begun.get(number, 0) + 1

    def end(self, number: int, outcome: str) -> None:
        self._ended[number] = outcome

    def forget(self, numbers: Iterable[int]) -> None:
        """Their outcomes have arrived. So it holds what is on its way, however long the job is."""
        for number in numbers:
            self._begun.pop(number, None)
            self._ended.pop(number, None)
