"""Held-out photographs in a folder -> pairs to be scored, the synthetic ones made here, always the same.

    ROOT/clean/<set>/                     clean photographs: synthetic pairs of every task, seed 0
    ROOT/pairs/<set>/{input,target}/      pairs as they are
    ROOT/real/<kind>/                     photographs without truth

Any of the three may be missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ..data.degradations import DEGRADATIONS
from ..data.manifest import read_manifest
from ..data.mixes import CLEAN
from ..data.photos import find_photos
from ..data.synthesis import make_pairs
from ..errors import UserError
from .pairs import Pair, find_pairs

#: Each is a data set of its own. Clean photographs as input: are they left alone?
TASKS = (*DEGRADATIONS, CLEAN)
SEED = 0


def held_out_pairs(root: Path, work: Path, tell: Callable[[str], None] = lambda line: None) -> list[Pair]:
    """All of them; synthetic pairs are written below `work` if they are not there. UserError if there is none."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    pairs = [*_synthetic(root / "clean", work, tell), *_given(root / "pairs"), *_real(root / "real")]
    if not pairs:
        raise UserError(f"{root}: none of clean/<set>, pairs/<set>/input and real/<kind> is there")
    return pairs


def synthetic_name(photos: str, task: str) -> str:
    """Wherever a figure stands, the name says that its pairs are synthetic."""
    return f"{photos}-synthetic-{task}"


def _synthetic(folder: Path, work: Path, tell: Callable[[str], None]) -> Iterator[Pair]:
    for photos in _folders(folder):
        out = work / "pairs" / photos.name
        if not _is_made(photos, out):
            tell(f"making synthetic pairs of {photos.name}")
            make_pairs([photos], out, TASKS, SEED)
        for task in TASKS:
            name = synthetic_name(photos.name, task)
            yield from find_pairs(input=out / task / "input", target=out / task / "target", dataset=name, task=task)


def _is_made(photos: Path, out: Path) -> bool:
    """The manifest is written last, so it is there when all pairs are; it tells of other photographs, too."""
    manifest = out / "pairs.json"
    if not manifest.is_file():
        return False
    wanted = {f"{task}/{photo.stem}" for photo in find_photos(photos) for task in TASKS}
    made = {f"{entry.image.parts[-3]}/{entry.image.stem}" for entry in read_manifest(manifest) if entry.image.is_file()}
    return wanted == made


def _given(folder: Path) -> Iterator[Pair]:
    for pairs in _folders(folder):
        yield from find_pairs(input=pairs / "input", target=pairs / "target", dataset=pairs.name)


def _real(folder: Path) -> Iterator[Pair]:
    for photos in _folders(folder):
        yield from find_pairs(input=photos, dataset=f"real-{photos.name}", task=photos.name)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
