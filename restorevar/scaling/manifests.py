"""Lists of photos in a file: lines of text, JSON, lines of JSON, Parquet. Read as a stream (JSON: as a whole).

    .txt .lst     a path or URL a line; empty lines and those that begin with "#" are passed over
    .jsonl        a path, or an object, a line
    .json         a list of such; also the published manifests of pairs (data/manifest.py), of which the input is taken
    .parquet      a file, or a folder of files; a column of paths

An object has its path under "input", "path" or "image_path", and under "name" the name of the output, if it is not to
follow from the path. The dead letters of a job are such a list: what failed is done by running them as one.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from typing import Any

from ..errors import UserError
from . import places
from .extra import check_parquet
from .items import Entry

#: Keys of an object that may hold the path, best first.
PATH_KEYS = ("input", "path", "image_path")
#: Rows of Parquet read at once.
ROWS = 10_000

_SUFFIXES = (".txt", ".lst", ".json", ".jsonl", ".ndjson", ".parquet", ".pq")


def is_manifest(text: str) -> bool:
    return posixpath.splitext(text.rstrip("/"))[1].lower() in _SUFFIXES


def read_entries(text: str, column: str = "path") -> Iterator[Entry]:
    """The photos of a manifest; rows that cannot be have a flaw. Raises UserError for files that cannot be read."""
    suffix = posixpath.splitext(text.rstrip("/"))[1].lower()
    if suffix in (".parquet", ".pq"):
        return _parquet(text, column)
    if suffix == ".json":
        return _json(text)
    return _lines(text, as_json=suffix in (".jsonl", ".ndjson"))


def _lines(text: str, as_json: bool) -> Iterator[Entry]:
    with places.open_binary(text) as stream:
        for number, raw in enumerate(stream, 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                if not line or (not as_json and line.startswith("#")):
                    continue
                yield _entry(json.loads(line), text, number) if as_json else Entry(line)
            except ValueError:
                yield _flawed(text, number, "is not JSON" if as_json else "is not text in UTF-8")


def _json(text: str) -> Iterator[Entry]:
    with places.open_binary(text) as stream:
        try:
            rows = json.loads(stream.read().decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{text}: is not valid JSON ({error})") from None
    if not isinstance(rows, list):
        raise UserError(f"{text}: is not a manifest: a JSON list is expected")
    for number, row in enumerate(rows, 1):
        yield _entry(row, text, number)


def _parquet(text: str, column: str) -> Iterator[Entry]:
    check_parquet(text)
    import pyarrow as pa
    from pyarrow import parquet

    number = 0
    for file in _parquet_files(text):
        with places.open_binary(file) as stream:
            try:
                content = parquet.ParquetFile(stream)
                names = content.schema_arrow.names
                if column not in names:
                    raise UserError(f"{file}: has no column {column!r} (--column); it has {', '.join(names)}")
                for batch in content.iter_batches(ROWS, columns=[column]):
                    for value in batch.column(0).to_pylist():
                        number += 1
                        yield _entry(value, file, number)
            except pa.ArrowException as error:
                raise UserError(f"{file}: is not valid Parquet ({error})") from None


def _parquet_files(text: str) -> list[str]:
    if not places.is_folder(text):
        return [text]
    path = places.local_path(text)
    if path is not None:
        files = sorted(str(file) for file in path.rglob("*.parquet"))
    else:
        with places.reaching(text, "listed"):
            system, place = places.file_system(text)
            found = sorted(file for file in system.find(place) if file.endswith(".parquet"))
            files = [places.join(text, posixpath.relpath(file, place)) for file in found]
    if not files:
        raise UserError(f"{text}: no Parquet files in this folder")
    return files


def _entry(row: Any, text: str, number: int) -> Entry:
    if isinstance(row, str) and row:
        return Entry(row)
    if isinstance(row, dict):
        source = next((row[key] for key in PATH_KEYS if isinstance(row.get(key), str) and row[key]), None)
        name = row.get("name", "")
        if source is not None and isinstance(name, str):
            return Entry(source, name)
    return _flawed(text, number, "has no path")


def _flawed(text: str, number: int, flaw: str) -> Entry:
    return Entry(f"{text}#{number}", f"row-{number}", f"row {number} of {text} {flaw}")
