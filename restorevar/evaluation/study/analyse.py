"""Ratings -> the paper's table 3 (mean of each method) and table 7 (paired differences, with intervals and tests).

What a rater gives to twenty photos is not twenty independent opinions, so a rater is one value of each method by
default: the mean of what they gave, data sets (subfolders of the inputs) counting alike. "question" takes the mean over
raters of each photo, "rating" every rater and photo by itself, which makes p values too small. What the paper took is
not at hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...errors import UserError
from ..statistics import Difference, Interval, Mean, difference, holm, mean_of
from .key import Key
from .ratings import Ratings

UNITS = ("rater", "question", "rating")
FORMAT = "restorevar-study-analysis-1"
ALL = "all"

#: Values of one method: a list for each data set, the same order for all methods.
Values = list[list[float]]


@dataclass(frozen=True)
class Comparison:
    """The reference less another method, p values adjusted by Holm over all comparisons of the table."""

    other: str
    difference: Difference
    t_holm: float | None
    wilcoxon_holm: float | None


@dataclass(frozen=True)
class Analysis:
    """`means[method]` has "all" and each criterion."""

    study: str
    title: str
    unit: str
    reference: str
    raters: int
    questions: int
    unfinished: int
    means: Mapping[str, Mapping[str, Mean]]
    comparisons: Sequence[Comparison]

    def as_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Analysis:
        """The inverse of `as_json`. Raises KeyError or TypeError for anything else."""
        means = {m: {c: _mean(v) for c, v in each.items()} for m, each in value["means"].items()}
        comparisons = [
            Comparison(c["other"], _difference(c["difference"]), c["t_holm"], c["wilcoxon_holm"])
            for c in value["comparisons"]
        ]
        plain = ("study", "title", "unit", "reference", "raters", "questions", "unfinished")
        return cls(**{name: value[name] for name in plain}, means=means, comparisons=comparisons)


def analyse(key: Key, ratings: Sequence[Ratings], unit: str = "rater", reference: str | None = None) -> Analysis:
    """`reference`: the method the others are compared with; default: RestoreVAR, or the first. Raises UserError."""
    if unit not in UNITS:
        raise UserError(f"--unit is one of {', '.join(UNITS)}, not {unit}")
    reference = reference or ("RestoreVAR" if "RestoreVAR" in key.methods else key.methods[0])
    if reference not in key.methods:
        raise UserError(f"no method {reference} in this study; there are {', '.join(key.methods)}")
    told = [r for r in ratings if r.points]
    if not told:
        raise UserError("no photo was rated in full")
    values = {m: _values(key, told, m, None, unit) for m in key.methods}
    others = [m for m in key.methods if m != reference]
    found = [difference(*zip(values[reference], values[m], strict=True)) for m in others]
    t, wilcoxon = (holm(getattr(d, name) for d in found) for name in ("t_p", "wilcoxon_p"))
    criteria = {ALL: None} | {c.id: c.id for c in key.criteria}
    return Analysis(
        study=key.study,
        title=key.title,
        unit=unit,
        reference=reference,
        raters=len(told),
        questions=len({q for r in told for q in r.points}),
        unfinished=sum(r.unfinished for r in ratings),
        means={
            m: {name: mean_of(*_values(key, told, m, criterion, unit)) for name, criterion in criteria.items()}
            for m in key.methods
        },
        comparisons=[Comparison(*row) for row in zip(others, found, t, wilcoxon, strict=True)],
    )


def _values(key: Key, ratings: Sequence[Ratings], method: str, criterion: str | None, unit: str) -> Values:
    """What one method was given, a value per unit, for one criterion or the mean of all."""
    cells: dict[str, dict[tuple[str, str], float]] = {}  # data set -> (rater, question) -> points
    for question in key.questions:
        for rating in ratings:
            if question.id in rating.points:
                points = rating.points[question.id][method]
                value = float(np.mean([*points.values()])) if criterion is None else float(points[criterion])
                cells.setdefault(question.dataset, {})[rating.rater, question.id] = value
    if unit == "rating":
        return [list(each.values()) for each in cells.values()]
    if unit == "question":
        return [list(_means((q, value) for (_, q), value in each.items()).values()) for each in cells.values()]
    of_sets = [_means((rater, value) for (rater, _), value in each.items()) for each in cells.values()]
    return [list(_means(pair for means in of_sets for pair in means.items()).values())]


def _means(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    """By name."""
    groups: dict[str, list[float]] = {}
    for name, value in values:
        groups.setdefault(name, []).append(value)
    return {name: float(np.mean(group)) for name, group in groups.items()}


def _interval(value: Mapping[str, float] | None) -> Interval | None:
    return None if value is None else Interval(**value)


def _mean(value: Mapping[str, Any]) -> Mean:
    return Mean(**{**value, "interval": _interval(value["interval"])})


def _difference(value: Mapping[str, Any]) -> Difference:
    return Difference(**{**value, "t": _interval(value["t"]), "bootstrap": _interval(value["bootstrap"])})
