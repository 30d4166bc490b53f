"""Make the gallery: thirty photos degraded by the project's own engine, restored by the default model, measured.

    python examples/make_gallery.py docs/images/gallery docs/gallery.md

Writes a strip (before, after, truth) of each, the page that shows them and, beside the folder of the strips, the
README's: readme-<kind>.jpg, of each of three kinds the median.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path

import numpy as np
from pictures import CREDITS, photo, side_by_side
from PIL import Image

from restorevar import Restorer
from restorevar.data.manifest import check_place, write_text
from restorevar.data.mixes import CLEAN
from restorevar.data.synthesis import degrade_photo, seed_for
from restorevar.evaluation.metrics import find_metric
from restorevar.images import Photo, write_photo

COMMAND = "python examples/make_gallery.py docs/images/gallery docs/gallery.md"
#: Task of the engine -> heading. In the order of the page.
KINDS = {
    "haze": "Haze",
    "rain": "Rain",
    "snow": "Snow",
    "lowlight": "Low light",
    "blur": "Blur",
    CLEAN: "Clean",
}
#: The middles of five equal parts of the engine's range, 0 (barely visible) to 1 (heavy).
STRENGTHS = (0.1, 0.3, 0.5, 0.7, 0.9)
#: One of the air, one of what falls through it, one of the sensor.
README_KINDS = ("haze", "rain", "lowlight")
#: Pixels across a panel, and JPEG quality: thirty strips shall stay below 1.5 MB. No panel is wider than its photo.
PANEL, QUALITY = 300, 80
README_PANEL, README_QUALITY = 420, 85


@dataclass(frozen=True)
class Example:
    """What is shown is fixed by names and places in lists. `strength` means nothing to a clean photo."""

    photo: str
    kind: str
    strength: float

    @property
    def file(self) -> str:
        return f"{self.kind}-{self.photo}.jpg"


#: Every photo in every kind; the strengths go round, so that each kind, and each photo, has each of them once.
EXAMPLES = tuple(
    Example(name, kind, STRENGTHS[(k + p) % len(STRENGTHS)])
    for k, kind in enumerate(KINDS)
    for p, name in enumerate(CREDITS)
)


@dataclass(frozen=True, eq=False)
class Shown:
    """An example as it came out: [H, W, 3] uint8 each."""

    example: Example
    before: np.ndarray
    after: np.ndarray
    truth: np.ndarray

    @cached_property
    def decibels(self) -> tuple[float, float]:
        """PSNR before and after, protocol saved-8bit; 100 where nothing differs from the truth."""
        score = find_metric("psnr").start("cpu")
        before, after, truth = (pixels / 255 for pixels in (self.before, self.after, self.truth))
        return score(before, truth), score(after, truth)

    @property
    def gain(self) -> float:
        """dB. Of a clean photo, which can only lose, they say which one is the median."""
        before, after = self.decibels
        return after - before


def make(folder: Path, page: Path, restorer: Restorer, examples: Sequence[Example] = EXAMPLES) -> list[Shown]:
    """Write folder/<kind>-<photo>.jpg, the page, and readme-<kind>.jpg beside the folder; returns what is shown.

    Each kind of README_KINDS must be among the examples. Raises UserError for places that cannot be written to.
    """
    check_place(page)
    shown = []
    for example in examples:
        shown.append(_restored(example, restorer))
        _write_strip(folder / example.file, shown[-1], PANEL, QUALITY)
    for kind in README_KINDS:
        strip = median(one for one in shown if one.example.kind == kind)
        _write_strip(folder.parent / f"readme-{kind}.jpg", strip, README_PANEL, README_QUALITY)
    write_text(_page(shown, restorer, Path(os.path.relpath(folder, page.parent)).as_posix()), page)
    return shown


def median(shown: Iterable[Shown]) -> Shown:
    """The one with the median gain; of two in the middle the lesser."""
    ranked = sorted(shown, key=lambda one: one.gain)
    return ranked[(len(ranked) - 1) // 2]


def _restored(example: Example, restorer: Restorer) -> Shown:
    clean = photo(example.photo)
    chance = seed_for(0, example.photo, example.kind)
    degraded = degrade_photo(clean, example.kind, chance, (example.strength, example.strength))
    before, truth = (pixels.permute(1, 2, 0).contiguous().numpy() for pixels in (degraded, clean))
    return Shown(example, before, restorer(before), truth)


def _write_strip(path: Path, shown: Shown, width: int, quality: int) -> None:
    height = round(width * shown.truth.shape[0] / shown.truth.shape[1])
    panels = [
        Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
        for pixels in (shown.before, shown.after, shown.truth)
    ]
    strip = Photo(np.asarray(side_by_side(panels)), format="JPEG", coding={"subsampling": 2})  # colour at half the size
    write_photo(path, strip, quality=quality, overwrite=True)


# ---------------------------------------------------------------------------------------------------- the page


def _page(shown: Sequence[Shown], restorer: Restorer, folder: str) -> str:
    """`folder` of the strips as the page names it."""
    kinds = {kind: [one for one in shown if one.example.kind == kind] for kind in KINDS}
    parts = [*_head(len(shown), restorer), _summary(kinds)]
    for kind, ones in kinds.items():
        if ones:
            parts += [f"## {KINDS[kind]}", *_section(kind, ones, folder)]
    return "\n\n".join([*parts, *_credits()]) + "\n"


def _head(count: int, restorer: Restorer) -> list[str]:
    settings = restorer.settings
    asked = ", ".join(f"{name} {settings[name]}" for name in ("device", "dtype", "fidelity", "speed"))
    return [
        "# Gallery",
        f"**Synthetic, all of it**: {count} examples made of photographs bundled with scikit-image "
        "([credits](#credits)), degraded by this project's own engine. None of the photographs was trained on, but the "
        "engine is the one that makes the training pairs: expect less of real weather ([results](results.md), "
        "[model card](model-card.md)). In each strip: before, after, truth.",
        "**Nothing is picked.** The rule, set before any of them was looked at: each of five photographs in each of "
        f"five degradations, and clean. The strengths {', '.join(map(str, STRENGTHS))} (0 is barely visible, 1 "
        "heavy) go round, so that each degradation and each photograph has each of them once; all other chance is "
        "seeded by the two names. The README shows the median of three kinds: haze, rain and low light.",
        "dB: PSNR of the whole photograph at its own size, RGB, 8 bit (protocol saved-8bit), before it was shrunk for "
        f"this page. Written by `{COMMAND}`, {date.today().isoformat()}. Model: {restorer.name}, sha256 "
        f"{restorer.sha256[:12] or 'none'}, {asked}.",
    ]


def _summary(kinds: dict[str, list[Shown]]) -> str:
    lines = ["| | better in | worst | median | best |", "|---|---:|---:|---:|---:|"]
    for kind, ones in kinds.items():
        if not ones:
            continue
        if kind == CLEAN:
            figures = [f"{one.decibels[1]:.2f} dB" for one in _worst_median_best(ones)]
            lines.append(f"| clean, what comes back | - | {' | '.join(figures)} |")
        else:
            better = sum(one.gain > 0 for one in ones)
            figures = [f"{one.gain:+.2f} dB" for one in _worst_median_best(ones)]
            lines.append(f"| {KINDS[kind].lower()} | {better} of {len(ones)} | {' | '.join(figures)} |")
    return "\n".join(lines)


def _worst_median_best(ones: Sequence[Shown]) -> tuple[Shown, Shown, Shown]:
    ranked = sorted(ones, key=lambda one: one.gain)
    return ranked[0], median(ones), ranked[-1]


def _section(kind: str, ones: Sequence[Shown], folder: str) -> list[str]:
    """Strips by rising strength, each above its caption."""
    parts = []
    shown_in_readme = median(ones) if kind in README_KINDS else None
    for one in sorted(ones, key=lambda one: one.example.strength):
        parts.append(f"![{KINDS[kind]}, {one.example.photo}: before, after, truth]({folder}/{one.example.file})")
        parts.append(f"*{caption(one)}{'; the median, in the README' if one is shown_in_readme else ''}*")
    return parts


def caption(shown: Shown) -> str:
    """Photo, degradation and strength, dB before and after."""
    example, (before, after) = shown.example, shown.decibels
    if example.kind == CLEAN:
        return f"{example.photo}, clean: comes back at {after:.2f} dB"
    verdict = ", worse" if shown.gain < 0 else ""
    name = KINDS[example.kind].lower()
    return f"{example.photo}, {name} {example.strength}: {before:.2f} -> {after:.2f} dB ({shown.gain:+.2f}{verdict})"


def _credits() -> list[str]:
    rows = [f"| {name} | {credit} | {terms} |" for name, (credit, terms) in CREDITS.items()]
    return [
        "## Credits",
        "\n".join(["| photograph | credit | terms |", "|---|---|---|", *rows]),
        "Terms as scikit-image states them. These five are all photographs of a scene that come with its package "
        "and are declared free; of the others, the motorcycle has no stated terms, the clock is blurred by itself, and "
        "textures, coins, scans, microscope and space are no scenes.",
    ]


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]), Restorer.from_pretrained(dtype="fp32"))
