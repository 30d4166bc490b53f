"""Restored segments of a clip in a hidden folder beside its result, so that an interrupted run goes on.

    .NAME.restorevar-KEY/00000.mkv   the frames of a segment
                         00000.json  its times; written last: where it is, the segment is whole
                         00000.npz   what steadying holds after it (temporal.py), if anything

KEY comes from the clip's content and all that its frames depend on: with other settings it is another folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError

#: Bytes that are looked at, at the beginning, in the middle and at the end: videos are large.
_GLIMPSE = 1 << 20


@dataclass(frozen=True)
class Segments:
    """The folder of one clip's segments. Raises UserError where it cannot be written."""

    folder: Path

    @classmethod
    def beside(cls, target: Path, key: str) -> Segments:
        return cls(target.parent / f".{target.name}.restorevar-{key}")

    def prepare(self) -> None:
        """Makes the folder; removes what an interruption has left half done."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            whole = {path.stem for path in self.folder.glob("*.json")}
            for path in self.folder.iterdir():
                if path.name.split(".")[0] not in whole:
                    path.unlink()
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written ({error.strerror or error})") from error

    def media(self, index: int) -> Path:
        return self.folder / f"{index:05d}.mkv"

    def finish(self, index: int, times: list[tuple[int, int]], state: Mapping[str, np.ndarray]) -> None:
        """Marks a segment as whole: its frames' (pts, duration) in the order in which they are shown."""
        try:
            if state:
                with (self.folder / f"{index:05d}.npz").open("wb") as stream:
                    np.savez(stream, **dict(state))  # type: ignore[arg-type]
            part = self.folder / f"{index:05d}.part"
            part.write_text(json.dumps({"times": times}), encoding="utf-8")
            os.replace(part, self.folder / f"{index:05d}.json")
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written ({error.strerror or error})") from error

    def finished(self) -> int:
        """How many segments are whole, from the first on."""
        index = 0
        while self.media(index).exists() and (self.folder / f"{index:05d}.json").exists():
            index += 1
        return index

    def times(self, index: int) -> list[tuple[int, int]]:
        """Raises UserError if the folder was tampered with."""
        path = self.folder / f"{index:05d}.json"
        try:
            return [(int(pts), int(duration)) for pts, duration in json.loads(path.read_text())["times"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: is damaged; remove its folder to begin anew") from error

    def state(self, index: int) -> dict[str, np.ndarray]:
        """What was held after a segment; nothing if nothing was. Raises UserError as `times`."""
        path = self.folder / f"{index:05d}.npz"
        if not path.exists():
            return {}
        try:
            with np.load(path) as stored:
                return dict(stored)
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: is damaged; remove its folder to begin anew") from error

    def remove(self) -> None:
        """With those of interrupted runs of other settings: the result is there."""
        stem = self.folder.name.rpartition("-")[0]
        for folder in self.folder.parent.iterdir():
            if folder.name.rpartition("-")[0] == stem and folder.is_dir():
                shutil.rmtree(folder, ignore_errors=True)


def key_of(source: Path, settings: Mapping[str, Any]) -> str:
    """Twelve letters that stand for a clip and all its result depends on."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    size = source.stat().st_size
    with source.open("rb") as stream:
        for place in (0, size // 2, max(0, size - _GLIMPSE)):
            stream.seek(place)
            digest.update(stream.read(_GLIMPSE))
    digest.update(str(size).encode())
    return digest.hexdigest()[:12]
