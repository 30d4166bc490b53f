"""Outputs of several methods -> a page that hides whose they are, and the key that tells.

What could give a method away stays out of the page: names, folders, metadata, sizes (an output must have the size of
its input), and the order, which is drawn anew for every question.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from ...data.manifest import check_place, write_text
from ...data.photos import find_photos
from ...errors import UserError
from ..webpage import Page, embed, open_picture
from .key import CRITERIA, POINTS, Criterion, Key, Question

HERE = Path(__file__).parent
TITLE = "Which picture is restored best?"


@dataclass(frozen=True)
class Options:
    """What `restorevar study make` takes. `seed` None: an order that nobody can find out again without the key."""

    methods: Sequence[tuple[str, Path]]
    inputs: Path
    out: Path
    key: Path | None = None  #: default: beside the page, .key.json
    questions: int | None = None  #: so many inputs, drawn alike from each subfolder; default: all
    criteria: Sequence[Criterion] = CRITERIA
    title: str = TITLE
    side: int = 1024
    seed: int | None = None

    @property
    def key_path(self) -> Path:
        return self.key or self.out.with_suffix(".key.json")


@dataclass
class _Item:
    """An input and the outputs of all methods."""

    name: str
    dataset: str
    input: Path
    outputs: dict[str, Path] = field(default_factory=dict)


def make(options: Options, tell: Callable[[str], None] = lambda line: None) -> Key:
    """Write the page and its key; `tell` hears what is left out. Raises UserError."""
    _check(options)
    rng: random.Random = random.SystemRandom() if options.seed is None else random.Random(options.seed)
    items = _choose(_find(options, tell), options.questions, rng)
    key = Key(
        study=f"{rng.getrandbits(48):012x}",
        title=options.title,
        methods=tuple(name for name, _ in options.methods),
        criteria=tuple(options.criteria),
        questions=tuple(
            Question(f"q{i + 1}", item.name, item.dataset, tuple(rng.sample([*item.outputs], len(item.outputs))))
            for i, item in enumerate(items)
        ),
    )
    pictures = [_pictures(item, question, options.side) for item, question in zip(items, key.questions, strict=True)]
    key.write(options.key_path)  # first: a page without its key is of no use to anybody
    write_text(_page(key, pictures).html(), options.out)
    return key


def _check(options: Options) -> None:
    names = [name for name, _ in options.methods]
    if len(names) < 2:
        raise UserError("a study compares: give two methods or more, each as METHOD=DIR")
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"two methods are named {min(twice)}")
    for folder in (options.inputs, *(folder for _, folder in options.methods)):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
    if options.questions is not None and options.questions < 1:
        raise UserError("--questions is a number from 1")
    if not 64 <= options.side <= 4096:
        raise UserError("--size lies between 64 and 4096 pixels")
    for place in (options.out, options.key_path):
        check_place(place)
    if options.key_path.exists():
        raise UserError(f"{options.key_path}: exists; ratings of that study could not be read without it")


# -------------------------------------------------------------------------------------------------- the photos


def _find(options: Options, tell: Callable[[str], None]) -> list[_Item]:
    """Inputs of which every method has an output, matched by path without suffix."""
    outputs = {name: _by_stem(folder) for name, folder in options.methods}
    items, missing = [], dict.fromkeys(outputs, 0)
    inputs = _by_stem(options.inputs)
    for stem, path in inputs.items():
        found = {name: files[stem] for name, files in outputs.items() if stem in files}
        for name in outputs.keys() - found.keys():
            missing[name] += 1
        if len(found) == len(outputs):
            items.append(_Item(stem, Path(stem).parent.as_posix().removeprefix("."), path, found))
    for name, count in missing.items():
        if count:
            tell(f"{name}: no output of {count} of {len(inputs)} inputs, which are left out")
    if not items:
        raise UserError(f"{options.inputs}: there is no input of which every method has an output of the same name")
    return items


def _by_stem(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in find_photos(folder)}


def _choose(items: Sequence[_Item], count: int | None, rng: random.Random) -> list[_Item]:
    """`count` of them, the data sets in turn so that each gets as many as can be."""
    sets: dict[str, list[_Item]] = {}
    for item in rng.sample(items, len(items)):
        sets.setdefault(item.dataset, []).append(item)
    turns = [(turn, name) for name, found in sets.items() for turn in range(len(found))]
    chosen = [sets[name][turn] for turn, name in sorted(turns)[:count]]
    return rng.sample(chosen, len(chosen))


def _pictures(item: _Item, question: Question, side: int) -> dict[str, Any]:
    given = open_picture(item.input)
    shown = []
    for method in question.order:
        output = open_picture(item.outputs[method])
        if output.size != given.size:
            sizes = "{}x{}, not {}x{} as its input".format(*output.size, *given.size)
            raise UserError(f"{item.outputs[method]}: is {sizes}; it would be told by that")
        shown.append(embed(output, side).uri)
    picture = embed(given, side)
    return {
        "id": question.id,
        "input": picture.uri,
        "outputs": shown,
        "width": picture.width,
        "height": picture.height,
    }


# ---------------------------------------------------------------------------------------------------- the page


def _page(key: Key, pictures: Sequence[dict[str, Any]]) -> Page:
    data = {
        "study": key.study,
        "points": POINTS,
        "criteria": [asdict(criterion) for criterion in key.criteria],
        "questions": list(pictures),
    }
    return Page(key.title, _body(key), (HERE / "study.css", HERE / "study.js"), data)


def _body(key: Key) -> str:
    count, methods = len(key.questions), len(key.methods)
    criteria = "".join(
        f"<li>{escape(c.question)} 1: {escape(c.low)}, {POINTS}: {escape(c.high)}.</li>" for c in key.criteria
    )
    return f"""<main>
<h1>{escape(key.title)}</h1>
<noscript><p>This page needs JavaScript. It loads nothing from anywhere and sends nothing.</p></noscript>
<section id="start">
<p>You will see {count} photographs, each with {methods} restored versions in random order. Please rate every version
from 1 to {POINTS} in {len(key.criteria)} respects:</p>
<ol>{criteria}</ol>
<p>A picture opens large when you click it or press Enter on it, with a slider between it and the original.
Your ratings are kept in this browser, so you can stop and go on later; at the end you download them as a file
and send it back. Nothing is sent by itself.</p>
<form id="enter">
<label for="rater">Your name, or any name you like</label>
<input id="rater" required maxlength="80" autocomplete="off">
<button class="main">Begin, or go on</button>
</form>
<p id="storage" class="warn" hidden>This browser keeps nothing of this page: rate in one go, and download at the
end.</p>
</section>
<section id="work" hidden>
<nav aria-label="questions">
<button type="button" id="previous">Back</button>
<p id="place" role="status"></p>
<button type="button" id="next" class="main">Next</button>
<progress id="done" aria-label="rated"></progress>
</nav>
<h2 id="heading" tabindex="-1"></h2>
<div id="question"></div>
<nav aria-label="at the end">
<button type="button" id="further" class="main">Next</button>
<button type="button" id="download">Download my ratings</button>
<p id="left" role="status"></p>
</nav>
</section>
</main>"""
