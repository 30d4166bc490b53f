"""Which pairs are studied, which of them are of one photo, and means over photos."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import UserError
from ...pipeline import Restorer
from ..pairs import Pair, find_pairs
from ..statistics import Interval, Mean, mean_of
from .views import View, views_of_pair

Progress = Callable[[int, int], None]


def ignore(done: int, total: int) -> None:
    """The progress of those who do not ask."""


def pairs_in(sources: Iterable[Path]) -> list[Pair]:
    """Of folders as `restorevar degrade` writes them, and of manifests (.json). Raises UserError."""
    pairs = []
    for source in sources:
        if source.suffix.lower() == ".json":
            pairs += find_pairs(manifest=source)
        else:
            pairs += find_pairs(source)
    return pairs


def chosen_pairs(pairs: Iterable[Pair], limit: int | None, skip: Sequence[str] = ("clean",)) -> list[Pair]:
    """Those with a truth, of tasks not in `skip`, the first `limit` of each task. Raises UserError if none is left."""
    taken: dict[str, list[Pair]] = {}
    for pair in pairs:
        if pair.target is not None and pair.task not in skip:
            taken.setdefault(pair.task, []).append(pair)
    found = [pair for group in taken.values() for pair in group[:limit]]
    if not found:
        raise UserError("no pairs with a truth to study")
    return found


def photo_of(pair: Pair) -> str:
    """What tells pairs of one photo: strengths of it, or seeds, are no independent samples."""
    return PurePosixPath(pair.image).with_suffix("").as_posix()


def over_photos(values: Iterable[tuple[str, float]]) -> Mean:
    """Mean and 95 % interval of (photo, value): values of one photo are averaged first, photos count alike."""
    photos: dict[str, list[float]] = {}
    for photo, value in values:
        photos.setdefault(photo, []).append(value)
    return mean_of([sum(group) / len(group) for group in photos.values()])


def shares_over_photos(values: Iterable[tuple[str, float, float]]) -> Mean:
    """Mean and 95 % interval of (photo, share, weight): the sum of all parts over the sum of all wholes.

    Weighted by the whole of which it is a share, a pair with hardly any whole has hardly any say; its share is noise.
    The interval is that of a ratio of means: of the linearised deviations, photos as the units.
    """
    photos: dict[str, tuple[float, float]] = {}
    for photo, share, weight in values:
        part, whole = photos.get(photo, (0.0, 0.0))
        photos[photo] = (part + share * weight, whole + weight)
    whole = sum(w for _, w in photos.values())
    ratio = sum(p for p, _ in photos.values()) / max(whole, 1e-12)
    found = mean_of([(p - ratio * w) * len(photos) / max(whole, 1e-12) for p, w in photos.values()])
    if found.interval is None:
        return replace(found, mean=ratio)
    return replace(found, mean=ratio, interval=Interval(ratio + found.interval.low, ratio + found.interval.high))


def views_of_pairs(
    restorer: Restorer,
    pairs: Sequence[Pair],
    size: int,
    progress: Progress = ignore,
    warn: Callable[[str], None] = logging.getLogger(__name__).warning,
) -> Iterator[tuple[Pair, View, View]]:
    """(pair, clean, degraded) one after the other; `progress` hears of each once its turn is over.

    A pair that cannot be read or does not fit together is passed over, and `warn` is told: a study of hours goes on.
    Raises UserError if that was all of them.
    """
    shown = 0
    for done, pair in enumerate(pairs, start=1):
        assert pair.target is not None
        try:
            views = views_of_pair(restorer, pair.target, pair.input, size)
        except UserError as error:
            warn(f"{error}; left out")
            continue
        yield pair, *views
        shown += 1
        progress(done, len(pairs))
    if not shown:
        raise UserError("none of the pairs could be read")


def named(pair: Pair) -> dict[str, Any]:
    """What a record of a pair begins with."""
    return {"dataset": pair.dataset, "task": pair.task, "image": pair.image, "photo": photo_of(pair)}


def by_task(records: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Records by their task, in the order in which the tasks come."""
    tasks: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        tasks.setdefault(record["task"], []).append(record)
    return tasks
