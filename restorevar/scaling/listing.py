"""Which photos: a folder, a pattern, one photo, or a manifest; by path or URL. As a stream, never as a whole.

What is held at once is the names of one folder (of a pattern on a URL: all its matches).
"""

from __future__ import annotations

import glob
import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import UserError
from ..images import is_image_path
from . import manifests, places
from .items import Entry, Item, fitting, locate, name_of


@dataclass(frozen=True)
class Source:
    """What is to be listed.

    text    folder, pattern, photo or manifest; path or URL
    root    outputs mirror the tree below it; "": the folder listed, or that of the manifest
    column  of paths, in Parquet
    suffix  of the outputs, where they get another format; tells photos that would have one output
    apart   a folder that is not listed: that of the outputs, should it lie inside
    """

    text: str
    root: str = ""
    column: str = "path"
    suffix: str | None = None
    apart: str = ""


def list_items(source: Source) -> Iterator[Item]:
    """The photos in an order that is the same each time, unless files come or go. Raises UserError.

    A row of a manifest that cannot be is an item with a flaw, so that one bad row costs a line and not the rest.
    """
    entries, root = _entries(source)
    seen: dict[str, str] = {}  # output -> source, of one folder: others cannot have outputs there
    folder = None
    number = -1
    for number, entry in enumerate(entries):
        name, flaw = entry.name or name_of(entry.source, root), entry.flaw
        if not flaw and not fitting(name):
            flaw = f"the name {name!r} does not stay below the destination"
        if source.suffix is not None and not flaw:
            if posixpath.dirname(name) != folder:
                folder, seen = posixpath.dirname(name), {}
            other = seen.setdefault(str(PurePosixPath(name).with_suffix(source.suffix)), entry.source)
            if other != entry.source:
                flaw = f"{other} is written to the same output"
        yield Item(number, entry.source, name, flaw)
    if number < 0:
        raise UserError(f"{source.text}: no images in it")


def _entries(source: Source) -> tuple[Iterator[Entry], str]:
    """The photos, and the root that their names start from."""
    text = source.text
    if manifests.is_manifest(text):
        folder = _parent(text)
        entries = (
            entry if entry.flaw else Entry(locate(entry.source, folder), entry.name)
            for entry in manifests.read_entries(text, source.column)
        )
        return entries, locate(source.root, folder) if source.root else folder
    if places.is_folder(text):
        return (Entry(file) for file in _images_below(text, source.apart)), source.root or text
    if places.exists(text):
        return iter([Entry(text)]), source.root or _parent(text)
    if not glob.has_magic(text):
        raise UserError(f"{text}: no such file or folder")
    return (Entry(file) for file in _matches(text)), source.root or _fixed_part(text)


def _images_below(folder: str, apart: str) -> Iterator[str]:
    """The photos in a folder and its subfolders, sorted within each; hidden ones left out."""
    path = places.local_path(folder)
    if path is not None:
        results = places.local_path(apart)
        hidden = results.resolve() if apart and results is not None and results.resolve() != path.resolve() else None
        for parent, folders, files in os.walk(path):
            folders[:] = sorted(name for name in folders if hidden is None or Path(parent, name).resolve() != hidden)
            yield from (os.path.join(parent, name) for name in sorted(files) if is_image_path(name))
        return
    with places.reaching(folder, "listed"):
        system, place = places.file_system(folder)
        inside = places.file_system(apart)[1].rstrip("/") if places.scheme(apart) == places.scheme(folder) else None
        if inside == place.rstrip("/"):
            inside = None
        for parent, folders, files in system.walk(place, on_error="raise", detail=True):
            kept = {name: folders[name] for name in sorted(folders)}
            folders.clear()  # in place, so that the walk goes on as told
            folders.update((name, kept[name]) for name in kept if posixpath.join(parent, name).rstrip("/") != inside)
            for name in sorted(name for name in files if is_image_path(name)):
                yield places.join(folder, posixpath.relpath(posixpath.join(parent, name), place))


def _matches(pattern: str) -> Iterator[str]:
    path = places.local_path(pattern)
    if path is not None:
        found = sorted(file for file in glob.iglob(str(path), recursive=True) if os.path.isfile(file))
    else:
        with places.reaching(pattern, "listed"):
            system, place = places.file_system(pattern)
            found = [system.unstrip_protocol(file) for file in sorted(system.glob(place))]
    yield from (file for file in found if is_image_path(file))


def _fixed_part(pattern: str) -> str:
    """The folders before the first one with a wildcard."""
    parts = pattern.split("/")
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return "/".join(parts[:first]) or ("/" if pattern.startswith("/") else ".")


def _parent(text: str) -> str:
    path = places.local_path(text)
    return str(path.parent) if path is not None else text.rstrip("/").rsplit("/", 1)[0]
