"""RESULTS on the command line -> what they are: rows of scores, a benchmark, an ablation, an analysed study."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import UserError, reading
from ..rows import Row, read_rows
from ..study import Analysis
from ..study.analyse import FORMAT as ANALYSIS

_WANTED = (
    "rows of `restorevar evaluate --json`, or what `bench --json`, `study analyze --json` or `ablate` "
    "(ablation.json) write"
)


@dataclass
class Results:
    """What was found. `folders`: where relative paths in the rows may start, besides the working folder."""

    rows: list[Row] = field(default_factory=list)
    benches: list[Mapping[str, Any]] = field(default_factory=list)
    ablations: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    analyses: list[Analysis] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)


def load(paths: Iterable[Path], warn: Callable[[str], None] = logging.getLogger(__name__).warning) -> Results:
    """Of a folder, its *.jsonl. Raises UserError naming the file for whatever cannot be read or is something else."""
    results, rows = Results(), []
    for path in (file for given in paths for file in _files(given)):
        value = None if path.suffix == ".jsonl" else _json(path)
        if isinstance(value, dict) and value.get("format") == ANALYSIS:
            results.analyses.append(_analysis(value, path))
        elif isinstance(value, dict) and "breakdown" in value:
            results.benches.append(_bench(value, path))
        elif isinstance(value, dict) and {"about", "bounds", "rows"} <= value.keys():
            results.ablations[path.parent.name] = value
        elif value is None or (isinstance(value, dict) and "scores" in value):
            rows.append(path)
        else:
            raise UserError(f"{path}: is not one of the results that a report is made of: {_WANTED}")
        results.folders.append(path.parent)
    results.rows = read_rows(rows, warn)
    results.folders = list(dict.fromkeys(results.folders))
    return results


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.jsonl"))
    if not files:
        raise UserError(f"{path}: holds no .jsonl of `restorevar evaluate`")
    return files


def _json(path: Path) -> Any:
    """The value, or None if it is not one JSON value: then lines of it may be."""
    try:
        with reading(path):
            text = path.read_text(encoding="utf-8-sig")
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None


def _analysis(value: Mapping[str, Any], path: Path) -> Analysis:
    try:
        return Analysis.from_json(value)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: is a damaged analysis ({error})") from None


def _bench(value: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    for name in ("device_name", "model", "rivals"):
        if name not in value:
            raise UserError(f"{path}: is no file of `restorevar bench --json`: has no {name}")
    return value
