"""Checks: whether outputs can be what the peer made of the inputs. All raise UserError, one line."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import UserError
from .job import Item, Job
from .peer import Peer

#: Clocks of two machines may differ by so many seconds.
_CLOCKS = 5.0
#: Standard deviation below which an image is of one colour: any method may leave it as it is.
_FLAT = 1.0
#: Correlations of thumbnails. A set of outputs with a lower median has nothing to do with its inputs ...
_UNLIKE = 0.2
#: ... and an output below the first that is closer to another input by the second has changed places with it.
_OWN, _CLOSER = 0.5, 0.3
_THUMBNAIL = 32


def check_files(peer: Peer, job: Job, root: Path, paths: Sequence[str]) -> dict[str, Path]:
    """Key -> its one output below `root`, where images lie at these relative paths."""
    claimed = peer.claim(job, paths)
    names = {item.key: item.image for item in job.items}
    taken = {path for files in claimed.values() for path in files}
    strays = [path for path in paths if path not in taken and not peer.is_aside(path)]
    strays += [path for key, files in claimed.items() if key not in names for path in files]
    if lost := [item for item in job.items if item.key not in claimed]:
        number = f"{len(lost)} of {len(job.items)} outputs are missing"
        raise UserError(f"{root}: {number}, the first is of {lost[0].image} ({lost[0].key})")
    if strays:
        raise UserError(
            f"{root}: {len(strays)} images are of no input of this job, the first is {strays[0]}: from another run?"
        )
    for key, files in claimed.items():
        if len(files) > 1:
            raise UserError(f"{root}: {len(files)} outputs for {names[key]}: {', '.join(sorted(files)[:3])}")
    found = {key: root / files[0] for key, files in claimed.items()}
    for key, path in found.items():
        if os.stat(path).st_mtime < job.prepared - _CLOCKS:
            raise UserError(
                f"{path}: is older than the job, so it is not the output for {names[key]}: from another run?"
            )
    return found


def check_size(peer: Peer, path: Path, fed: tuple[int, int], size: tuple[int, int]) -> None:
    """`size`: of the output file; `fed`: that in which the image was given to the peer. (width, height)"""
    wanted = peer.given_size(fed, size)
    if wanted != size:
        asked = "its shape" if wanted is None else "x".join(map(str, wanted))
        raise UserError(
            f"{path}: is {size[0]}x{size[1]} pixels, not {asked}, for an image that {peer.title} was given in "
            f"{fed[0]}x{fed[1]}"
        )


@dataclass
class Comparison:
    """What is remembered of each image, and what can be told when all were seen."""

    peer: Peer
    job: Job
    _same: dict[bytes, tuple[Item, bytes]] = field(default_factory=dict)
    _copies: list[Item] = field(default_factory=list)
    _items: list[Item] = field(default_factory=list)
    _inputs: list[np.ndarray] = field(default_factory=list)
    _outputs: list[np.ndarray] = field(default_factory=list)

    def see(self, item: Item, fed: np.ndarray, output: np.ndarray) -> None:
        """One image as it was given to the peer, and as it came back; both [H, W, 3] uint8 of one size."""
        if fed.std() < _FLAT:
            return
        if np.array_equal(fed, output):
            self._copies.append(item)
        self._alike(item, fed, output)
        self._items.append(item)
        self._inputs.append(_thumbnail(fed))
        self._outputs.append(_thumbnail(output))

    def _alike(self, item: Item, fed: np.ndarray, output: np.ndarray) -> None:
        """The same output for two different inputs is no output of one of them."""
        other, other_fed = self._same.setdefault(_digest(output), (item, _digest(fed)))
        if other_fed != _digest(fed):
            what = f"the output for {item.image} is that for {other.image}, pixel for pixel"
            raise UserError(f"{self.peer.title}: {what}")

    def check(self) -> None:
        """After the last image."""
        title, number = self.peer.title, len(self.job.items)
        if self._copies and self.peer.changes(self.job):
            what = f"{len(self._copies)} of {number} outputs are their inputs unchanged"
            raise UserError(f"{title}: {what}, the first is {self._copies[0].image}: did it run?")
        if not self._items:
            return
        inputs, outputs = np.stack(self._inputs), np.stack(self._outputs)
        own = np.sum(inputs * outputs, axis=1)
        self._check_places(inputs, outputs, own)
        if np.median(own) < _UNLIKE:
            raise UserError(f"{title}: outputs bear no resemblance to their inputs: were its weights loaded?")

    def _check_places(self, inputs: np.ndarray, outputs: np.ndarray, own: np.ndarray) -> None:
        """Outputs under the name of another image are the easiest mistake with names that are numbers."""
        for start in range(0, len(outputs), 256):
            rows = slice(start, start + 256)
            others = outputs[rows] @ inputs.T
            nearest = others.argmax(axis=1)
            wrong = (own[rows] < _OWN) & (others.max(axis=1) > own[rows] + _CLOSER)
            for i in np.flatnonzero(wrong):
                item, other = self._items[start + i], self._items[nearest[i]]
                what = f"the output for {item.image} looks like {other.image}"
                raise UserError(f"{self.peer.title}: {what}: did they change places?")


def check_out(out: Path, mark: str) -> None:
    """Whether results may go to this folder: it is new, empty, or holds an earlier collection (with `mark`)."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is not a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / mark).is_file():
        raise UserError(f"{out}: is not empty, and holds no outputs of a peer")


def target_names(items: Iterable[Item]) -> dict[str, str]:
    """Key -> place of the result: <dataset>/<image> with the suffix .png, added where two would have one name."""
    plain: dict[str, list[Item]] = {}
    for item in items:
        stem = f"{item.dataset}/{item.image}".rpartition(".")[0] if "." in item.image.rpartition("/")[2] else ""
        plain.setdefault(stem or f"{item.dataset}/{item.image}", []).append(item)
    names: dict[str, str] = {}
    for stem, same in plain.items():
        for item in same:
            name = stem if len(same) == 1 else f"{item.dataset}/{item.image}"
            if ".." in name.split("/") or name.startswith("/"):
                raise UserError(f"{item.source}: its name {name} leads out of the folder of results")
            names[item.key] = f"{name}.png"
    return names


def _digest(image: np.ndarray) -> bytes:
    return hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).digest()


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """Gray, small, without brightness and contrast: unit vectors whose product is a correlation."""
    small = Image.fromarray(image).convert("L").resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)
    vector = np.asarray(small, dtype=np.float64).ravel()
    vector = vector - vector.mean()
    return (vector / max(float(np.linalg.norm(vector)), 1e-6)).astype(np.float32)
