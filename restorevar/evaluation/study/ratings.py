"""What raters send back, with the hidden names put in again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data.manifest import read_json
from ...errors import UserError
from .key import POINTS, Key

FORMAT = "blind-study-ratings-1"


@dataclass(frozen=True)
class Ratings:
    """One rater's. `points[question][method][criterion]`, only of questions that were rated in full."""

    rater: str
    points: Mapping[str, Mapping[str, Mapping[str, int]]]
    unfinished: int = 0  #: questions begun but not rated in full, which do not count


def read_ratings(paths: Sequence[Path], key: Key, tell: Callable[[str], None] = lambda line: None) -> list[Ratings]:
    """One per rater, in the order of the files; of two files of a rater the later download counts.

    Raises UserError naming the file for what is no ratings, belongs to another study or has points out of range.
    """
    found: dict[str, tuple[str, Ratings]] = {}
    for path in paths:
        value = read_json(path)
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise UserError(f"{path}: is not a file of ratings")
        if value.get("study") != key.study:
            raise UserError(f"{path}: belongs to study {value.get('study')}, not to {key.study}, which the key is of")
        try:
            date, ratings = str(value.get("date", "")), _ratings(value, key)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: is damaged ({error})") from None
        if ratings.rater in found:
            tell(f"{path}: another file of rater {ratings.rater}; the later download counts")
        if ratings.rater not in found or date >= found[ratings.rater][0]:
            found[ratings.rater] = date, ratings
    return [ratings for _, ratings in found.values()]


def _ratings(value: Mapping[str, Any], key: Key) -> Ratings:
    rater, answers = str(value["rater"]), value["answers"]
    if unknown := answers.keys() - {question.id for question in key.questions}:
        raise ValueError(f"there is no question {min(unknown)}")
    points, unfinished = {}, 0
    for question in key.questions:
        given = answers.get(question.id, {})
        places = [
            {c.id: _point(given.get(str(i), {}).get(c.id)) for c in key.criteria} for i in range(len(key.methods))
        ]
        if all(point is not None for place in places for point in place.values()):
            points[question.id] = dict(zip(question.order, places, strict=True))
        elif given:
            unfinished += 1
    return Ratings(rater, points, unfinished)  # type: ignore[arg-type]


def _point(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= POINTS:
        raise ValueError(f"{value!r} is not a rating from 1 to {POINTS}")
    return value
