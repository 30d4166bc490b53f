"""Manifests, layouts of published data sets, their audit, and `restorevar data index`, on tiny trees."""

from __future__ import annotations

import io
import json
import os
import zlib

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from restorevar.cli import app
from restorevar.data import audit as audits
from restorevar.data.layouts import LAYOUTS, scan
from restorevar.data.manifest import Entry, published_name, read_manifest, write_manifest
from restorevar.errors import UserError


def save(path, size=(16, 12), like=None):
    """A picture of its own, or the one that another name would have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(zlib.crc32(str(like or path).encode()))
    Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(path)
    return path


def grow(root, *names):
    for name in names:
        save(root / name)
    return root


def run(*arguments):
    return CliRunner().invoke(app, ["data", "index", *map(str, arguments)])


def pairs(index):
    """{degraded: truth}, relative to the root."""
    return {
        entry.image.relative_to(index.root).as_posix(): entry.target.relative_to(index.root).as_posix()
        for entry in index.complete
    }


def places(index):
    return {(entry.split, entry.extra.get("subset", "")) for entry in index.complete}


# ---------------------------------------------------------------------------------------------------- manifests


def test_a_manifest_comes_back_byte_by_byte(tmp_path):
    entries = [
        Entry(tmp_path / "set/b ä.png", tmp_path / "set/gt/b.png", "Haze", "RESIDE", {"split": "test", "n": [1, None]}),
        Entry(tmp_path / "a.png", tmp_path.parent / "elsewhere.png", "odd one", "x"),
    ]
    write_manifest(entries, tmp_path / "new" / ".." / "m.json")
    first = (tmp_path / "m.json").read_bytes()
    rows = json.loads(first)
    assert list(rows[0]) == ["image_path", "target_path", "degradation", "dataset", "split", "n"]
    assert rows[0]["image_path"] == "set/b ä.png" and os.path.isabs(rows[1]["target_path"])
    again = read_manifest(tmp_path / "m.json")
    assert again == entries and [e.split for e in again] == ["test", ""]
    write_manifest(again, tmp_path / "m.json")
    assert (tmp_path / "m.json").read_bytes() == first
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["m.json"]


def test_relative_paths_start_from_the_manifest(tmp_path, monkeypatch):
    (tmp_path / "m.json").write_text(
        json.dumps([{"image_path": "a.png", "target_path": "/b.png", "degradation": "Rain", "dataset": "d"}])
    )
    monkeypatch.chdir(tmp_path.parent)
    entry = read_manifest(f"{tmp_path.name}/m.json")[0]
    assert entry.image == tmp_path / "a.png" and str(entry.target) == "/b.png"


GOOD = {"image_path": "a", "target_path": "b", "degradation": "Haze", "dataset": "d"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[{", "JSON"),
        ("\xff\xfe", "JSON"),
        ('{"a": 1}', "not an object"),
        (json.dumps([GOOD, 7]), "row 2: should be an object"),
        (json.dumps([GOOD, {k: v for k, v in GOOD.items() if k != "dataset"}]), "row 2: has no dataset"),
        (json.dumps([GOOD | {"target_path": None}]), "row 1: target_path should be text, not null"),
        (json.dumps([GOOD | {"degradation": ""}]), "row 1: degradation should be text, not empty"),
    ],
)
def test_damaged_manifests(tmp_path, text, words):
    (tmp_path / "m.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=words) as caught:
        read_manifest(tmp_path / "m.json")
    assert str(caught.value).startswith(str(tmp_path / "m.json")) and "\n" not in str(caught.value)


def test_a_manifest_that_is_not_there_or_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match=r"no\.json: cannot be read"):
        read_manifest(tmp_path / "no.json")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"m\.json: cannot be written"):
        write_manifest([], tmp_path / "file" / "m.json")


def test_published_names():
    assert [published_name(t) for t in ("lowlight", "haze+rain", "clean")] == ["Low-light", "Mixed", "Clean"]


# ------------------------------------------------------------------------------------------------------ layouts


def test_reside(tmp_path):
    root = grow(
        tmp_path / "RESIDE",
        *("ITS/hazy/1_1_0.90179.png", "ITS/hazy/1_2_0.97842.png", "ITS/clear/1.png", "ITS/trans/1_1.png"),
        *("OTS/hazy/part1/0005_0.8_0.04.jpg", "OTS/hazy/part2/0008_1_0.2.jpg"),
        *("OTS/clear/0005.jpg", "OTS/clear/0008.jpg", "OTS/clear/0009.jpg"),
        *("SOTS/indoor/hazy/1400_1.png", "SOTS/indoor/gt/1400.png"),
        *("SOTS/Outdoor/hazy/0001_0.8_0.2.jpg", "SOTS/Outdoor/GT/0001.png"),
        *("HSTS/synthetic/synthetic/0586.jpg", "HSTS/synthetic/original/0586.jpg", "HSTS/real-world/a.jpg"),
    )
    index = scan("reside", root)
    assert pairs(index) == {
        "HSTS/synthetic/synthetic/0586.jpg": "HSTS/synthetic/original/0586.jpg",
        "ITS/hazy/1_1_0.90179.png": "ITS/clear/1.png",
        "ITS/hazy/1_2_0.97842.png": "ITS/clear/1.png",
        "OTS/hazy/part1/0005_0.8_0.04.jpg": "OTS/clear/0005.jpg",
        "OTS/hazy/part2/0008_1_0.2.jpg": "OTS/clear/0008.jpg",
        "SOTS/Outdoor/hazy/0001_0.8_0.2.jpg": "SOTS/Outdoor/GT/0001.png",
        "SOTS/indoor/hazy/1400_1.png": "SOTS/indoor/gt/1400.png",
    }
    assert [p.name for p in index.unused_truth] == ["0009.jpg"] and not index.missing_truth
    tests = {("test", "SOTS-indoor"), ("test", "SOTS-outdoor"), ("test", "HSTS")}
    assert places(index) == {("train", "ITS"), ("train", "OTS")} | tests
    assert places(scan("reside", root, "test")) == tests
    assert {(e.degradation, e.dataset) for e in index.complete} == {("Haze", "RESIDE")}
    counts = {c.subset: (c.found, c.published) for c in audits.count(index.complete, index.layout)}
    assert counts["OTS"] == (2, (313_950, 72_135)) and counts["SOTS-outdoor"] == (1, (500,))


def test_reside_in_parts_side_by_side_and_beta(tmp_path):
    grow(tmp_path / "OTS", "part1/0005_0.8_0.04.jpg", "part3/0008_1_0.2.jpg", "clear/0005.jpg", "clear/0008.jpg")
    grow(tmp_path / "OTS_BETA", "haze/0025_0.8_0.04.jpg", "clear/0025.jpg", "depth/0025.png")
    grow(tmp_path / "nyuhaze500", "hazy/1400_1.png", "gt/1400.png")
    index = scan("reside", tmp_path)
    assert len(index.complete) == 4 and not index.unused_truth
    assert places(index) == {("train", "OTS"), ("test", "SOTS-indoor")}


@pytest.mark.parametrize("start", ["SOTS", "SOTS/outdoor"])
def test_a_root_may_be_a_part(tmp_path, start):
    grow(tmp_path / "RESIDE", "SOTS/outdoor/hazy/0001_0.8_0.2.jpg", "SOTS/outdoor/gt/0001.png")
    assert places(scan("reside", tmp_path / "RESIDE" / start)) == {("test", "SOTS-outdoor")}


def test_degraded_images_whose_truths_were_not_downloaded(tmp_path):
    grow(tmp_path / "OTS", "hazy/0005_0.8_0.04.jpg", "hazy/0006_0.8_0.04.jpg")
    with pytest.raises(UserError, match="only 2 degraded images without a truth"):
        scan("reside", tmp_path)
    grow(tmp_path / "SOTS/outdoor", "hazy/0001_0.8_0.2.jpg", "gt/0001.png")
    assert len(scan("reside", tmp_path).missing_truth) == 2


def test_snow100k(tmp_path):
    test = "media/jdway/GameSSD/overlapping/test"
    root = grow(
        tmp_path / "snow",
        *(f"all/{folder}/sidewalk winter -grayscale -gray_02366.jpg" for folder in ("gt", "mask", "synthetic")),
        *(f"{test}/Snow100K-{s}/{folder}/b_{s}.jpg" for s in "SML" for folder in ("gt", "mask", "synthetic")),
        "realistic/city_00001.jpg",
    )
    index = scan("snow100k", root)
    assert places(index) == {("train", ""), *(("test", f"Snow100K-{s}") for s in "SML")}
    assert pairs(index)[f"{test}/Snow100K-L/synthetic/b_L.jpg"] == f"{test}/Snow100K-L/gt/b_L.jpg"
    assert len(index.complete) == 4 and not index.unused_truth
    assert {(e.degradation, e.dataset) for e in index.complete} == {("Snow", "Snow100k")}
    assert places(scan("snow100k", root / test / "Snow100K-L")) == {("test", "Snow100K-L")}


def test_rain13k(tmp_path):
    sets = ("Test100", "Test1200", "Test2800", "Rain100H", "Rain100L")
    root = grow(
        tmp_path / "Datasets",
        *(f"train/Rain13K/{folder}/10074.jpg" for folder in ("input", "target")),
        *(f"test/{name}/{folder}/1_10.jpg" for name in sets for folder in ("input", "target")),
        *("test/Rain100L/input/rain-001.png", "test/Rain100L/target/norain-001.png"),
    )
    index = scan("rain13k", root)
    assert places(index) == {("train", ""), *(("test", name) for name in sets)}
    assert pairs(index)["test/Rain100L/input/rain-001.png"] == "test/Rain100L/target/norain-001.png"
    assert len(index.complete) == 7
    assert places(scan("rain13k", root / "train" / "Rain13K")) == {("train", "")}
    agree = [audits.Count(p.split, p.subset, p.published[-1], p.published).agrees for p in LAYOUTS["rain13k"].parts]
    assert all(agree) and not audits.Count("test", "Test100", 99, (100, 98)).agrees


def test_lolv1(tmp_path):
    root = grow(tmp_path, *(f"{part}/{side}/2.png" for part in ("our485", "eval15") for side in ("low", "high")))
    assert pairs(scan("lolv1", root, "test")) == {"eval15/low/2.png": "eval15/high/2.png"}
    assert places(scan("lolv1", root)) == {("train", ""), ("test", "")}


def test_gopro(tmp_path):
    scenes = ("train/GOPR0372_07_00", "train/GOPR0372_07_01", "test/GOPR0384_11_00")
    folders = ("blur", "blur_gamma", "sharp")
    root = grow(tmp_path / "GOPRO_Large", *(f"{s}/{folder}/000047.png" for s in scenes for folder in folders))
    index = scan("gopro", root)
    assert pairs(index) == {f"{s}/blur/000047.png": f"{s}/sharp/000047.png" for s in scenes}
    assert [e.split for e in index.complete] == ["test", "train", "train"]
    assert list(pairs(scan("gopro", root, "test", "blur_gamma"))) == ["test/GOPR0384_11_00/blur_gamma/000047.png"]
    assert len(scan("gopro", root / "train").complete) == 2


def test_lhp_and_revide(tmp_path):
    grow(tmp_path / "LHP", *(f"{s}/{side}/2701.png" for s in ("train", "test") for side in ("input", "gt")))
    index = scan("lhp", tmp_path / "LHP")
    assert places(index) == {("train", ""), ("test", "")} and index.complete[0].degradation == "Rain"
    root = tmp_path / "REVIDE_indoor"
    frames = [f"{s}/{side}/{x}/00001.JPG" for s in ("Train", "Test") for side in ("hazy", "gt") for x in "EW"]
    grow(root, *frames)
    (root / "Test/gt/W/00001.JPG").rename(root / "Test/gt/W/00002.JPG")  # must not be paired with that of scene E
    index = scan("revide", root)
    whole = ("Test", "E"), ("Train", "E"), ("Train", "W")
    assert pairs(index) == {f"{s}/hazy/{x}/00001.JPG": f"{s}/gt/{x}/00001.JPG" for s, x in whole}
    assert [p.name for p in index.missing_truth] == ["00001.JPG"]
    assert [p.name for p in index.unused_truth] == ["00002.JPG"]


def test_under_display_cameras(tmp_path):
    for name in ("Toled_train", "Toled_val", "Toled_test", "Poled_train"):
        grow(tmp_path / "UDC", f"{name}/LQ/1.png", f"{name}/HQ/1.png")
    index = scan("toled", tmp_path / "UDC")
    assert [e.split for e in index.complete] == ["test", "train", "val"]
    assert {(e.degradation, e.dataset) for e in index.complete} == {("toled", "TOLED")}
    assert list(pairs(scan("poled", tmp_path / "UDC"))) == ["Poled_train/LQ/1.png"]
    assert list(pairs(scan("toled", tmp_path / "UDC" / "Toled_val"))) == ["LQ/1.png"]


def test_lolblur_and_cdd(tmp_path):
    folders = ("low_blur", "low_blur_noise", "high_sharp_scaled", "high_sharp_original")
    grow(tmp_path / "LOLBlur", *(f"{s}/{f}/0012/0017.png" for s in ("train", "test") for f in folders))
    index = scan("lolblur", tmp_path / "LOLBlur")
    assert pairs(index)["test/low_blur/0012/0017.png"] == "test/high_sharp_scaled/0012/0017.png"
    assert len(index.complete) == 2 and index.complete[0].degradation == "Mixed"
    assert all("noise" in image for image in pairs(scan("lolblur", tmp_path / "LOLBlur", variant="low_blur_noise")))
    folders = ("clear", "low", "haze_rain", "low_haze_snow")
    grow(tmp_path / "CDD", *(f"CDD-11_{s}/{f}/000001.png" for s in ("train", "test") for f in folders))
    found = {v: scan("cdd", tmp_path / "CDD", "test", v).complete for v in (None, "low", "low_haze_snow")}
    assert {v: (len(e), e[0].dataset, e[0].degradation) for v, e in found.items()} == {
        None: (1, "CDD_haze_rain", "Mixed"),
        "low": (1, "CDD_low", "Low-light"),
        "low_haze_snow": (1, "CDD_low_haze_snow", "Mixed"),
    }


def test_paired(tmp_path):
    grow(
        tmp_path / "mine",
        *("haze/input/a.png", "haze/target/a.png", "haze+rain/input/a.png", "haze+rain/target/a.png"),
        *("night/Low/b.jpg", "night/High/b.png", "val/blur/c.png", "val/sharp/c.png", ".hidden/input/x.png"),
        *("lone/input/d.png", "lone/input/._d.png"),
    )
    index = scan("paired", tmp_path / "mine")
    assert [(e.degradation, e.split, e.extra["subset"]) for e in index.complete] == [
        ("Haze", "", "haze"),
        ("Mixed", "", "haze+rain"),
        ("Low-light", "", "night"),
        ("Motion blur", "val", "val"),
    ]
    assert {e.dataset for e in index.complete} == {"mine"}
    assert [p.name for p in index.missing_truth] == ["d.png"]
    assert list(pairs(scan("paired", tmp_path / "mine" / "night"))) == ["Low/b.jpg"]


def test_links_are_followed_but_not_in_circles(tmp_path):
    grow(tmp_path / "store", "in/a.png", "gt/a.png")
    root = tmp_path / "set"
    root.mkdir()
    (root / "input").symlink_to(tmp_path / "store" / "in")
    (root / "target").symlink_to(tmp_path / "store" / "gt")
    (root / "loop").symlink_to(root)
    assert pairs(scan("paired", root)) == {"input/a.png": "target/a.png"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("resid", "."), "unknown layout 'resid'; choose from reside"),
        (("reside", "nowhere"), "no such folder"),
        (("reside", "file.txt"), "is not a folder"),
        (("reside", "."), "no pairs; the layout reside is ITS/"),
        (("lolv1", "lol", "val"), "no pairs of the split 'val'"),
        (("lolv1", "lol", "dev"), "unknown split 'dev'"),
        (("gopro", ".", "all", "gamma"), "unknown variant 'gamma' of the layout gopro: choose from blur, blur_gamma"),
        (("lolv1", "lol", "all", "x"), "it has none"),
    ],
)
def test_mistakes_of_the_user(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").touch()
    grow(tmp_path / "lol", "our485/low/2.png", "our485/high/2.png")
    with pytest.raises(UserError) as caught:
        scan(*arguments)
    assert words in str(caught.value)


# -------------------------------------------------------------------------------------------------------- audit


@pytest.fixture
def troubled(tmp_path):
    """LOLv1 with one of every trouble."""
    root = tmp_path / "LOL"
    for part, names in (("our485", "1 2 3 4 5 6"), ("eval15", "7 8")):
        grow(root, *(f"{part}/{side}/{name}.png" for name in names.split() for side in ("low", "high")))
    (root / "our485/high/1.png").unlink()  # a degraded image without truth
    grow(root, "our485/high/99.png")  # a truth of none
    whole = (root / "our485/low/2.png").read_bytes()
    (root / "our485/low/2.png").write_bytes(whole[: len(whole) // 2])
    save(root / "our485/high/3.png", size=(20, 16))
    save(root / "our485/low/5.png", like=root / "our485/low/4.png")  # a copy
    with Image.open(root / "our485/high/6.png") as image:
        image.save(root / "eval15/high/7.png", compress_level=0)  # a leak: other bytes, same pixels
    return root


def test_every_trouble_is_told(troubled):
    seen = []
    result = audits.audit_index(scan("lolv1", troubled), progress=lambda done, total: seen.append((done, total)))
    assert [e.image.stem for e in result.pairs] == ["7", "8", "4", "5", "6"]
    assert [p.name for p in result.missing_truth] == ["1.png"] and [p.name for p in result.unused_truth] == ["99.png"]
    assert [u.path.parts[-3:] for u in result.unreadable] == [("our485", "low", "2.png")]
    assert "damaged" in result.unreadable[0].reason
    [pair] = result.other_size
    assert (pair.image.name, pair.image_size, pair.target_size, pair.border) == ("3.png", (16, 12), (20, 16), 2)
    assert [[p.stem for p in group] for group in result.duplicates] == [["4", "5"]]
    [leak] = result.overlap
    assert (leak.place, leak.path.stem, leak.twin_place, leak.twin.stem) == ("test", "7", "train", "6")
    assert seen[-1] == (14, 14) and len(seen) == 14
    assert [(c.split, c.found) for c in result.counts] == [("train", 5), ("test", 2)]


def test_without_check_no_file_is_opened(troubled, monkeypatch):
    monkeypatch.setattr(audits, "_look", None)
    result = audits.audit_index(scan("lolv1", troubled), check=False)
    assert len(result.pairs) == 7 and len(result.missing_truth) == 1 and not result.unreadable


def test_missing_files_of_a_manifest_and_sizes_as_seen(tmp_path):
    image = save(tmp_path / "a.png")
    turned = Image.fromarray(np.zeros((16, 12, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn: 12x16 is shown as 16x12
    turned.save(tmp_path / "b.jpg", exif=exif)
    entries = [Entry(image, tmp_path / "b.jpg", "Haze", "d"), Entry(image, tmp_path / "no.png", "Haze", "d")]
    result = audits.audit(entries)
    assert result.pairs == entries[:1] and not result.other_size
    assert [u.path.name for u in result.unreadable] == ["no.png"]


# -------------------------------------------------------------------------------------------------- the command


def test_the_command_end_to_end(troubled, tmp_path):
    out, report = tmp_path / "lists" / "lol.json", tmp_path / "lists" / "report.json"
    result = run(troubled, "--layout", "lolv1", "-o", out, "--report", report)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[1].split() == ["train", "-", "5", "485", "DIFFERS"]
    for words in (
        "1 degraded images without truth: our485/low/1.png",
        "1 truths of no degraded image: our485/high/99.png",
        "1 unreadable files: our485/low/2.png: is damaged",
        "1 truths have a border of 2 px",
        "our485/low/3.png (16x12, truth 20x16)",
        "1 pictures more than once: our485/low/4.png = our485/low/5.png",
        "eval15/high/7.png (test) = our485/high/6.png (train)",
        f"5 pairs in {out}, 2 left out",
    ):
        assert words in result.output
    assert [e.image.stem for e in read_manifest(out)] == ["7", "8", "4", "5", "6"]
    told = json.loads(report.read_text())
    assert told["pairs"] == 5 and told["other_size"][0]["target_size"] == [20, 16]
    assert told["counts"][0] == {
        **{"split": "train", "subset": "", "found": 5, "published": [485]},
        "source": "Wei et al. 2018 (RetinexNet)",
    }
    assert sorted(p.name for p in out.parent.iterdir()) == ["lol.json", "report.json"]


def test_splits_apart_and_against_each_other(troubled, tmp_path):
    test, train = tmp_path / "test.json", tmp_path / "train.json"
    assert run(troubled, "--layout", "lolv1", "--split", "test", "-o", test).exit_code == 0
    result = run(troubled, "--layout", "lolv1", "--split", "train", "-o", train, "--against", test)
    assert result.exit_code == 0 and "several splits" not in result.output
    assert f"pictures in two places: our485/high/6.png (here) = eval15/high/7.png ({test})" in result.output
    assert {e.split for e in read_manifest(train)} == {"train"}


def test_what_degrade_writes_can_be_indexed(tmp_path):
    save(tmp_path / "photos/p.png", size=(64, 48))
    made = ["degrade", str(tmp_path / "photos"), "-o", str(tmp_path / "made"), "--task", "haze", "--task", "lowlight"]
    assert CliRunner().invoke(app, made).exit_code == 0
    assert run(tmp_path / "made", "--layout", "paired", "-o", tmp_path / "made/index.json").exit_code == 0
    ours, theirs = read_manifest(tmp_path / "made/index.json"), read_manifest(tmp_path / "made/pairs.json")
    assert [(e.image, e.target, e.degradation) for e in ours] == [(e.image, e.target, e.degradation) for e in theirs]


def test_names_only(troubled, tmp_path):
    result = run(troubled, "--layout", "lolv1", "-o", tmp_path / "m.json", "--no-check")
    assert result.exit_code == 0 and "7 pairs in" in result.output and "unreadable" not in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("LOL", "--layout", "nope", "-o", "m.json"), "unknown layout"),
        (("nowhere", "--layout", "lolv1", "-o", "m.json"), "nowhere: no such folder"),
        (("LOL", "--layout", "gopro", "-o", "m.json"), "no pairs"),
        (("LOL", "--layout", "lolv1", "-o", "LOL"), "is a folder"),
        (("LOL", "--layout", "lolv1", "-o", "m.json", "--against", "no.json"), "no.json"),
        (("LOL", "--layout", "lolv1", "-o", "m.json", "--no-check", "--against", "no.json"), "--no-check"),
        (("BAD", "--layout", "lolv1", "-o", "m.json"), "none of 1 pairs can be used"),
        (("LOL", "--layout", "lolv1"), "--out"),
    ],
)
def test_mistakes_on_the_command_line(troubled, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["restorevar", "data", "index", *arguments])
    grow(tmp_path / "BAD", "our485/high/1.png")
    (tmp_path / "BAD/our485/low").mkdir()
    (tmp_path / "BAD/our485/low/1.png").write_bytes(b"")
    error = io.StringIO()
    monkeypatch.setattr("sys.stderr", error)
    from restorevar.cli import main

    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2 and words in error.getvalue() and len(error.getvalue().splitlines()) == 1
    assert not (tmp_path / "m.json").exists()
