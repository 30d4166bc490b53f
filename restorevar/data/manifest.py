"""Manifests: the published JSON lists of pairs, read and written as they are.

    [{"image_path": ..., "target_path": ..., "degradation": ..., "dataset": ...}, ...]

`degradation` is one of PUBLISHED_NAMES' values, "Mixed", "toled" or "poled"; any other is taken as it is. Further keys
of a row are kept: `restorevar data index` writes "split" and "subset" there, which the published loader passes over.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UserError, reading, writing

#: Our task names -> those of the published manifests. Whatever combines several is "Mixed".
PUBLISHED_NAMES = {
    "haze": "Haze",
    "rain": "Rain",
    "snow": "Snow",
    "lowlight": "Low-light",
    "blur": "Motion blur",
    "clean": "Clean",
}

_KEYS = ("image_path", "target_path", "degradation", "dataset")


@dataclass(frozen=True)
class Entry:
    """One pair: the degraded image, its truth, what it suffers from, where it comes from.

    extra   the further keys of its row, in their order
    """

    image: Path
    target: Path
    degradation: str
    dataset: str
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def split(self) -> str:
        """train, val, test, or nothing where the manifest does not say."""
        return str(self.extra.get("split", ""))


def published_name(task: str) -> str:
    """The published name of one of our tasks, such as "haze" or "haze+rain"."""
    return PUBLISHED_NAMES.get(task, "Mixed")


def read_manifest(path: str | os.PathLike[str]) -> list[Entry]:
    """The pairs of a manifest, in its order. Relative paths start from the manifest's folder.

    Whether the images exist is not looked at. Raises UserError naming the file, and the row (counted from 1), for
    what cannot be read, is not JSON, or is not such a list.
    """
    path = Path(path)
    rows = read_json(path)
    if not isinstance(rows, list):
        raise UserError(f"{path}: is not a manifest: a JSON list of pairs is expected, not {_kind(rows)}")
    folder = _absolute(path).parent
    return [_entry(row, folder, f"{path}: row {number}") for number, row in enumerate(rows, start=1)]


def write_manifest(entries: Iterable[Entry], path: str | os.PathLike[str]) -> None:
    """Write a manifest, whole or not at all; `read_manifest` gives the same entries back.

    Paths below the manifest's folder are written relative to it, so that the folder can be moved; others are written
    absolute. Raises UserError if the file cannot be written.
    """
    folder = _absolute(Path(path)).parent
    write_json([_row(entry, folder) for entry in entries], path)


def write_json(value: Any, path: str | os.PathLike[str]) -> None:
    """Write JSON, whole or not at all, making the folder. Raises UserError."""
    write_text(json.dumps(value, indent=1) + "\n", path)


def write_text(text: str, path: str | os.PathLike[str]) -> None:
    """Write to a temporary name and move it to `path`, making its folder. Raises UserError."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, path)
        except BaseException:  # an interrupt from the keyboard too
            temporary.unlink(missing_ok=True)
            raise


def check_place(path: str | os.PathLike[str]) -> None:
    """Before long work: raises UserError if `write_json` could not write there. Makes the folder."""
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a file")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{path}: cannot be written: {path.parent} is not a folder that may be written to")


def read_json(path: Path) -> Any:
    """The value in a file of JSON. Raises UserError naming the file."""
    try:
        with reading(path):
            text = path.read_bytes()
        return json.loads(text.decode("utf-8-sig"))
    except (RecursionError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: is not valid JSON ({error})") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not valid JSON (it is not text in UTF-8)") from None


def _entry(row: Any, folder: Path, place: str) -> Entry:
    if not isinstance(row, dict):
        raise UserError(f"{place}: should be an object with {', '.join(_KEYS)}, not {_kind(row)}")
    for key in _KEYS:
        if key not in row:
            raise UserError(f"{place}: has no {key}")
        if not isinstance(row[key], str) or not row[key]:
            raise UserError(f"{place}: {key} should be text, not {_kind(row[key])}")
    image, target, degradation, dataset = (row[key] for key in _KEYS)
    extra = {key: value for key, value in row.items() if key not in _KEYS}
    return Entry(folder / image, folder / target, degradation, dataset, extra)


def _row(entry: Entry, folder: Path) -> dict[str, Any]:
    values = (_written(entry.image, folder), _written(entry.target, folder), entry.degradation, entry.dataset)
    return dict(zip(_KEYS, values, strict=True)) | dict(entry.extra)


def _written(path: Path, folder: Path) -> str:
    path = _absolute(path)
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()


def _absolute(path: Path) -> Path:
    """Without following links: a data set of links stays where the user sees it."""
    return Path(os.path.abspath(path))


def _kind(value: Any) -> str:
    """A JSON value in words, for messages."""
    if value == "":
        return "empty text"
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
