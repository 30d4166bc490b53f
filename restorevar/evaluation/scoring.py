"""Scores of a method on pairs under a protocol: one image after the other, a row each, written as it comes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from .. import __version__
from ..checkpoints import file_sha256
from ..errors import UserError
from ..images import Photo, read_photo, write_photo
from ..images.pixels import eight_bit
from .methods import FolderMethod, Method
from .metrics import Metric, Scorer, version_of
from .pairs import Pair
from .protocols import Protocol
from .rows import Row, append_row, key_of, read_rows


@dataclass
class Listener:
    """Who is told what happens; nobody, by default.

    note       something to know, such as a metric that cannot run
    failed     one image, or one metric on one image, in a line that names the file
    progress   images done, of how many, the row if there is one, and whether the log had it already
    """

    note: Callable[[str], None] = lambda text: None
    failed: Callable[[str], None] = lambda text: None
    progress: Callable[[int, int, Row | None, bool], None] = lambda done, of, row, again: None


@dataclass(frozen=True)
class Judges:
    """Metrics ready to run, by name."""

    metrics: Mapping[str, Metric]
    scorers: Mapping[str, Scorer]
    versions: Mapping[str, str] = field(default_factory=dict)

    def of(self, pair: Pair) -> list[str]:
        """Names of those that can judge this pair: without a truth there is nothing to compare with."""
        return [name for name, metric in self.metrics.items() if pair.target is not None or not metric.needs_reference]


def evaluate(
    method: Method,
    pairs: Iterable[Pair],
    protocol: Protocol,
    metrics: Sequence[Metric],
    log: str | os.PathLike[str] | None = None,
    save: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    listener: Listener | None = None,
) -> list[Row]:
    """The rows of all pairs that could be scored, in their order.

    log      rows are appended here as they come; what it holds already of the same method, settings, protocol and
             image (by content), with all these metrics by the same libraries, is taken from it and not restored again
    save     folder that keeps the restored images, as PNG: SAVE/<method>/<protocol>/<dataset>/<image>
    device   of the metrics that are networks

    An image or a metric that fails stops nothing but itself; `listener` is told. Raises UserError if no metric can run
    or no pair can be judged, and if a file cannot be written.
    """
    listener = listener or Listener()
    judges = start(metrics, protocol, device, listener)
    chosen = _judged(protocol.select(pairs), judges, listener)
    earlier = {row.key: row for row in read_rows(log, listener.note)} if log and Path(log).exists() else {}
    places = _places(chosen, method, protocol, Path(save)) if save is not None else {}
    rows = []
    for number, pair in enumerate(chosen, start=1):
        key = key_of(method.name, method.sha256, method.settings, protocol.name, pair.dataset, pair.image)
        old = earlier.get(key)
        if old is not None and not _is_current(old, pair, judges):
            old = None
        row = old if old is not None and _is_complete(old, pair, judges, places.get(pair)) else None
        again = row is not None
        if row is None:
            row = _attempt(method, pair, protocol, judges, places.get(pair), listener)
            if row is not None:
                row = _with_earlier(row, old)
                if log is not None:
                    append_row(log, row)
        if row is not None:
            rows.append(row)
        listener.progress(number, len(chosen), row, again)
    return rows


def start(metrics: Sequence[Metric], protocol: Protocol, device: str, listener: Listener) -> Judges:
    """Those metrics that can run here and judge what the protocol shows; of others the listener is told."""
    ready: dict[str, Scorer] = {}
    for metric in metrics:
        try:
            if protocol.luma and metric.needs_colour:
                raise UserError(f"needs colour, {protocol.name} looks at luma alone")
            ready[metric.name] = metric.start(device)
        except UserError as error:
            listener.note(f"{metric.name} is left out: {error}")
    if not ready:
        raise UserError(f"none of the metrics can run: {', '.join(metric.name for metric in metrics) or 'none named'}")
    kept = {metric.name: metric for metric in metrics if metric.name in ready}
    libraries = {"numpy", "pillow", "torch"} | {metric.library for metric in kept.values()} - {"restorevar"}
    versions = {"restorevar": __version__} | {library: version_of(library) for library in sorted(libraries)}
    return Judges(kept, ready, versions)


def _judged(pairs: Sequence[Pair], judges: Judges, listener: Listener) -> list[Pair]:
    """The pairs at least one metric can judge."""
    chosen = [pair for pair in pairs if judges.of(pair)]
    alone = sum(pair.target is None for pair in pairs)
    needing = [name for name, metric in judges.metrics.items() if metric.needs_reference]
    if not chosen:
        raise UserError(f"nothing to judge: {', '.join(needing)} need truths, and there are none")
    if alone and needing:
        listener.note(f"{alone} of {len(pairs)} images have no truth, which {', '.join(needing)} would need")
    return chosen


# ------------------------------------------------------------------------------------------------- one image


def _attempt(
    method: Method, pair: Pair, protocol: Protocol, judges: Judges, place: Path | None, listener: Listener
) -> Row | None:
    """The row of one image; None, and the listener told, whatever goes wrong."""
    try:
        return _score(method, pair, protocol, judges, place, listener)
    except UserError as error:
        text = str(error)
        listener.failed(text if str(pair.input) in text else f"{pair.input}: {text}")
    except MemoryError:
        listener.failed(f"{pair.input}: needs more memory than there is")
    except Exception as error:  # of whatever kind: the other images are not to suffer
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        listener.failed(f"{pair.input}: failed unexpectedly ({cause})")
    return None


def _score(
    method: Method, pair: Pair, protocol: Protocol, judges: Judges, place: Path | None, listener: Listener
) -> Row:
    """Read, restore, finish, judge."""
    files = _hashes(pair)
    degraded = protocol.prepare(_read(pair.input))
    target = None if pair.target is None else protocol.prepare(_read(pair.target))
    if target is not None and target.shape != degraded.shape:
        raise UserError(f"is {_size(degraded)} pixels, its truth {pair.target} is {_size(target)}")
    begin = time.perf_counter()
    restored = _checked(method.restore(pair, degraded), degraded)
    seconds = time.perf_counter() - begin
    finished = protocol.finish(restored, degraded, target, pair.dataset)
    reference = None if target is None else protocol.view(target)
    scores = _judge(finished, reference, pair, protocol, judges, listener)
    if not scores:
        raise UserError("no metric could judge it")
    unrestored = protocol.finish(degraded, degraded, target, pair.dataset)
    before = _judge(unrestored, reference, pair, protocol, judges, listener, only=scores)
    if place is not None:
        write_photo(place, Photo(rgb=_as_bytes(finished)), overwrite=True)
    elif isinstance(method, FolderMethod):
        place = method.output_of(pair)
    return Row(
        method=method.name,
        sha256=method.sha256,
        settings=dict(method.settings),
        protocol=protocol.name,
        dataset=pair.dataset,
        task=pair.task,
        image=pair.image,
        input=str(pair.input),
        target=None if pair.target is None else str(pair.target),
        output=None if place is None else str(place),
        scores=scores,
        before=before,
        seconds=round(seconds, 4),
        versions=dict(judges.versions),
        files=files,
        better={name: judges.metrics[name].better for name in scores},
    )


def _judge(
    image: np.ndarray,
    reference: np.ndarray | None,
    pair: Pair,
    protocol: Protocol,
    judges: Judges,
    listener: Listener,
    only: Iterable[str] | None = None,
) -> dict[str, float]:
    """Scores of a finished image; `only`: by these metrics, because the others have told of their failure already."""
    view, scores = protocol.view(image), {}
    for name in judges.of(pair) if only is None else only:
        truth = reference if judges.metrics[name].needs_reference else None
        try:
            score = judges.scorers[name](view, truth)
            if not np.isfinite(score):
                raise UserError(f"gives {score}")
            scores[name] = score
        except UserError as error:
            listener.failed(f"{pair.input}: {name}: {error}")
        except Exception as error:  # pyiqa's networks raise every kind
            cause = " ".join(f"{type(error).__name__}: {error}".split())
            listener.failed(f"{pair.input}: {name}: failed unexpectedly ({cause})")
    return scores


def _read(path: Path) -> np.ndarray:
    return eight_bit(read_photo(path).rgb)


def _checked(restored: np.ndarray, degraded: np.ndarray) -> np.ndarray:
    """The result, in range; UserError if it is not an image of the right size."""
    if restored.shape != degraded.shape:
        raise UserError(f"the result has the shape {restored.shape}, not {degraded.shape}")
    if restored.dtype == np.uint8:
        return restored
    if restored.dtype.kind != "f" or not np.isfinite(restored).all():
        raise UserError("the result has values that are not numbers between 0 and 1")
    return np.clip(restored, 0, 1)


def _as_bytes(image: np.ndarray) -> np.ndarray:
    return image if image.dtype == np.uint8 else np.round(image * 255).astype(np.uint8)


def _size(image: np.ndarray) -> str:
    return " x ".join(map(str, image.shape[1::-1]))


# ---------------------------------------------------------------------------------------------- what is there


def _is_current(row: Row, pair: Pair, judges: Judges) -> bool:
    """Whether a row of the log is of the same files with the same content, scored by the same libraries.

    Old rows do not tell the content of their files; those are believed, libraries and all.
    """
    if not (_same_file(row.input, pair.input) and _same_file(row.target, pair.target)):
        return False
    same_libraries = all(row.versions.get(name, version) == version for name, version in judges.versions.items())
    return not row.files or (same_libraries and row.files == _hashes(pair))


def _is_complete(row: Row, pair: Pair, judges: Judges, place: Path | None) -> bool:
    """Whether it has all metrics, and the kept image is in its place."""
    kept = place is None or (_same_file(row.output, place) and place.is_file())
    return kept and set(judges.of(pair)) <= set(row.scores)


def _hashes(pair: Pair) -> dict[str, str]:
    """What a row tells of the content of its files. A file that cannot be read has none: reading it tells why."""
    files = {"input": pair.input} | ({} if pair.target is None else {"target": pair.target})
    return {name: file_sha256(path)[:16] for name, path in files.items() if path.is_file()}


def _same_file(a: str | Path | None, b: str | Path | None) -> bool:
    return os.path.abspath(a) == os.path.abspath(b) if a is not None and b is not None else a is b


def _with_earlier(row: Row, old: Row | None) -> Row:
    """The row with the scores that an earlier, current one has of other metrics."""
    if old is None:
        return row
    return replace(
        row,
        scores={**old.scores, **row.scores},
        before={**old.before, **row.before},
        versions={**old.versions, **row.versions},
        better={**old.better, **row.better},
    )


def _places(pairs: Sequence[Pair], method: Method, protocol: Protocol, folder: Path) -> dict[Pair, Path]:
    """Where the results are kept. Two methods of one name, say at two settings, get folders of their own."""
    what = json.dumps([method.sha256, dict(method.settings)], sort_keys=True)
    name = re.sub(r"[^\w.+-]+", "_", method.name).strip("._") or "method"
    home = folder / f"{name}-{hashlib.sha256(what.encode()).hexdigest()[:8]}" / protocol.name
    stems = Counter((pair.dataset, PurePosixPath(pair.image).with_suffix("")) for pair in pairs)
    places = {}
    for pair in pairs:
        stem = PurePosixPath(pair.image).with_suffix("")
        image = f"{stem if stems[pair.dataset, stem] == 1 else pair.image}.png"
        parts = [part for part in f"{pair.dataset}/{image}".split("/") if part not in ("", ".", "..")]
        places[pair] = home.joinpath(*parts)
    return places
