"""The blind study: a page that hides who is who, ratings that come back, the paper's tables 3 and 7."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from typer.testing import CliRunner

from restorevar.cli import app
from restorevar.errors import UserError
from restorevar.evaluation.study import CRITERIA, Key, Options, Question, Ratings, analyse, make, read_ratings

METHODS = ("RestoreVAR", "AutoDIR", "PromptIR")


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def refusal(*arguments) -> str:
    result = run(*arguments)
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1, result.output
    return result.stderr


@pytest.fixture
def folders(tmp_path):
    """Inputs in two data sets, and outputs of three methods, each of a tone of its own."""
    rng = np.random.default_rng(0)
    for name, tone in zip(("input", *METHODS), (0, 60, 120, 180), strict=True):
        for image in ("haze/a.png", "haze/b.jpg", "rain/a.png", "rain/c.png"):
            path = tmp_path / name / image
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 40, (40, 56, 3), dtype=np.uint8) + np.uint8(tone)
            Image.fromarray(pixels).save(path if name == "input" else path.with_suffix(".png"))
    return tmp_path


def made(folders, *more):
    methods = [f"{name}={folders / name}" for name in METHODS]
    return run("study", "make", *methods, "--input", folders / "input", "-o", folders / "page.html", *more)


# ------------------------------------------------------------------------------------------------------- make


def test_the_page_does_not_tell_who_is_who(folders):
    result = made(folders)
    assert result.exit_code == 0, result.output
    assert "4 photos, 3 methods" in result.output and "page.key.json" in result.output
    page = (folders / "page.html").read_text()
    for secret in (*METHODS, *(name.lower() for name in METHODS), "haze/", "rain/", "a.png", str(folders)):
        assert secret not in page, secret
    assert not re.search(r"""(src|href)=["'](?!data:)|url\(|https?://|@import""", page), "something is fetched"
    key = Key.read(folders / "page.key.json")
    assert key.study in page and len(key.questions) == 4
    assert {(q.dataset, q.name) for q in key.questions} >= {("haze", "haze/b"), ("rain", "rain/c")}
    assert all(sorted(q.order) == sorted(METHODS) for q in key.questions)


def test_the_key_tells_the_pictures_of_the_page(folders):
    made(folders, "--seed", "3")
    page, key = (folders / "page.html").read_text(), Key.read(folders / "page.key.json")
    data = json.loads(re.search(r'id="data">(.*)</script>', page)[1])
    for question, shown in zip(key.questions, data["questions"], strict=True):
        for method, uri in zip(question.order, shown["outputs"], strict=True):
            assert _tone(uri) == pytest.approx(20 + {"RestoreVAR": 60, "AutoDIR": 120, "PromptIR": 180}[method], abs=8)
        assert _tone(shown["input"]) == pytest.approx(20, abs=8)


def _tone(uri: str) -> float:
    import base64
    import io

    assert uri.startswith("data:image/webp;base64,")
    image = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    assert "exif" not in image.info and "icc_profile" not in image.info
    return float(np.asarray(image).mean())


def test_orders_differ_unless_seeded(folders):
    options = Options([(m, folders / m) for m in METHODS], folders / "input", folders / "x.html", side=64)

    def orders(seed, name):
        key = make(Options(**{**vars(options), "seed": seed, "key": folders / name}))
        return key.study, [q.order for q in key.questions]

    assert orders(1, "k1") == orders(1, "k2") != orders(2, "k3")
    assert len({orders(None, f"n{i}")[0] for i in range(3)}) == 3


def test_questions_are_drawn_alike_from_each_data_set(folders):
    made(folders, "--questions", "2")
    assert {q.dataset for q in Key.read(folders / "page.key.json").questions} == {"haze", "rain"}


def test_make_leaves_out_what_is_not_complete_and_says_so(folders):
    (folders / "PromptIR" / "rain" / "c.png").unlink()
    result = made(folders)
    assert result.exit_code == 0 and "PromptIR: no output of 1 of 4 inputs" in result.stderr
    assert len(Key.read(folders / "page.key.json").questions) == 3


def test_make_refuses(folders):
    page = ("--input", folders / "input", "-o", folders / "p.html")
    assert "two methods" in refusal("study", "make", f"a={folders / 'AutoDIR'}", *page)
    assert "METHOD=DIR" in refusal("study", "make", "a", "b", *page)
    assert "no such folder" in refusal("study", "make", f"a={folders / 'AutoDIR'}", f"b={folders / 'no'}", *page)
    assert "two methods are named" in refusal(
        "study", "make", f"a={folders / 'AutoDIR'}", f"a={folders / 'AutoDIR'}", *page
    )
    Image.new("RGB", (28, 20)).save(folders / "AutoDIR" / "haze" / "a.png")
    methods = [f"{name}={folders / name}" for name in METHODS]
    assert "28x20, not 56x40" in refusal("study", "make", *methods, *page)
    assert not (folders / "p.key.json").exists() and not (folders / "p.html").exists()


def test_a_key_is_never_replaced(folders):
    made(folders)
    before = (folders / "page.key.json").read_text()
    again = made(folders)
    assert again.exit_code == 2 and "could not be read without it" in again.stderr
    assert (folders / "page.key.json").read_text() == before


# ---------------------------------------------------------------------------------------------------- analyse


def study(questions=6) -> Key:
    rng = np.random.default_rng(5)
    return Key(
        "abc",
        "Test",
        METHODS,
        CRITERIA,
        [
            Question(f"q{i}", f"p{i}", "haze" if i % 3 else "rain", [*rng.permutation(METHODS)])
            for i in range(questions)
        ],
    )


def answer(key: Key, rater: str, points) -> dict:
    """A downloaded file; `points(method, question, criterion)` is what the rater would give if they knew."""
    answers = {
        q.id: {str(i): {c.id: points(m, q, c) for c in key.criteria} for i, m in enumerate(q.order)}
        for q in key.questions
    }
    return {
        "format": "blind-study-ratings-1",
        "study": key.study,
        "rater": rater,
        "date": "2026-01-01",
        "answers": answers,
    }


@pytest.fixture
def returned(tmp_path):
    """Three raters who like RestoreVAR best; the key and their files."""
    key, rng = study(), np.random.default_rng(2)
    key.write(tmp_path / "key.json")
    liking = {"RestoreVAR": 4, "AutoDIR": 3, "PromptIR": 2}
    files = []
    for rater in ("ann", "bob", "cyd"):
        points = lambda m, q, c: int(np.clip(liking[m] + rng.integers(-1, 2), 1, 5))  # noqa: E731
        files.append(tmp_path / f"{rater}.json")
        files[-1].write_text(json.dumps(answer(key, rater, points)))
    return key, tmp_path / "key.json", files


def test_names_come_back(returned):
    key, _, files = returned
    ratings = read_ratings(files, key)
    assert [r.rater for r in ratings] == ["ann", "bob", "cyd"]
    means = {m: np.mean([p for r in ratings for q in r.points.values() for p in q[m].values()]) for m in METHODS}
    assert means["RestoreVAR"] > means["AutoDIR"] > means["PromptIR"]


def test_tables_3_and_7_from_the_command(returned, tmp_path):
    key, place, files = returned
    result = run("study", "analyze", *files, "--key", place, "--json", tmp_path / "a.json", "-o", tmp_path / "t.html")
    assert result.exit_code == 0, result.output
    assert "3 raters, 6 photos" in result.output
    assert "| PromptIR | 2.11 |" in result.output and "RestoreVAR - AutoDIR" in result.output
    analysis = json.loads((tmp_path / "a.json").read_text())
    ratings = read_ratings(files, key)
    # By hand: a rater's mean over the two data sets of the mean over their questions.
    values = {m: [_rater_mean(key, r, m) for r in ratings] for m in METHODS}
    for method in METHODS:
        assert analysis["means"][method]["all"]["mean"] == pytest.approx(np.mean(values[method]))
    (autodir, promptir) = analysis["comparisons"]
    known = stats.ttest_rel(values["RestoreVAR"], values["AutoDIR"])
    assert autodir["other"] == "AutoDIR" and autodir["difference"]["t_p"] == pytest.approx(known.pvalue)
    assert promptir["t_holm"] >= promptir["difference"]["t_p"]
    assert "<table>" in (tmp_path / "t.html").read_text()
    report = run("report", tmp_path / "a.json", "-o", tmp_path / "r.md", "--table", "3", "--table", "7")
    assert report.exit_code == 0, report.output
    assert "RestoreVAR - PromptIR" in (tmp_path / "r.md").read_text()


def _rater_mean(key: Key, rating: Ratings, method: str) -> float:
    sets: dict[str, list[float]] = {}
    for q in key.questions:
        sets.setdefault(q.dataset, []).append(float(np.mean([*rating.points[q.id][method].values()])))
    return float(np.mean([np.mean(v) for v in sets.values()]))


@pytest.mark.parametrize(("unit", "n"), [("rater", 3), ("question", 6), ("rating", 18)])
def test_units(returned, unit, n):
    key, _, files = returned
    analysis = analyse(key, read_ratings(files, key), unit)
    assert analysis.reference == "RestoreVAR" and all(c.difference.n == n for c in analysis.comparisons)
    sets = {"rater": 1, "question": 2, "rating": 2}[unit]
    assert all(c.difference.sets == sets for c in analysis.comparisons)


def test_unfinished_photos_do_not_count(returned, tmp_path):
    key, place, files = returned
    value = json.loads(files[0].read_text())
    del value["answers"]["q1"]["0"][CRITERIA[0].id]
    del value["answers"]["q2"]
    files[0].write_text(json.dumps(value))
    (first, *_) = read_ratings(files, key)
    assert len(first.points) == 4 and first.unfinished == 1
    assert "1 photos not rated in full" in run("study", "analyze", *files, "--key", place).output


def test_the_later_download_of_a_rater_counts(returned, tmp_path):
    key, _, files = returned
    later = answer(key, "ann", lambda m, q, c: 1) | {"date": "2026-01-02"}
    (tmp_path / "later.json").write_text(json.dumps(later))
    lines: list[str] = []
    for order in ([files[0], tmp_path / "later.json"], [tmp_path / "later.json", files[0]]):
        (only,) = read_ratings(order, key, lines.append)
        assert {p for q in only.points.values() for m in q.values() for p in m.values()} == {1}
    assert len(lines) == 2 and "ann" in lines[0]


def test_ratings_that_are_refused(returned, tmp_path):
    key, place, files = returned
    cases = {
        "belongs to study": {"study": "other"},
        "not a rating": {"answers": {"q0": {"0": {CRITERIA[0].id: 6}}}},
        "no question": {"answers": {"q99": {}}},
        "not a file of ratings": {"format": "x"},
        "is damaged": {"answers": []},
    }
    for words, change in cases.items():
        (tmp_path / "bad.json").write_text(json.dumps(json.loads(files[0].read_text()) | change))
        assert words in refusal("study", "analyze", tmp_path / "bad.json", "--key", place)
    (tmp_path / "bad.json").write_text("{")
    assert "JSON" in refusal("study", "analyze", tmp_path / "bad.json", "--key", place)
    assert "not the key" in refusal("study", "analyze", files[0], "--key", files[0])
    assert "no method X" in refusal("study", "analyze", files[0], "--key", place, "--reference", "X")
    with pytest.raises(UserError, match="rated in full"):
        analyse(key, [Ratings("nobody", {})])
