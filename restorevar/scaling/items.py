"""One photo of a large job: where it is, and the name of its output, which mirrors the tree it lies in."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from . import places


@dataclass(frozen=True)
class Item:
    """One photo of the listing.

    number  its place in the listing, from 0
    source  path or URL
    name    of the output, below the destination, with slashes; its suffix is the input's
    flaw    why it cannot be restored, where the listing itself tells
    """

    number: int
    source: str
    name: str
    flaw: str = ""


@dataclass(frozen=True)
class Entry:
    """A photo that a listing names: its source, and the name of its output if the listing has one."""

    source: str
    name: str = ""
    flaw: str = ""


def locate(text: str, folder: str) -> str:
    """Where a path of a manifest leads: relative ones start from `folder`, that of the manifest."""
    if places.scheme(text) or Path(text).is_absolute():
        return text
    base = places.local_path(folder)
    if base is not None:
        return str(base / text)
    kind = places.scheme(folder)
    return f"{kind}://" + posixpath.normpath(posixpath.join(folder[len(kind) + 3 :], text))


def name_of(source: str, root: str) -> str:
    """The name of the output: the path below `root`, or else the whole path from its own root on.

    Different sources have different names. ".." is resolved, symbolic links are not.
    """
    path = _parts(source)
    top = _parts(root)
    below = path[len(top) :] if path[: len(top)] == top else path
    return str(PurePosixPath(*below))


def fitting(name: str) -> bool:
    """Whether a name that somebody gave stays below the destination."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\\" not in name


def _parts(text: str) -> tuple[str, ...]:
    """Of the normalised absolute path; of a URL with what stands for its host, without its scheme."""
    path = places.local_path(text)
    if path is not None:
        plain = Path(posixpath.normpath(path.absolute().as_posix()))
        return plain.parts[1:]
    whole = text[len(places.scheme(text)) + 3 :]
    return tuple(part for part in posixpath.normpath(whole).split("/") if part not in ("", "."))
