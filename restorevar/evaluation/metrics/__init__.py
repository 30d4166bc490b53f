"""What is computed of an image: by name, with the library that does it. See docs/evaluation.md for the list."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ...errors import UserError
from . import by_pyiqa, by_scikit_image, piqe, structure
from .metric import Better, Metric, Scorer, version_of

METRICS: dict[str, Metric] = {
    metric.name: metric for metric in (*by_scikit_image.METRICS, *structure.METRICS, *piqe.METRICS, *by_pyiqa.METRICS)
}


def find_metric(name: str) -> Metric:
    """By name, `pyiqa:NAME` too. Raises UserError for an unknown one, and for one of pyiqa where that is missing."""
    if name.startswith(by_pyiqa.PREFIX):
        return by_pyiqa.pyiqa_metric(name)
    try:
        return METRICS[name]
    except KeyError:
        raise UserError(f"no metric {name}; there are {', '.join(METRICS)} and pyiqa:NAME") from None


def find_metrics(names: Iterable[str], note: Callable[[str], None] | None = None) -> list[Metric]:
    """As `find_metric`, each once. Where `note` is given it is told of metrics of pyiqa that cannot be asked for."""
    found = []
    for name in dict.fromkeys(name.strip() for name in names):
        try:
            found.append(find_metric(name))
        except UserError as error:
            if note is None or not name.startswith(by_pyiqa.PREFIX):
                raise
            note(f"{name} is left out: {error}")
    if not found:
        raise UserError("none of the metrics can run")
    return found


__all__ = ["METRICS", "Better", "Metric", "Scorer", "find_metric", "find_metrics", "version_of"]
