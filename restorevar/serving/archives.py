"""Zip archives of images: written while they are sent, and opened as what a stranger sent.

Python's zipfile reads the whole list of an archive into memory before one can ask how long it is. So the end record is
looked at first, here, and the list is refused by its size. What is unpacked is counted as it comes, whatever it was
said to be.
"""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ..errors import UserError
from ..images import TooLarge

#: Bytes of the list of an archive per file that it may hold: fixed fields, a long name, extra fields.
LIST_ENTRY = 512
#: Bytes read at once.
CHUNK = 1 << 20
#: A file may be told to grow this many times; images, which are compressed already, hardly do. A few small ones may.
MAX_RATIO, SMALL = 200, 1 << 20

_END_RECORD, _ZIP64_LOCATOR = b"PK\5\6", b"PK\6\7"
_SIGNS: tuple[bytes, ...] = (
    *(b"PK\3\4", b"PK\5\6", b"PK\7\x08"),
    *(b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"),
    *(b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\7"),
)


class TooMuch(TooLarge):
    """More files or bytes than are taken."""


@dataclass(frozen=True)
class ZipLimits:
    """How much an archive may hold: files, bytes of one of them, bytes of all, unpacked."""

    files: int
    file_bytes: int
    total_bytes: int


def is_zip(head: bytes) -> bool:
    """By the first bytes: the name does not count. An image with an archive behind it is an image."""
    return head.startswith((b"PK\3\4", b"PK\5\6"))


def is_archive(head: bytes) -> bool:
    """Whether the first 512 bytes are those of an archive of a usual kind."""
    return head.startswith(_SIGNS) or head[257:262] == b"ustar"


def members(stream: IO[bytes], limits: ZipLimits) -> Iterator[tuple[str, Iterator[bytes]]]:
    """(name, its bytes in pieces) of each file in the archive; names are relative, with "/" and without "..".

    The pieces are to be read before the next file is asked for. Folders, and what a Mac adds, are passed over.
    Raises UserError, before anything is unpacked if it can be told by then: more files or bytes than the limits,
    bytes that grow too much, names that lead elsewhere, links, encrypted files, archives within the archive, damage.
    """
    _check_end(stream, limits)
    with _translating(), zipfile.ZipFile(stream) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        for entry in entries:
            _check_entry(entry)
        wanted = [entry for entry in entries if not _is_litter(entry.filename)]
        _check_sizes(wanted, limits)
        left = limits.total_bytes
        for entry in wanted:
            with archive.open(entry) as file:
                pieces = _Pieces(file, min(left, limits.file_bytes))
                yield entry.filename, iter(pieces)
                left -= pieces.count


@contextmanager
def _translating() -> Iterator[None]:
    """Whatever zipfile, and what it unpacks with, raises on a broken archive, as a UserError."""
    try:
        yield
    except (UserError, GeneratorExit, MemoryError):
        raise
    except Exception as error:  # BadZipFile, zlib.error, OSError, ValueError, struct.error, ...
        raise UserError("is a damaged zip archive") from error


def pack(files: Iterable[tuple[str, Path]]) -> Iterator[bytes]:
    """A zip archive of (name in it, file), in pieces, without a copy in memory or on the disk.

    Nothing is compressed: images are already. Raises OSError for a file that is gone, after part of it was given.
    """
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:
        for name, path in files:
            entry = zipfile.ZipInfo(name)  # of 1980: when it was restored is nobody's business
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            with path.open("rb") as file, archive.open(entry, "w", force_zip64=True) as target:
                while piece := file.read(CHUNK):
                    target.write(piece)
                    yield pipe.take()
    yield pipe.take()


class _Pipe(io.RawIOBase):
    """A file for zipfile to write to, which cannot go back."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """What was written since the last time."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


class _Pieces:
    """The bytes of one file, counted."""

    def __init__(self, file: IO[bytes], limit: int):
        self.file, self.limit, self.count = file, limit, 0

    def __iter__(self) -> Iterator[bytes]:
        while piece := self._read():
            if not self.count and is_archive(piece[:512]):
                raise UserError("holds an archive within the archive")
            self.count += len(piece)
            if self.count > self.limit:
                raise TooMuch("unpacks to more than the limit")
            yield piece

    def _read(self) -> bytes:
        with _translating():
            return self.file.read(CHUNK)


def _check_end(stream: IO[bytes], limits: ZipLimits) -> None:
    """Finds the end record and refuses a list that is too long to be read."""
    size = stream.seek(0, 2)
    stream.seek(max(0, size - (1 << 16) - 64))
    tail = stream.read()
    stream.seek(0)
    at = tail.rfind(_END_RECORD)
    if at < 0 or len(tail) < at + 22:
        raise UserError("is a damaged zip archive (it has no end record)")
    if _ZIP64_LOCATOR in tail[max(0, at - 64) : at]:
        raise TooMuch("is a zip64 archive, made for more than is taken here; send several smaller ones")
    count, list_bytes = struct.unpack("<HI", tail[at + 10 : at + 16])
    if count > 2 * limits.files or list_bytes > 2 * limits.files * LIST_ENTRY:  # twice: folders, a Mac's litter
        raise TooMuch(f"holds more than {limits.files} files")


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name, original = entry.filename, entry.orig_filename
    path = PurePosixPath(name)
    odd = "\\" in original or "\0" in original or any(":" in part for part in path.parts)
    if odd or path.is_absolute() or ".." in path.parts or not path.parts:
        raise UserError("holds a file whose name leads out of the archive")
    if entry.flag_bits & 0x1:
        raise UserError("is encrypted")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise UserError("holds a link or a special file")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UserError("is compressed in a way other than Deflate")


def _check_sizes(entries: list[zipfile.ZipInfo], limits: ZipLimits) -> None:
    if not entries:
        raise UserError("is an archive without files")
    if len(entries) > limits.files:
        raise TooMuch(f"holds more than {limits.files} files")
    if max(entry.file_size for entry in entries) > limits.file_bytes:
        raise TooMuch(f"holds a file of more than {limits.file_bytes} bytes")
    if sum(entry.file_size for entry in entries) > limits.total_bytes:
        raise TooMuch(f"unpacks to more than {limits.total_bytes} bytes")
    for entry in entries:
        if entry.file_size > SMALL and entry.file_size > MAX_RATIO * max(1, entry.compress_size):
            raise UserError("holds a file that grows too much when unpacked")


def _is_litter(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return parts[0] == "__MACOSX" or parts[-1] in (".DS_Store", "Thumbs.db", "desktop.ini")
