"""Pair: a degraded image and, where there is one, its truth. Found in folders or in a manifest."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..data.manifest import PUBLISHED_NAMES, read_manifest
from ..errors import UserError
from ..images import is_image_path

#: What images suffer from, in the order of the paper's tables; other words are taken as they are.
TASKS = ("haze", "snow", "rain", "lowlight", "blur", "mixed", "clean")

#: Names of folders that say nothing about what lies in them.
_NAMELESS = ("input", "inputs", "images", "degraded", "lq")


@dataclass(frozen=True)
class Pair:
    """One image to be scored.

    dataset   where it comes from; "CDD" and "LOLBlur" in it matter to the protocol restorevar-512-noref
    task      one of TASKS, or another word
    image     its name, unique in the dataset: the file's, with as many folders before it as are needed
    """

    dataset: str
    task: str
    image: str
    input: Path
    target: Path | None = None


def find_pairs(
    root: str | os.PathLike[str] | None = None,
    *,
    input: str | os.PathLike[str] | None = None,
    target: str | os.PathLike[str] | None = None,
    manifest: str | os.PathLike[str] | None = None,
    dataset: str | None = None,
    task: str | None = None,
) -> list[Pair]:
    """The pairs of exactly one source, in a fixed order.

    root       ROOT/<task>/{input,target}, or ROOT/{input,target}
    input      a folder with subfolders, and in `target` the truths under the same names (suffixes may differ);
               without `target` the images have no truth
    manifest   a JSON list as in data/manifest.py

    `dataset` and `task` replace what folders and manifest say. Raises UserError if there is no pair, or an image has
    no truth where others have.
    """
    if sum(source is not None for source in (root, input, manifest)) != 1:
        raise UserError("give one source of pairs: a folder of <task>/input and <task>/target, --input or --manifest")
    if target is not None and input is None:
        raise UserError("--target goes with --input")
    if root is not None:
        pairs = _in_root(Path(root))
    elif input is not None:
        pairs = _in_folders(Path(input), None if target is None else Path(target))
    else:
        assert manifest is not None
        pairs = _in_manifest(Path(manifest))
    pairs = [replace(p, dataset=dataset or p.dataset, task=task_named(task) if task else p.task) for p in pairs]
    return _without_repeats(pairs)


def first_of_each(pairs: Iterable[Pair], limit: int | None) -> list[Pair]:
    """The first `limit` pairs of each data set; all of them without a limit."""
    seen: Counter[str] = Counter()
    chosen = []
    for pair in pairs:
        seen[pair.dataset] += 1
        if limit is None or seen[pair.dataset] <= limit:
            chosen.append(pair)
    return chosen


def task_named(text: str) -> str:
    """The one of TASKS that a folder ("haze_sots") or a manifest ("Low-light") means, or else the text as it is."""
    published = {name.lower(): task for task, name in PUBLISHED_NAMES.items()}
    lower = text.lower()
    if lower in published:
        return published[lower]
    first = re.split(r"[_\-. ]", lower)[0]
    return first if first in TASKS else text


def _in_root(root: Path) -> list[Pair]:
    """Pairs below ROOT/<task>; the data set is called after both folders unless the inner one says more than a task."""
    folders = [root] if (root / "input").is_dir() else sorted(p.parent for p in root.glob("*/input") if p.is_dir())
    pairs = []
    for folder in folders:
        name = Path(os.path.abspath(folder)).name
        plain = name in TASKS and folder != root
        dataset = f"{Path(os.path.abspath(root)).name}/{name}" if plain else name
        targets = folder / "target"
        found = _in_folders(folder / "input", targets if targets.is_dir() else None)
        pairs += [replace(pair, dataset=dataset, task=task_named(name)) for pair in found]
    if not pairs:
        raise UserError(f"{root}: no pairs; expected <task>/input and <task>/target folders")
    return pairs


def _in_folders(inputs: Path, targets: Path | None) -> list[Pair]:
    """Images below `inputs` with those of the same relative name below `targets`; a subfolder may name the task."""
    truths = None if targets is None else by_stem(targets)
    absolute = Path(os.path.abspath(inputs))
    name = absolute.parent.name if absolute.name.lower() in _NAMELESS else absolute.name
    pairs = []
    for path in _images(inputs):
        relative = path.relative_to(inputs)
        truth = None
        if truths is not None:
            candidates = truths.get(relative.with_suffix("").as_posix(), [])
            if len(candidates) != 1:
                raise UserError(f"{path}: {len(candidates) or 'no'} files of that name in {targets}")
            truth = candidates[0]
        inner = task_named(relative.parts[0]) if len(relative.parts) > 1 else ""
        task = inner if inner in TASKS else task_named(name)
        pairs.append(Pair(name, task, relative.as_posix(), path, truth))
    if not pairs:
        raise UserError(f"{inputs}: no images")
    return pairs


def _in_manifest(manifest: Path) -> list[Pair]:
    entries = read_manifest(manifest)
    if not entries:
        raise UserError(f"{manifest}: no pairs")
    return [Pair(e.dataset, task_named(e.degradation), e.image.name, e.image, e.target) for e in entries]


def _without_repeats(pairs: Sequence[Pair]) -> list[Pair]:
    """Pairs listed once each, with names that are unique in their data set (GoPro repeats the names of its files)."""
    targets: dict[tuple[str, Path], Path | None] = {}
    for pair in pairs:
        key = (pair.dataset, pair.input)
        if targets.setdefault(key, pair.target) != pair.target:
            raise UserError(f"{pair.input}: has two truths, {targets[key]} and {pair.target}")
    pairs = list({(pair.dataset, pair.input): pair for pair in pairs}.values())
    repeated = Counter((pair.dataset, pair.image) for pair in pairs)
    for dataset in {dataset for (dataset, _), number in repeated.items() if number > 1}:
        parts = _parts_needed(pair.input for pair in pairs if pair.dataset == dataset)
        pairs = [
            replace(pair, image="/".join(pair.input.parts[-parts:])) if pair.dataset == dataset else pair
            for pair in pairs
        ]
    return pairs


def _parts_needed(paths: Iterable[Path]) -> int:
    """How many of the last parts of the paths tell them all apart."""
    split = [path.parts for path in paths]
    for number in range(1, max(map(len, split))):
        if len({parts[-number:] for parts in split}) == len(split):
            return number
    return max(map(len, split))


def by_stem(folder: Path) -> dict[str, list[Path]]:
    """The images below a folder, sorted, by their relative name without suffix. Raises UserError if it is none."""
    stems: dict[str, list[Path]] = {}
    for path in _images(folder):
        stems.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
    return stems


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder}: is not a folder")
    return sorted(path for path in folder.rglob("*") if is_image_path(path) and path.is_file())
