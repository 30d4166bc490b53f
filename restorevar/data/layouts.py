"""Folder layouts of the published data sets, as they come when unpacked -> pairs.

A layout says how the folders of degraded images and of truths are called; wherever two of them lie side by side, their
images are paired. So the root may be the folder of the data set, one above it, or a single split. Names of folders
and files may differ from the table in upper and lower case.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import UserError
from ..images import is_image_path
from .manifest import Entry

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Part:
    """A part of a data set of which the size was published.

    pattern     found in the lower-case path of the part's folder; of several parts the one found deepest counts
    published   numbers of pairs that are right: more than one where releases differ; none where nobody says
    source      where the numbers are from
    """

    split: str
    subset: str
    pattern: str
    published: tuple[int, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class Layout:
    """How a data set lies on disk.

    dataset       its name in manifests; {variant} becomes the variant
    degradation   its degradation in manifests; "" leaves that to the names of the folders
    degraded      names of folders of degraded images; every one that is there is used
    truth         names of folders of truths; the first that is there is used
    tree          what the user should have, for messages
    variants      folders one of which can be asked for instead of the first of `degraded`
    key           what the names (without suffix, lower case) of a degraded image and of its truth have in common
    flat_truth    the truths do not repeat the subfolders of the degraded images
    exclude       pattern of paths that belong to a sister data set
    """

    dataset: str
    degradation: str
    degraded: tuple[str, ...]
    truth: tuple[str, ...]
    tree: str
    parts: tuple[Part, ...] = ()
    variants: tuple[str, ...] = ()
    key: Callable[[str], str] = str.lower
    flat_truth: bool = False
    exclude: str = ""


@dataclass
class Index:
    """What a layout found. `complete` pairs only by name: no file was opened."""

    layout: Layout
    root: Path
    split: str = "all"
    complete: list[Entry] = field(default_factory=list)
    missing_truth: list[Path] = field(default_factory=list)
    unused_truth: list[Path] = field(default_factory=list)


# ------------------------------------------------------------------------------------------------ the data sets


def _before_underscore(stem: str) -> str:
    """1400_1, 1_1_0.90179 and 0001_0.8_0.2 are hazy versions of 1400, 1 and 0001."""
    return stem.split("_")[0]


def _without_rain(stem: str) -> str:
    """The original Rain100L and Rain100H pair rain-001 with norain-001."""
    return re.sub(r"^(no)?rain-", "", stem)


def _under_display(dataset: str, sister: str) -> Layout:
    source = "Zhou et al. 2020 (UDC 2020 challenge)"
    return Layout(
        dataset=dataset,
        degradation=dataset.lower(),
        degraded=("lq", "input"),
        truth=("hq", "gt", "target"),
        tree=f"{dataset.title()}_{{train,val,test}}/{{LQ,HQ}} or {dataset}/{{train,val,test}}/{{LQ,HQ}}",
        parts=(
            Part("train", "", r"(?<![a-z])train", (240,), source),
            Part("val", "", r"(?<![a-z])val", (30,), source),
            Part("test", "", r"(?<![a-z])test", (30,), source),
        ),
        exclude=sister,
    )


_RAIN_SETS = "Jiang et al. 2020 (MSPFN), Zamir et al. 2021 (MPRNet)"
#: The folders of CDD-11 beside clear/; the paper is about the first.
_CDD = (
    *("haze_rain", "low", "haze", "rain", "snow"),
    *("low_haze", "low_rain", "low_snow", "haze_snow", "low_haze_rain", "low_haze_snow"),
)

LAYOUTS: Mapping[str, Layout] = {
    "reside": Layout(
        dataset="RESIDE",
        degradation="Haze",
        degraded=("hazy", "haze", "synthetic", "part1", "part2", "part3", "part4"),
        truth=("clear", "gt", "original"),
        tree="ITS/{hazy,clear}, OTS/{hazy,clear} (or OTS_BETA/{haze,clear}), SOTS/{indoor,outdoor}/{hazy,gt}",
        parts=(
            Part("train", "ITS", r"(?<![a-z])its(?![a-z])", (13_990, 110_000), "RESIDE-standard; RESIDE-v0"),
            Part("train", "OTS", r"(?<![a-z])ots(?![a-z])", (313_950, 72_135), "RESIDE-v0; RESIDE-beta"),
            Part("test", "SOTS-indoor", r"sots.*indoor|nyuhaze500", (500,), "Li et al. 2019"),
            Part("test", "SOTS-outdoor", r"sots.*outdoor", (500,), "Li et al. 2019"),
            Part("test", "HSTS", r"(?<![a-z])hsts(?![a-z])", (10,), "Li et al. 2019"),
        ),
        key=_before_underscore,
        flat_truth=True,
    ),
    "snow100k": Layout(
        dataset="Snow100k",  # as the published manifests spell it
        degradation="Snow",
        degraded=("synthetic", "snow", "input"),
        truth=("gt", "target"),
        tree="all/{gt,mask,synthetic}, .../test/Snow100K-{S,M,L}/{gt,mask,synthetic}",
        parts=(
            Part("train", "", r"(?<![a-z])(all|train(ing)?)(?![a-z])", (50_000,), "Liu et al. 2018 (DesnowNet)"),
            Part("test", "Snow100K-S", r"snow100k-s(?![a-z])", (16_611,), "Liu et al. 2018 (DesnowNet)"),
            Part("test", "Snow100K-M", r"snow100k-m(?![a-z])", (16_588,), "Liu et al. 2018 (DesnowNet)"),
            Part("test", "Snow100K-L", r"snow100k-l(?![a-z])", (16_801,), "Liu et al. 2018 (DesnowNet)"),
        ),
    ),
    "rain13k": Layout(
        dataset="Rain13K",
        degradation="Rain",
        degraded=("input", "rain", "rainy"),
        truth=("target", "gt", "norain"),
        tree="train/Rain13K/{input,target}, test/{Test100,Test1200,Test2800,Rain100H,Rain100L}/{input,target}",
        parts=(
            Part(
                "train",
                "",
                r"rain13k|(?<![a-z])train(?![a-z])",
                (13_712, 13_711),
                "MPRNet; its download lacks one (MPRNet issue 74)",
            ),
            Part(
                "test", "Test100", r"test100(?!\d)", (100, 98), f"{_RAIN_SETS}; its download has 98 (MPRNet issue 23)"
            ),
            Part("test", "Test1200", r"test1200", (1_200,), _RAIN_SETS),
            Part("test", "Test2800", r"test2800", (2_800,), _RAIN_SETS),
            Part("test", "Rain100H", r"rain100h", (100,), _RAIN_SETS),
            Part("test", "Rain100L", r"rain100l", (100,), _RAIN_SETS),
        ),
        key=_without_rain,
    ),
    "lolv1": Layout(
        dataset="LOLv1",
        degradation="Low-light",
        degraded=("low", "input"),
        truth=("high", "gt", "target"),
        tree="our485/{low,high}, eval15/{low,high}",
        parts=(
            Part("train", "", r"our485|(?<![a-z])train(?![a-z])", (485,), "Wei et al. 2018 (RetinexNet)"),
            Part("test", "", r"eval15|(?<![a-z])test(?![a-z])", (15,), "Wei et al. 2018 (RetinexNet)"),
        ),
    ),
    "gopro": Layout(
        dataset="GoPro",
        degradation="Motion blur",
        degraded=("blur", "input"),
        truth=("sharp", "target", "gt"),
        tree="{train,test}/GOPR*/{blur,blur_gamma,sharp}",
        parts=(
            Part("train", "", r"(?<![a-z])train(?![a-z])", (2_103,), "Nah et al. 2017"),
            Part("test", "", r"(?<![a-z])test(?![a-z])", (1_111,), "Nah et al. 2017"),
        ),
        variants=("blur", "blur_gamma"),
    ),
    "lhp": Layout(
        dataset="LHP",
        degradation="Rain",
        degraded=("input", "rain", "rainy"),
        truth=("gt", "target"),
        tree="{train,test}/{input,gt}",
        parts=(Part("train", "", r"(?<![a-z])train"), Part("test", "", r"(?<![a-z])test")),
    ),
    "revide": Layout(
        dataset="REVIDE",
        degradation="Haze",
        degraded=("hazy",),
        truth=("gt",),
        tree="{Train,Test}/{hazy,gt}/<scene>",
        parts=(
            Part("train", "", r"(?<![a-z])train", (1_698,), "Zhang et al. 2021"),
            Part("test", "", r"(?<![a-z])test", (284,), "Zhang et al. 2021"),
        ),
    ),
    "toled": _under_display("TOLED", sister="poled"),
    "poled": _under_display("POLED", sister="toled"),
    "lolblur": Layout(
        dataset="LOLBlur",
        degradation="Mixed",
        degraded=("low_blur",),
        truth=("high_sharp_scaled", "high_sharp_original"),
        tree="{train,test}/{low_blur,low_blur_noise,high_sharp_scaled,high_sharp_original}/<video>",
        parts=(
            Part("train", "", r"(?<![a-z])train", (10_200,), "Zhou et al. 2022 (LEDNet): 170 videos of 60 frames"),
            Part("test", "", r"(?<![a-z])test", (1_800,), "Zhou et al. 2022 (LEDNet): 30 videos of 60 frames"),
        ),
        variants=("low_blur", "low_blur_noise"),
    ),
    "cdd": Layout(
        dataset="CDD_{variant}",
        degradation="",
        degraded=_CDD[:1],
        truth=("clear",),
        tree="CDD-11_{train,test}/{clear,haze,rain,haze_rain,...}",
        parts=(
            Part("train", "", r"(?<![a-z])train", (1_183,), "Guo et al. 2024 (OneRestore): 13,013 pairs in 11 kinds"),
            Part("test", "", r"(?<![a-z])test", (200,), "Guo et al. 2024 (OneRestore): 2,200 pairs in 11 kinds"),
        ),
        variants=_CDD,
    ),
    "paired": Layout(
        dataset="",  # the name of the root
        degradation="",
        degraded=(
            *("input", "degraded", "lq", "low", "blur", "blurry", "hazy", "haze"),
            *("rain", "rainy", "snow", "snowy", "synthetic", "noisy"),
        ),
        truth=("target", "gt", "clear", "clean", "high", "sharp", "hq", "normal", "original", "norain"),
        tree="input and target side by side, or degraded|lq|low|blur|hazy|... and gt|clear|high|sharp|...",
    ),
}

#: Words in the names of folders -> degradations.
_WORDS = {
    **dict.fromkeys(("haze", "hazy", "fog", "foggy"), "Haze"),
    **dict.fromkeys(("rain", "rainy"), "Rain"),
    **dict.fromkeys(("snow", "snowy"), "Snow"),
    **dict.fromkeys(("low", "lowlight", "dark"), "Low-light"),
    **dict.fromkeys(("blur", "blurry"), "Motion blur"),
    "clean": "Clean",
}

#: Where no part of a layout is found in a path, these words tell the split.
_SPLIT_WORDS = {
    "train": r"(?<![a-z])train(ing|set)?(?![a-z])",
    "val": r"(?<![a-z])val(id|idation)?(?![a-z])",
    "test": r"(?<![a-z])(test(ing|set)?|eval)(?![a-z])",
}


# ----------------------------------------------------------------------------------------------------- pairing


def scan(name: str, root: str | os.PathLike[str], split: str = "all", variant: str | None = None) -> Index:
    """Pair the images below `root` by their names, folder after folder. No file is opened.

    split     train, val or test: only pairs of that split; all: also those of which no folder tells the split
    variant   another folder of degraded images than the usual one: see `variants` in LAYOUTS

    Raises UserError for an unknown layout, split or variant, a root that is no folder, and when there are no pairs.
    """
    layout = _with_variant(name, variant)
    if split not in (*SPLITS, "all"):
        raise UserError(f"unknown split {split!r}; choose from {', '.join(SPLITS)}, all")
    root = Path(os.path.abspath(root))
    if not root.is_dir():
        raise UserError(f"{root}: {'is not a folder' if root.exists() else 'no such folder'}")
    index = Index(layout, root, split)
    for degraded, truth in _folder_pairs(layout, root):
        part = _part(layout, root, degraded[0].parent)
        if split in ("all", part.split):
            _pair(index, degraded, truth, part)
    if not index.complete:
        wanted = "pairs" if split == "all" else f"pairs of the split {split!r}"
        found = f", only {len(index.missing_truth)} degraded images without a truth" if index.missing_truth else ""
        raise UserError(f"{root}: no {wanted}{found}; the layout {name} is {layout.tree}")
    return index


def _with_variant(name: str, variant: str | None) -> Layout:
    """The layout of that name, set to the variant asked for, or else to its usual one."""
    if name not in LAYOUTS:
        raise UserError(f"unknown layout {name!r}; choose from {', '.join(LAYOUTS)}")
    layout = LAYOUTS[name]
    if variant is None:
        return replace(layout, dataset=layout.dataset.format(variant=layout.degraded[0]))
    if variant.lower() not in layout.variants:
        known = f"choose from {', '.join(layout.variants)}" if layout.variants else "it has none"
        raise UserError(f"unknown variant {variant!r} of the layout {name}: {known}")
    return replace(layout, dataset=layout.dataset.format(variant=variant.lower()), degraded=(variant.lower(),))


def _folder_pairs(layout: Layout, root: Path) -> Iterator[tuple[list[Path], Path | None]]:
    """Folders of degraded images side by side, with the one of their truths; None where there is none."""
    for parent, folders, files in _walk(root):
        if layout.exclude and re.search(layout.exclude, parent.relative_to(root).as_posix().lower()):
            folders.clear()
            continue
        names = {folder.lower(): folder for folder in folders}
        truths = [names[name] for name in layout.truth if name in names]
        degraded = [names[name] for name in layout.degraded if name in names]
        if truths and degraded:
            yield [parent / folder for folder in degraded], parent / truths[0]
            folders[:] = [folder for folder in folders if folder not in (*truths, *degraded)]
        elif parent.name.lower() in layout.degraded and any(map(is_image_path, files)):
            yield [parent], None


def _walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """`os.walk`, sorted, without hidden folders, through links, each folder once. Raises UserError."""

    def fail(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror or error})") from None

    seen: set[str] = set()
    for parent, folders, files in os.walk(root, onerror=fail, followlinks=True):
        place = os.path.realpath(parent)
        if place in seen:  # links may lead in circles
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(parent), folders, sorted(files)


def _part(layout: Layout, root: Path, folder: Path) -> Part:
    """The part of the data set that a folder belongs to, told by the names on the way to it."""
    below = folder.relative_to(root)
    subset = "" if layout.parts else below.as_posix().strip(".")
    words = [Part(split, subset, pattern) for split, pattern in _SPLIT_WORDS.items()]
    way = "/".join((root.name, *below.parts)).lower()
    # The root may itself be one part of a data set; then the folder above it may have to tell which.
    for place, known in ((way, [*layout.parts, *words]), (f"{root.parent.name.lower()}/{way}", layout.parts)):
        found = [(match.end(), part) for part in known for match in re.finditer(part.pattern, place)]
        if found:
            return max(found, key=lambda item: item[0])[1]  # the deepest; among those the first of the table
    return Part("", subset, "")


def _pair(index: Index, degraded: Sequence[Path], truth: Path | None, part: Part) -> None:
    """Add the pairs of folders side by side to the index, and what has no partner."""
    layout = index.layout
    truths = {_key(layout, truth, path): path for path in _images(truth)} if truth else {}
    extra = {key: value for key, value in (("split", part.split), ("subset", part.subset)) if value}
    dataset = layout.dataset or index.root.name
    used = set()
    for folder in degraded:
        degradation = layout.degradation or _degradation(folder)
        for path in _images(folder):
            key = _key(layout, folder, path)
            if key in truths:
                used.add(key)
                index.complete.append(Entry(path, truths[key], degradation, dataset, extra))
            else:
                index.missing_truth.append(path)
    index.unused_truth += [path for key, path in truths.items() if key not in used]


def _images(folder: Path) -> list[Path]:
    return [parent / name for parent, _, files in _walk(folder) for name in files if is_image_path(name)]


def _key(layout: Layout, folder: Path, path: Path) -> tuple[str, str]:
    """Subfolder and name, as far as a degraded image has them in common with its truth."""
    below = "" if layout.flat_truth else path.parent.relative_to(folder).as_posix().lower()
    return below, layout.key(path.stem.lower())


def _degradation(degraded: Path) -> str:
    """What the names of a folder of degraded images, or of the one above, say of the degradation."""
    for name in (degraded.name, degraded.parent.name):
        found = {_WORDS[word] for word in re.split(r"[^a-z]+", name.lower()) if word in _WORDS}
        if found:
            return found.pop() if len(found) == 1 else "Mixed"
    return "Mixed"
