"""What is wrong with a list of pairs: files that cannot be decoded, sizes that differ, copies, leaks between splits."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, is_dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import UserError
from ..images import MAX_PIXELS
from ..images.failures import naming, silence, translating
from ..images.metadata import read_exif
from ..images.opening import identify, open_file, refuse_unsuitable
from .layouts import SPLITS, Index, Layout
from .manifest import Entry

#: Called with how many files have been looked at, and how many there are.
Progress = Callable[[int, int], None]

_SHOWN = 3  # names per line of the summary


@dataclass(frozen=True)
class Unreadable:
    """A file that is not there or cannot be decoded, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class OtherSize:
    """A pair of which the two images differ in size; sizes are (width, height), upright."""

    image: Path
    target: Path
    image_size: tuple[int, int]
    target_size: tuple[int, int]

    @property
    def border(self) -> int | None:
        """How many pixels the truth is larger on every side, if it is so evenly (RESIDE indoor: 10)."""
        wide, high = (t - i for t, i in zip(self.target_size, self.image_size, strict=True))
        return wide // 2 if wide == high > 0 and wide % 2 == 0 else None


@dataclass(frozen=True)
class Overlap:
    """The same picture in two splits, or here and in another manifest."""

    path: Path
    place: str
    twin: Path
    twin_place: str


@dataclass(frozen=True)
class Count:
    """Pairs found in a part of a data set, beside the published number or numbers (none: nobody says)."""

    split: str
    subset: str
    found: int
    published: tuple[int, ...] = ()
    source: str = ""

    @property
    def agrees(self) -> bool:
        return not self.published or self.found in self.published


@dataclass
class Audit:
    """Everything found; `pairs` are those that can be used. Copies and overlaps are told, not left out."""

    pairs: list[Entry]
    missing_truth: list[Path] = field(default_factory=list)
    unused_truth: list[Path] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    other_size: list[OtherSize] = field(default_factory=list)
    duplicates: list[tuple[Path, ...]] = field(default_factory=list)
    overlap: list[Overlap] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)


@dataclass(frozen=True)
class _Look:
    """A decoded file. The digest is that of its pixels: a copy saved in another lossless format has the same."""

    size: tuple[int, int] = (0, 0)
    digest: str = ""
    error: str = ""


def audit_index(
    index: Index,
    check: bool = True,
    against: Mapping[str, Sequence[Entry]] | None = None,
    progress: Progress = lambda done, total: None,
) -> Audit:
    """Audit what a layout found. Without `check` no file is opened: only names and numbers are told."""
    result = audit(index.complete, against, progress) if check else Audit(list(index.complete))
    result.missing_truth, result.unused_truth = index.missing_truth, index.unused_truth
    result.counts = count(index.complete, index.layout, index.split)
    return result


def audit(
    entries: Sequence[Entry],
    against: Mapping[str, Sequence[Entry]] | None = None,
    progress: Progress = lambda done, total: None,
) -> Audit:
    """Decode every file of the pairs, compare sizes, and look for copies.

    against   further manifests by name, such as the test sets of a training set: pictures they share are overlaps
    """
    against = against or {}
    everything = [*entries, *(entry for others in against.values() for entry in others)]
    looks = _look_at({path: None for entry in everything for path in (entry.image, entry.target)}, progress)
    result = Audit([])
    result.unreadable = [Unreadable(path, look.error) for path, look in looks.items() if look.error]
    for entry in entries:
        image, target = looks[entry.image], looks[entry.target]
        if image.error or target.error:
            continue
        if image.size == target.size:
            result.pairs.append(entry)
        else:
            result.other_size.append(OtherSize(entry.image, entry.target, image.size, target.size))
    result.duplicates = _duplicates(entries, looks)
    result.overlap = [*_between_splits(entries, looks), *_with_others(entries, against, looks)]
    return result


def count(entries: Sequence[Entry], layout: Layout, split: str = "all") -> list[Count]:
    """Pairs per part of the split, in the order of the layout's table; parts of which nothing was found have 0."""
    found = Counter((entry.split, str(entry.extra.get("subset", ""))) for entry in entries)
    parts = [part for part in layout.parts if split in ("all", part.split)]
    counts = [Count(p.split, p.subset, found.pop((p.split, p.subset), 0), p.published, p.source) for p in parts]
    return counts + [Count(*part, number) for part, number in found.items()]


# ------------------------------------------------------------------------------------------------ looking at files


def _look_at(paths: Iterable[Path], progress: Progress) -> dict[Path, _Look]:
    paths = list(paths)
    looks: dict[Path, _Look] = {}
    # Pillow's warnings are silenced around the pool, for they can be silenced for the whole process only.
    with silence(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for path, look in zip(paths, _in_blocks(pool, paths), strict=True):
            looks[path] = look
            progress(len(looks), len(paths))
    return looks


def _in_blocks(pool: ThreadPoolExecutor, paths: Sequence[Path], block: int = 512) -> Iterator[_Look]:
    """`pool.map` with few files under way: some sets have hundreds of thousands."""
    for start in range(0, len(paths), block):
        yield from pool.map(_look, paths[start : start + block])


def _look(path: Path) -> _Look:
    """Like `read_photo`, but without the metadata, and free to run beside others."""
    try:
        with naming(path), open_file(path) as stream:
            with translating("cannot be read"):
                data = BytesIO(stream.read())
            with translating("is damaged or not supported"):
                image = identify(data)
                refuse_unsuitable(image, data, MAX_PIXELS)
            with translating("is damaged or incomplete"):
                image.load()
                orientation, _ = read_exif(image)
                width, height = image.size
                return _Look((height, width) if orientation >= 5 else (width, height), _digest(image))
    except UserError as error:
        return _Look(error=str(error))


def _digest(image: Image.Image) -> str:
    pixels = image if image.mode == "RGB" or image.mode.startswith("I") else image.convert("RGB")
    return hashlib.sha256(f"{pixels.mode} {pixels.size} ".encode() + pixels.tobytes()).hexdigest()


# --------------------------------------------------------------------------------------------------------- copies


def _duplicates(entries: Sequence[Entry], looks: Mapping[Path, _Look]) -> list[tuple[Path, ...]]:
    """Degraded images of one split that are the same picture. Truths are shared by many in most sets."""
    groups: dict[tuple[str, str], dict[Path, None]] = defaultdict(dict)
    for entry in entries:
        if not looks[entry.image].error:
            groups[entry.split, looks[entry.image].digest][entry.image] = None
    return [tuple(paths) for paths in groups.values() if len(paths) > 1]


def _between_splits(entries: Sequence[Entry], looks: Mapping[Path, _Look]) -> list[Overlap]:
    """Pictures of one split, degraded or not, that are in an earlier one too."""
    pictures = {split: _pictures((e for e in entries if e.split == split), looks) for split in SPLITS}
    overlaps: list[Overlap] = []
    for later, split in enumerate(SPLITS):
        for earlier in SPLITS[:later]:
            overlaps += _shared(pictures[split], split, pictures[earlier], earlier)
    return overlaps


def _with_others(
    entries: Sequence[Entry], against: Mapping[str, Sequence[Entry]], looks: Mapping[Path, _Look]
) -> list[Overlap]:
    ours = _pictures(entries, looks)
    return [
        overlap for name, others in against.items() for overlap in _shared(ours, "here", _pictures(others, looks), name)
    ]


def _pictures(entries: Iterable[Entry], looks: Mapping[Path, _Look]) -> dict[str, list[Path]]:
    """Digest -> the files that show this picture."""
    pictures: dict[str, list[Path]] = defaultdict(list)
    for path in {path: None for entry in entries for path in (entry.image, entry.target)}:
        if not looks[path].error:
            pictures[looks[path].digest].append(path)
    return pictures


def _shared(
    ours: Mapping[str, Sequence[Path]], place: str, others: Mapping[str, Sequence[Path]], other_place: str
) -> Iterator[Overlap]:
    for digest, paths in ours.items():
        if digest in others:
            yield from (Overlap(path, place, others[digest][0], other_place) for path in paths)


# ------------------------------------------------------------------------------------------------------- in words


def count_lines(counts: Sequence[Count]) -> list[str]:
    """A table of what was found beside what was published, and a line on the parts that are not there."""
    width = max([len("subset"), *(len(c.subset) for c in counts)])
    lines = [f"{'split':<7}{'subset':<{width}}{'found':>9}  published"]
    for c in counts:
        if c.found:
            numbers = " or ".join(f"{number:,}" for number in c.published) or "not known"
            verdict = "" if c.agrees else "  DIFFERS"
            lines.append(f"{c.split or '-':<7}{c.subset or '-':<{width}}{c.found:>9,}  {numbers}{verdict}")
    absent = [" ".join(filter(None, (c.split, c.subset))) for c in counts if not c.found]
    return [*lines, f"not here: {', '.join(absent)}"] if absent else lines


def problem_lines(audit: Audit, root: Path) -> list[str]:
    """One line for each kind of problem there is, with the first few names, relative to `root`."""

    def line(what: str, items: Sequence[Any], name: Callable[[Any], str]) -> Iterator[str]:
        if items:
            shown = ", ".join(name(item) for item in items[:_SHOWN])
            yield f"{len(items):,} {what}: {shown}{', ...' if len(items) > _SHOWN else ''}"

    def short(path: Path) -> str:
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)

    def sizes(pair: OtherSize) -> str:
        (w, h), (v, g) = pair.image_size, pair.target_size
        return f"{short(pair.image)} ({w}x{h}, truth {v}x{g})"

    borders = Counter(pair.border for pair in audit.other_size if pair.border)
    around = "".join(f"; {n:,} truths have a border of {b} px to be cut off" for b, n in borders.items())
    return [
        *line("degraded images without truth", audit.missing_truth, short),
        *line("truths of no degraded image", audit.unused_truth, short),
        *line("unreadable files", audit.unreadable, lambda bad: bad.reason.replace(str(bad.path), short(bad.path))),
        *line(f"pairs that differ in size{around}", audit.other_size, sizes),
        *line("pictures more than once", audit.duplicates, lambda group: " = ".join(map(short, group[:2]))),
        *line(
            "pictures in two places",
            audit.overlap,
            lambda o: f"{short(o.path)} ({o.place}) = {short(o.twin)} ({o.twin_place})",
        ),
    ]


def as_report(audit: Audit) -> dict[str, Any]:
    """The whole audit for a JSON file; of the good pairs only their number."""
    problems = {item.name: getattr(audit, item.name) for item in fields(audit) if item.name != "pairs"}
    return {"pairs": len(audit.pairs), **{name: _plain(value) for name, value in problems.items()}}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
