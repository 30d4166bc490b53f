"""Rows by what the tables ask for: a method, a protocol, a data set, a metric."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast, get_args

from ..metrics import METRICS, Better
from ..peers.catalogue import PEERS, plain
from ..rows import Row

#: The degraded images themselves, scored beside every method.
INPUT = "input"


@dataclass(frozen=True)
class MetricInfo:
    """How a metric is printed. `better` None: nobody says, so nothing is marked as best."""

    title: str
    better: Better | None
    digits: int = 3
    needs_reference: bool = False


@dataclass(frozen=True)
class Variant:
    """A method with one set of weights and settings. `label` tells it from the others of these results."""

    method: str
    sha256: str
    settings: str
    label: str

    def is_called(self, name: str) -> bool:
        """Also by the paper's name of a peer: "RestoreVAR" is "restorevar-published" on the command line."""
        peer = PEERS.get(self.method.lower())
        return plain(name) in (plain(self.method), plain(peer.title) if peer else "")


class Measurements:
    """All rows, ready to be asked. The variant "input" has the scores of the degraded images, from whatever rows."""

    def __init__(self, rows: Iterable[Row]):
        self.rows = list(rows)
        self.variants = _variants(self.rows)
        by_identity = {(v.method, v.sha256, v.settings): v for v in self.variants}
        self._rows: dict[tuple[Variant, str, str], dict[str, Row]] = {}
        for row in self.rows:
            variant = by_identity[_identity(row)]
            self._rows.setdefault((variant, row.protocol, row.dataset), {})[row.image] = row
        self.protocols = list(dict.fromkeys(row.protocol for row in self.rows))
        self._better = {name: better for row in self.rows for name, better in row.better.items()}

    def methods(self) -> list[Variant]:
        """All but the degraded images."""
        return [v for v in self.variants if v.method != INPUT]

    def input(self) -> Variant:
        return next(v for v in self.variants if v.method == INPUT)

    def datasets(self, protocol: str) -> list[str]:
        return list(dict.fromkeys(row.dataset for row in self.rows if row.protocol == protocol))

    def metrics(self, protocol: str, datasets: Sequence[str] | None = None) -> list[str]:
        return list(
            dict.fromkeys(
                name
                for row in self.rows
                if row.protocol == protocol and (datasets is None or row.dataset in datasets)
                for name in row.scores
            )
        )

    def info(self, metric: str) -> MetricInfo:
        """Of those that are not ours (`pyiqa:NAME`) the rows say which way they point; old rows do not."""
        if (known := METRICS.get(metric)) is not None:
            return MetricInfo(known.title, known.better, known.digits, known.needs_reference)
        told = self._better.get(metric)
        return MetricInfo(metric, cast(Better, told) if told in get_args(Better) else None)

    def of(self, variant: Variant, protocol: str, dataset: str) -> Mapping[str, Row]:
        """The rows by image."""
        return self._rows.get((variant, protocol, dataset), {})

    def scores(self, variant: Variant, protocol: str, dataset: str, metric: str) -> dict[str, float]:
        """By image."""
        own = self.of(variant, protocol, dataset)
        found = {image: row.scores[metric] for image, row in own.items() if metric in row.scores}
        if variant.method == INPUT:
            for other in self.methods():
                for image, row in self.of(other, protocol, dataset).items():
                    if metric in row.before:
                        found.setdefault(image, row.before[metric])
        return found


def _identity(row: Row) -> tuple[str, str, str]:
    if row.method == INPUT:
        return INPUT, "", "{}"
    return row.method, row.sha256, json.dumps(dict(row.settings), sort_keys=True)


def _variants(rows: Sequence[Row]) -> list[Variant]:
    """In the order of their first rows, the input first; labels as short as tells them apart."""
    found = dict.fromkeys(_identity(row) for row in rows)
    if rows:
        found = {(INPUT, "", "{}"): None} | found
    return [Variant(*identity, _label(identity, list(found))) for identity in found]


def _label(identity: tuple[str, str, str], others: Sequence[tuple[str, str, str]]) -> str:
    method, sha256, settings = identity
    if method == INPUT:
        return "degraded input"
    same = [other for other in others if other[0] == method]
    marks = [sha256[:8]] if len({other[1] for other in same}) > 1 else []
    own, all_settings = json.loads(settings), [json.loads(other[2]) for other in same]
    for name in sorted(set().union(*all_settings)):
        if len({json.dumps(each.get(name), sort_keys=True) for each in all_settings}) > 1:
            marks.append(f"{name}={_short(own[name])}" if name in own else f"no {name}")
    return f"{method} ({', '.join(marks)})" if marks else method


def _short(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
