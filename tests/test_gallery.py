"""examples/make_gallery.py: its rule, its pictures, its page."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from restorevar.data.synthesis import degrade_photo, seed_for
from restorevar.errors import UserError

CAPTION = re.compile(
    r"!\[[\w ]+, (?P<photo>\w+): before, after, truth\]\((?P<file>\S+)\)\n\n"
    r"\*\w+, (?:[a-z ]+ (?P<strength>0\.\d): (?P<before>[\d.]+) -> |clean: comes back at )(?P<after>[\d.]+) dB"
)


class Darkening:
    """In place of a Restorer: takes ten levels from each sample."""

    name, sha256 = "stand-in", "0123456789abcdef"
    settings: ClassVar = {"device": "cpu", "dtype": "fp32", "fidelity": 1.0, "speed": "best"}

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        return pixels - np.minimum(pixels, 10)


@pytest.fixture
def gallery(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, which sees a small part of each photo."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "examples")
    script, photo = importlib.import_module("make_gallery"), importlib.import_module("pictures").photo
    monkeypatch.setattr(script, "photo", lambda name: photo(name)[:, 100:164, 100:196])
    return script


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    return 10 * np.log10(255**2 / np.mean((image.astype(float) - truth) ** 2))


def test_the_rule_leaves_nothing_to_choose(gallery):
    examples = gallery.EXAMPLES
    assert len(examples) == 30
    assert {(e.photo, e.kind) for e in examples} == set(product(gallery.CREDITS, gallery.KINDS))
    degraded = [e for e in examples if e.kind != "clean"]
    assert Counter((e.kind, e.strength) for e in degraded) == Counter(
        product(list(gallery.KINDS)[:5], gallery.STRENGTHS)
    )
    assert Counter((e.photo, e.strength) for e in degraded) == Counter(product(gallery.CREDITS, gallery.STRENGTHS))


def test_the_page_tells_of_its_pictures(gallery, tmp_path):
    """Captions hold the PSNR of what the strips show, the model's losses included."""
    page = tmp_path / "docs" / "gallery.md"
    gallery.make(tmp_path / "docs" / "images" / "gallery", page, Darkening())
    text = page.read_text(encoding="utf-8")
    found = list(CAPTION.finditer(text))
    assert len(found) == 30 and "synthetic" in text.lower() and "stand-in, sha256 0123456789ab" in text
    assert str(tmp_path) not in text
    for match in found:
        kind = Path(match["file"]).stem.split("-")[0]
        clean = gallery.photo(match["photo"])
        strength = float(match["strength"] or 0)
        degraded = degrade_photo(clean, kind, seed_for(0, match["photo"], kind), (strength, strength))
        before, truth = degraded.permute(1, 2, 0).numpy(), clean.permute(1, 2, 0).numpy()
        after = Darkening()(before)
        assert float(match["after"]) == pytest.approx(psnr(after, truth), abs=0.006)
        if kind != "clean":
            assert float(match["before"]) == pytest.approx(psnr(before, truth), abs=0.006)
            worse = psnr(after, truth) < psnr(before, truth)
            assert text[match.end() :].split("\n")[0].count("worse") == worse
        shows(page.parent / match["file"], (before, after, truth), 300)


def shows(path: Path, pixels: tuple[np.ndarray, ...], width: int) -> None:
    """The panels of the strip, but for JPEG."""
    with Image.open(path) as opened:
        assert opened.format == "JPEG" and opened.width == 3 * (width + 4)
        for i, wanted in enumerate(pixels):
            left = i * (width + 4) + 2
            panel = opened.crop((left, 2, left + width, opened.height - 2))
            expected = Image.fromarray(wanted).resize(panel.size, Image.Resampling.LANCZOS)
            error = np.abs(np.asarray(panel, float) - np.asarray(expected, float)).mean()
            assert error < 6, (path.name, i, error)


def test_the_readme_shows_the_median(gallery, tmp_path):
    examples = [example for example in gallery.EXAMPLES if example.kind in gallery.README_KINDS]
    shown = gallery.make(tmp_path / "images" / "gallery", tmp_path / "gallery.md", Darkening(), examples)
    captions = [
        line for line in (tmp_path / "gallery.md").read_text().splitlines() if "the median, in the README" in line
    ]
    assert len(captions) == 3
    for kind in ("haze", "rain", "lowlight"):
        ones = [one for one in shown if one.example.kind == kind]
        middle = sorted(ones, key=lambda one: psnr(one.after, one.truth) - psnr(one.before, one.truth))[2]
        assert any(line.startswith(f"*{gallery.caption(middle)}") for line in captions)
        shows(tmp_path / "images" / f"readme-{kind}.jpg", (middle.before, middle.after, middle.truth), 420)


def test_a_page_that_cannot_be_written_is_told_of_before_the_work(gallery, tmp_path):
    with pytest.raises(UserError, match="is a folder"):
        gallery.make(tmp_path / "pictures", tmp_path, Darkening())
    assert not (tmp_path / "pictures").exists()
