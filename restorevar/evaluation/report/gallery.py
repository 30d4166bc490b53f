"""Pictures for the gallery: of each data set a few, spread evenly over what was gained, so that misses are seen too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ...errors import UserError
from ..rows import Row
from ..webpage import Picture, embed, open_picture
from .measured import Measurements, Variant

#: Side in pixels of what is embedded.
SIDE = 960
#: Protocols whose kept outputs look most like what a user gets, first.
_PREFERRED = ("saved-8bit", "native-rgb", "native-y", "restorevar-512-noref", "restorevar-512")
#: What ranks the images, if it was computed of both.
_RANKING = ("psnr", "ssim")


@dataclass(frozen=True)
class Item:
    """One input, and what is laid over it: outputs by label, and the truth."""

    dataset: str
    image: str
    about: str
    before: Picture
    afters: Sequence[tuple[str, Picture]]


def gallery(
    measurements: Measurements,
    reference: Variant | None,
    per_dataset: int,
    folders: Iterable[Path] = (),
    tell: Callable[[str], None] = lambda line: None,
) -> list[Item]:
    """Only images whose input and output of the reference are at hand; files that cannot be read are told of."""
    if reference is None:
        return []
    find = _Finder(folders)
    items = []
    for protocol, dataset in _sets(measurements, reference, find):
        for row, about in _spread(measurements, measurements.of(reference, protocol, dataset), find, per_dataset):
            others = [
                (v.label, measurements.of(v, protocol, dataset)[row.image].output)
                for v in measurements.methods()
                if v != reference and row.image in measurements.of(v, protocol, dataset)
            ]
            try:
                items.append(_item(row, about, reference.label, others, find))
            except UserError as error:
                tell(str(error))
    return items


class _Finder:
    """Paths as rows have them -> files: from the working folder, or from that of the results."""

    def __init__(self, folders: Iterable[Path]):
        self.folders = (Path(), *folders)

    def __call__(self, path: str | None) -> Path | None:
        candidates = (folder / path for folder in self.folders) if path else ()
        return next((found for found in candidates if found.is_file()), None)


def _sets(measurements: Measurements, reference: Variant, find: _Finder) -> Iterator[tuple[str, str]]:
    """(protocol, data set): each data set once, under the protocol whose outputs are preferred."""
    known = [p for p in _PREFERRED if p in measurements.protocols]
    protocols = known + [p for p in measurements.protocols if p not in known]
    seen: set[str] = set()
    for protocol in protocols:
        for dataset in measurements.datasets(protocol):
            rows = measurements.of(reference, protocol, dataset).values()
            if dataset not in seen and any(find(row.output) and find(row.input) for row in rows):
                seen.add(dataset)
                yield protocol, dataset


def _spread(
    measurements: Measurements, rows: Mapping[str, Row], find: _Finder, count: int
) -> Iterator[tuple[Row, str]]:
    """`count` rows at even ranks of what was gained, with words about it."""
    shown = [row for row in rows.values() if find(row.output) and find(row.input)]
    common = (m for m in (*_RANKING, *shown[0].scores) if all(m in row.scores and m in row.before for row in shown))
    metric = next((m for m in common if measurements.info(m).better), None)
    if metric is not None:
        sign = 1 if measurements.info(metric).better == "higher" else -1
        shown.sort(key=lambda row: sign * (row.scores[metric] - row.before[metric]))
    last = len(shown) - 1
    ranks = [last // 2] if count == 1 else [round(i * last / (count - 1)) for i in range(count)]
    for rank in dict.fromkeys(ranks):
        row = shown[rank]
        place = f"; number {last - rank + 1} of {last + 1} by what it gained" if metric else ""
        yield row, f"{_scores(measurements, row)}{place}"


def _scores(measurements: Measurements, row: Row) -> str:
    """The first two metrics, before and after."""
    parts = []
    for name in [n for n in (*_RANKING, *row.scores) if n in row.scores][:2]:
        info = measurements.info(name)
        before = f"{row.before[name]:.{info.digits}f} to " if name in row.before else ""
        parts.append(f"{info.title} {before}{row.scores[name]:.{info.digits}f}")
    return ", ".join(dict.fromkeys(parts))


def _item(row: Row, about: str, label: str, others: Sequence[tuple[str, str | None]], find: _Finder) -> Item:
    """All pictures at the size of the reference's output: what the protocol squashed is shown squashed."""
    output, given = find(row.output), find(row.input)
    assert output is not None and given is not None
    restored = open_picture(output)
    size = restored.size

    def at_size(image: Image.Image) -> Picture:
        return embed(image, SIDE, size)

    afters = [(label, at_size(restored))]
    afters += [(name, at_size(open_picture(path))) for name, text in others if (path := find(text)) is not None]
    if (truth := find(row.target)) is not None:
        afters.append(("truth", at_size(open_picture(truth))))
    return Item(row.dataset, row.image, about, at_size(open_picture(given)), afters)
