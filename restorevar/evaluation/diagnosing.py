"""How often the diagnosis is right, on images whose degradation is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.manifest import read_manifest
from ..diagnosis import NAMES, Diagnosis
from ..diagnosis.report import strength_of
from ..errors import UserError
from .pairs import Pair, find_pairs

CLEAN = "clean"

Look = Callable[[Path], Diagnosis]


@dataclass(frozen=True)
class Judged:
    """One image: what it suffers from by its folder or manifest, how strongly if that is known, and what was found."""

    task: str
    path: Path
    diagnosis: Diagnosis
    strength: float | None = None

    def has(self, name: str) -> bool:
        return name in self.task.split("+")


def judge(root: Path, look: Look, tell: Callable[[str], None]) -> list[Judged]:
    """Every input below ROOT/<task>/input, or ROOT/<task>. Where no task is "clean", the targets are the clean ones.

    What cannot be read is told in a line and left out. Raises UserError if nothing is left.
    """
    judged = []
    for task, path, strength in _material(root):
        try:
            judged.append(Judged(task, path, look(path), strength))
        except UserError as error:
            tell(str(error))
    if not judged:
        raise UserError(f"{root}: none of its images can be read")
    return judged


def _material(root: Path) -> Iterator[tuple[str, Path, float | None]]:
    pairs = _pairs(root)
    strengths = _strengths(root / "pairs.json")
    for pair in pairs:
        yield pair.task, pair.input, strengths.get(pair.input.resolve())
    if all(pair.task != CLEAN for pair in pairs):
        yield from ((CLEAN, target, None) for target in dict.fromkeys(pair.target for pair in pairs) if target)


def _pairs(root: Path) -> list[Pair]:
    if (root / "input").is_dir() or any(root.glob("*/input")):
        return find_pairs(root)
    return find_pairs(input=root)


def _strengths(manifest: Path) -> dict[Path, float]:
    """Image -> strength, as `restorevar degrade` notes it; nothing where there is no such manifest."""
    if not manifest.is_file():
        return {}
    entries = read_manifest(manifest)
    return {e.image.resolve(): strength_of(float(e.extra["strength"])) for e in entries if "strength" in e.extra}


# ------------------------------------------------------------------------------------------------ the figures


def figures(judged: Sequence[Judged]) -> dict[str, Any]:
    """Plain JSON types: per task what is told of its images, per degradation how often that is right.

    tasks          images, share told that it needs nothing, share told of each degradation, mean strengths
    degradations   images with it; precision and recall of being told of it; auc of its strength over all images;
                   error and bias (told minus true) of the strength, where that is known
    """
    tasks = list(dict.fromkeys(one.task for one in judged))
    present = [name for name in NAMES if any(one.has(name) for one in judged)]
    return {
        "tasks": {task: _of_task([one for one in judged if one.task == task]) for task in tasks},
        "degradations": {name: _of_degradation(name, judged) for name in present},
    }


def _of_task(judged: Sequence[Judged]) -> dict[str, Any]:
    found = [one.diagnosis for one in judged]
    return {
        "images": len(found),
        "needs_nothing": _mean([d.needs_nothing for d in found]),
        "seen": {name: _mean([name in d.seen for d in found]) for name in NAMES},
        "strength": {name: _mean([d.strengths[name] for d in found]) for name in NAMES},
    }


def _of_degradation(name: str, judged: Sequence[Judged]) -> dict[str, Any]:
    has = np.array([one.has(name) for one in judged])
    told = np.array([name in one.diagnosis.seen for one in judged])
    strength = np.array([one.diagnosis.strengths[name] for one in judged])
    differences = [one.diagnosis.strengths[name] - one.strength for one in judged if one.has(name) and one.strength]
    return {
        "images": int(has.sum()),
        "precision": float((has & told).sum() / told.sum()) if told.any() else None,
        "recall": float((has & told).sum() / has.sum()),
        "auc": _auc(strength[has], strength[~has]),
        "strength_error": float(np.abs(differences).mean()) if differences else None,
        "strength_bias": float(np.mean(differences)) if differences else None,
    }


def _auc(with_it: np.ndarray, without: np.ndarray) -> float | None:
    """How often an image with the degradation is told stronger than one without; a draw counts half."""
    if not len(without):
        return None
    above = (with_it[:, None] > without[None]).mean() + (with_it[:, None] == without[None]).mean() / 2
    return float(above)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def tables(found: dict[str, Any]) -> str:
    """The figures as two tables of Markdown."""
    lines = [f"| photos of | n | need nothing | {' | '.join(NAMES)} |", "|---" * (3 + len(NAMES)) + "|"]
    for task, row in found["tasks"].items():
        shares = " | ".join(f"{row['seen'][name]:.0%} ({row['strength'][name]:.2f})" for name in NAMES)
        lines.append(f"| {task} | {row['images']} | {row['needs_nothing']:.0%} | {shares} |")
    columns = ("precision", "recall", "auc", "strength_error", "strength_bias")
    lines += ["", f"| degradation | n | {' | '.join(columns)} |".replace("_", " "), "|---" * (2 + len(columns)) + "|"]
    for name, row in found["degradations"].items():
        cells = " | ".join("" if row[column] is None else f"{row[column]:.2f}" for column in columns)
        lines.append(f"| {name} | {row['images']} | {cells} |")
    return "\n".join(lines)
