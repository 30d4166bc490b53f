"""Files by path or by URL: local ones through pathlib, all others through fsspec (s3://, gs://, memory://, ...)."""

from __future__ import annotations

import posixpath
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ..data.manifest import write_text
from ..errors import UserError, first_line
from ..errors import reading as reading_file
from .extra import check_fsspec

#: Where a put is seen whole or not at all; elsewhere it goes to a temporary name and is moved.
ATOMIC = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "memory"}

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+://")  # two letters at least: C:// is a drive


def scheme(text: str) -> str:
    """Of a URL, in small letters; "" of a path."""
    match = _URL.match(text)
    return match.group()[:-3].lower() if match else ""


def local_path(text: str) -> Path | None:
    """The path that a path or a file:// URL names; None for other URLs."""
    kind = scheme(text)
    if not kind:
        return Path(text)
    return Path(text[len(kind) + 3 :]) if kind in ("file", "local") else None


def absolute(text: str) -> str:
    """What is at the same place for every worker: local paths from the root, URLs as they are."""
    path = local_path(text)
    return text if path is None else str(path.absolute())


def join(base: str, name: str) -> str:
    """A name with slashes below a folder or URL."""
    path = local_path(base)
    return f"{base.rstrip('/')}/{name}" if path is None else str(path / name)


def file_system(url: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path there. UserError for kinds that are unknown or not installed."""
    check_fsspec(url)
    from fsspec.core import url_to_fs

    try:
        return url_to_fs(url)
    except ImportError as error:
        raise UserError(f"{url}: a package for {scheme(url)}:// is missing ({first_line(error)})") from None
    except ValueError as error:
        raise UserError(f"{url}: not a URL that fsspec knows ({first_line(error)})") from None


@contextmanager
def reaching(url: str, how: str) -> Iterator[None]:
    """What the file system of a URL refuses becomes a UserError that names it.

    Each driver fails in its own way, so whatever is not clearly the file's own fault passes for a fault of the
    network, which another try may mend.
    """
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{url}: no such file") from None
    except (PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise UserError(f"{url}: cannot be {how} ({error.strerror or first_line(error)})") from None
    except Exception as error:
        raise UserError(f"{url}: cannot be {how} ({first_line(error)})") from ConnectionError(str(error))


def exists(text: str) -> bool:
    path = local_path(text)
    if path is not None:
        return path.exists()
    with reaching(text, "looked for"):
        system, place = file_system(text)
        return bool(system.exists(place))


def is_folder(text: str) -> bool:
    path = local_path(text)
    if path is not None:
        return path.is_dir()
    with reaching(text, "looked for"):
        system, place = file_system(text)
        return bool(system.isdir(place))


@contextmanager
def open_binary(text: str) -> Iterator[IO[bytes]]:
    """A file open for reading, a part at a time. Raises UserError."""
    path = local_path(text)
    if path is not None:
        with reading_file(text):
            stream = path.open("rb")
        with stream:
            yield stream
        return
    with reaching(text, "read"):
        system, place = file_system(text)
        stream = system.open(place, "rb")
    with stream:
        yield stream


def fetch(url: str, path: Path) -> None:
    """Copies what a URL names to a local file. Raises UserError."""
    with reaching(url, "read"):
        system, place = file_system(url)
        system.get_file(place, str(path))


def put_text(text: str, place: str) -> None:
    """Writes a text file by path or URL, whole or not at all, making its folder. Raises UserError."""
    path = local_path(place)
    if path is None:
        put(text.encode(), place)
    else:
        write_text(text, path)


def put(data: bytes, url: str) -> None:
    """Writes the file that a URL names, whole or not at all, making its folder. Raises UserError."""
    with reaching(url, "written"):
        system, place = file_system(url)
        if scheme(url) in ATOMIC:
            system.pipe_file(place, data)
            return
        folder = posixpath.dirname(place)
        system.makedirs(folder, exist_ok=True)
        temporary = posixpath.join(folder, f".restorevar-{uuid.uuid4().hex}.part")
        try:
            system.pipe_file(temporary, data)
            system.mv(temporary, place)
        except BaseException:  # an interrupt from the keyboard too
            with suppress(Exception):
                system.rm_file(temporary)
            raise
