"""Row: one scored image, one line of JSON. What `evaluate` writes and every table, test and figure reads."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import UserError, reading, writing

#: method, sha256, settings (as JSON), protocol, dataset, image
Key = tuple[str, str, str, str, str, str]


@dataclass(frozen=True)
class Row:
    """The scores of one image.

    method     what restored it; with `sha256` (weights or outputs) and `settings` the method is told in full
    protocol   name of the protocol of the scores
    dataset    and image, a name that is unique in it; `task` is what the image suffers from
    input      path of the degraded image; `target` that of the truth, `output` that of the kept result, if any
    scores     of the restored image, by name of the metric
    before     the same of the degraded image, under the same protocol
    seconds    the restoring took; with reading, writing and warming up left to chance, so not a benchmark
    versions   of the libraries that computed the scores
    files      first digits of the SHA-256 of "input" and "target"; rows of 0.3 and before have none
    better     "higher" or "lower", by name of the metric; likewise
    """

    method: str
    sha256: str
    settings: Mapping[str, Any]
    protocol: str
    dataset: str
    task: str
    image: str
    input: str
    target: str | None
    output: str | None
    scores: Mapping[str, float]
    before: Mapping[str, float]
    seconds: float | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    better: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Of two rows with the same key the later one counts."""
        return key_of(self.method, self.sha256, self.settings, self.protocol, self.dataset, self.image)


def key_of(method: str, sha256: str, settings: Mapping[str, Any], protocol: str, dataset: str, image: str) -> Key:
    return method, sha256, json.dumps(dict(settings), sort_keys=True), protocol, dataset, image


def read_rows(
    paths: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
    warn: Callable[[str], None] = logging.getLogger(__name__).warning,
) -> list[Row]:
    """The rows of one or several files, in the order in which their keys first come; later ones replace earlier ones.

    A line that is not whole (the writer was interrupted) is passed over, and `warn` is told. Raises UserError for files
    that cannot be read, and for lines that are JSON but no rows: then the file is something else.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    rows: dict[Key, Row] = {}
    for path in paths:
        for number, line in enumerate(_lines(Path(path)), start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (json.JSONDecodeError, RecursionError):
                warn(f"{path}: line {number} is damaged and passed over")
                continue
            row = _row(value, f"{path}: line {number}")
            rows[row.key] = row
    return list(rows.values())


def append_row(file: str | os.PathLike[str], row: Row) -> None:
    """Add one line, at once, so that an interrupted run keeps what it did. Makes the folder.

    A line that an interrupted run left unfinished is ended first. Raises UserError if the file cannot be written.
    """
    path = Path(file)
    with writing(path):  # a score that is not a number is told likewise
        line = json.dumps(asdict(row), ensure_ascii=False, allow_nan=False) + "\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as stream:
            if stream.seek(0, os.SEEK_END):
                stream.seek(-1, os.SEEK_END)
                line = line if stream.read(1) == b"\n" else "\n" + line
            stream.write(line.encode("utf-8", "surrogateescape"))


def _lines(path: Path) -> list[str]:
    with reading(path):
        return path.read_bytes().decode("utf-8", "surrogateescape").split("\n")


def _row(value: Any, place: str) -> Row:
    """The row in a JSON value; keys that are not ours are left out, later versions may have more."""
    if not isinstance(value, dict):
        raise UserError(f"{place}: is not a row of scores")
    mappings, optional = ("versions", "files", "better"), ("seconds", "versions", "files", "better")
    kinds: dict[str, tuple[type, ...]] = {name: (dict,) for name in ("settings", "scores", "before", *mappings)}
    kinds |= {name: (str, type(None)) for name in ("target", "output")} | {"seconds": (int, float, type(None))}
    for name in (f.name for f in fields(Row)):
        if name not in value and name not in optional:
            raise UserError(f"{place}: is not a row of scores: has no {name}")
        if name in value and not isinstance(value[name], kinds.get(name, (str,))):
            raise UserError(f"{place}: is not a row of scores: {name} is of the wrong kind")
    for scores in (value["scores"], value["before"]):
        if not all(isinstance(score, int | float) for score in scores.values()):
            raise UserError(f"{place}: is not a row of scores: a score is not a number")
    return Row(**{f.name: value[f.name] for f in fields(Row) if f.name in value})
