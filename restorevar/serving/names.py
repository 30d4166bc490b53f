"""Names that strangers gave to their files, made fit to be shown, sent back and packed. Never used as paths here."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

from ..images import EXTENSIONS

#: Characters of one part of a name that are kept.
LONGEST = 100
#: What Windows takes for devices, whatever their suffix.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def shown_name(name: str | None, tree: bool = False) -> str:
    """A file name without path, control or direction characters; "photo" if nothing is left.

    `tree` keeps the folders that it names, each made fit the same way.
    """
    parts = [_fit(part) for part in re.split(r"[/\\]", name or "")]
    parts = [part for part in parts if part]
    return "/".join(parts[-8:] if tree else parts[-1:]) or "photo"


def result_name(name: str, format: str) -> str:
    """`name` with a suffix that says the format of the result; its own where that fits."""
    path = PurePosixPath(name)
    if EXTENSIONS.get(path.suffix.lower()) == format:
        return name
    suffix = next(suffix for suffix, known in EXTENSIONS.items() if known == format)
    return name + suffix if path.suffix.lower() not in EXTENSIONS else str(path.with_suffix(suffix))


def distinct(names: list[str]) -> list[str]:
    """The names, later ones numbered where an earlier one is the same (in upper or lower case)."""
    taken: set[str] = set()
    results = []
    for name in names:
        path, number, free = PurePosixPath(name), 1, name
        while free.casefold() in taken:
            number += 1
            free = str(path.with_name(f"{path.stem}-{number}{path.suffix}"))
        taken.add(free.casefold())
        results.append(free)
    return results


def _fit(part: str) -> str:
    text = "".join(c for c in unicodedata.normalize("NFC", part) if c.isprintable() and not 0xD800 <= ord(c) < 0xE000)
    text = re.sub(r'[<>:"|?*]', "_", text).strip(". ")
    path = PurePosixPath(text or "_")
    if len(text) > LONGEST:
        suffix = path.suffix[:8]
        text = text[: LONGEST - len(suffix)].rstrip(". ") + suffix
    return f"_{text}" if _DEVICES.fullmatch(text) else text
