"""What lies behind the page: visits, their photos, their files and their end. Without a browser."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra [serve] is not installed")
from fastapi import FastAPI

from restorevar.errors import UserError
from restorevar.images import read_photo, write_photo
from restorevar.models import RestoreVAR
from restorevar.pipeline import Restorer
from restorevar.serving.engine import Engine, Limits, Options
from restorevar.serving.page import mount_page
from restorevar.serving.page.asking import answer
from restorevar.serving.page.examples import TITLES, examples
from restorevar.serving.page.pictures import change, confidence
from restorevar.serving.page.visit import Visit
from restorevar.serving.page.visits import Visits

WAIT = 60


@pytest.fixture
def engine(tiny: RestoreVAR) -> Iterator[Engine]:
    with Engine(Restorer(tiny, device="cpu", dtype="fp32"), Limits(pixels=10_000)) as engine:
        yield engine


@pytest.fixture
def visits(engine: Engine) -> Iterator[Visits]:
    visits = Visits(engine)
    yield visits
    visits.close()


@pytest.fixture
def visit(visits: Visits) -> Visit:
    return visits.open(None, "page")


def save(path: Path, width: int = 64, height: int = 64, **options: Any) -> Path:
    y, x = np.mgrid[0:height, 0:width]
    Image.fromarray(np.stack([x * 3, y * 3, x + y], -1).astype(np.uint8)).save(path, **options)
    return path


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def restored(visit: Visit, *paths: Path, **options: Any) -> list[dict[str, Any]]:
    for path in paths:
        visit.add(path, path.name, Options(**options))
    until(lambda: not visit.is_busy)
    return visit.view()["photos"]


def located(visit: Visit, link: str) -> Path:
    return visit.file(*link.split("/")[2:])[0]


# --------------------------------------------------------------------------------------------------------- photos


def test_the_result_is_written_in_kind(visit, engine, tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    path = save(tmp_path / "holiday.jpg", exif=exif.tobytes(), dpi=(72, 72))
    (photo,) = restored(visit, path)
    assert photo["state"] == "done" and photo["file"] == "holiday_restored.jpg"
    result = read_photo(located(visit, photo["download"]))
    assert result.format == "JPEG" and result.exif and b"Maker" in result.exif and result.dpi == (72, 72)
    write_photo(tmp_path / "expected.jpg", engine.restorer.restore_photo(read_photo(path)))
    assert (result.rgb == read_photo(tmp_path / "expected.jpg").rgb).all()
    assert located(visit, photo["before"]).is_file() and Image.open(located(visit, photo["after"])).size == (64, 64)


def test_for_a_replaced_picture_comes_the_one_in_its_place(visit, tmp_path):
    (photo,) = restored(visit, save(tmp_path / "a.png"))
    folder, _, current = photo["thumb"].rpartition("/")
    assert current == "thumb-1.webp" and not located(visit, photo["thumb"]).with_name("thumb-0.webp").exists()
    assert located(visit, f"{folder}/thumb-0.webp") == located(visit, photo["thumb"])
    for wrong in ("thumb-2.webp", "thumb-.webp", "thumb--1.webp", "other-0.webp", "before-x.webp"):
        with pytest.raises(KeyError):
            located(visit, f"{folder}/{wrong}")


def test_sixteen_bits_and_transparency_stay(visit, tmp_path):
    rgba = np.random.default_rng(0).integers(0, 255, (64, 70, 4), dtype=np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "b.tif", (rgba[..., :3].astype(np.uint16) * 257), photometric="rgb")
    alpha, deep = (
        read_photo(located(visit, p["download"])) for p in restored(visit, tmp_path / "a.png", tmp_path / "b.tif")
    )
    assert alpha.alpha is not None and (alpha.alpha == rgba[..., 3]).all()
    assert deep.rgb.dtype == np.uint16 and deep.format == "TIFF"


def test_bad_files_are_named_and_the_others_go_on(visit, tmp_path):
    (tmp_path / "notes.txt").write_text("no photo")
    whole = save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes(whole.read_bytes()[:-60])
    large = save(tmp_path / "large.png", 200, 200)
    photos = restored(visit, tmp_path / "notes.txt", tmp_path / "half.png", whole, large)
    assert [photo["state"] for photo in photos] == ["failed", "failed", "done", "failed"]
    for photo in photos:
        assert str(visit.folder) not in photo["sentence"] and "\n" not in photo["sentence"]
    assert photos[0]["sentence"].startswith("notes.txt is not an image")
    assert "above the limit" in photos[3]["sentence"] and not photos[3]["again"]


def test_scales_come_as_previews_and_end_as_a_map(visit, tmp_path, monkeypatch):
    monkeypatch.setattr("restorevar.serving.page.visit.PREVIEW_PAUSE", 0.0)
    seen: list[dict[str, Any]] = []
    watched = visit.engine.submit

    def submit(photo: Any, options: Any, progress: Any, watch: Any) -> Any:
        def told(glimpse: Any) -> None:
            watch(glimpse)
            seen.append(visit.view()["photos"][0])

        return watched(photo, options, progress, told)

    monkeypatch.setattr(visit.engine, "submit", submit)
    (photo,) = restored(visit, save(tmp_path / "a.png"))
    assert [f"step {i} of 4" in at["sentence"] for i, at in enumerate(seen, 1)] == [True] * 4
    shares = [at["share"] for at in seen]
    assert shares == sorted(shares) and 0 < shares[0] < shares[-1] < 1
    assert seen[-1]["preview"].startswith("data:image/webp;base64,") and photo["preview"] is None
    assert "%" in photo["about"]["sure"] and "%" in photo["about"]["change"]
    assert Image.open(located(visit, photo["sure"])).size == (64, 64)


def test_large_photos_are_watched_while_their_windows_are_restored(tiny, tmp_path):
    with Engine(Restorer(tiny, device="cpu", dtype="fp32", tile=64)) as engine:
        visits = Visits(engine)
        visit = visits.open(None, "page")
        visit.add(save(tmp_path / "a.jpg", 300, 200), "a.jpg", Options())
        shares = []
        while visit.is_busy:
            shares += [photo["share"] for photo in visit.view()["photos"]]
            time.sleep(0.005)
        (photo,) = visit.view()["photos"]
        assert shares == sorted(shares) and len(set(shares)) > 3
        assert photo["state"] == "done" and Image.open(located(visit, photo["sure"])).size == (300, 200)
        visits.close()


def test_again_with_other_options(visit, tmp_path):
    (first,) = restored(visit, save(tmp_path / "a.png"))
    visit.again(first["id"], Options(strength=0.0))
    until(lambda: not visit.is_busy)
    (second,) = visit.view()["photos"]
    assert second["after"] != first["after"] and "0%" in second["about"]["change"]
    same = read_photo(located(visit, second["download"])).rgb
    assert (same == read_photo(tmp_path / "a.png").rgb).all()
    with pytest.raises(KeyError):
        located(visit, first["download"])
    # What a model cannot do is a sentence, not an end.
    visit.again(first["id"], Options(fidelity=2.0))
    until(lambda: not visit.is_busy)
    assert visit.view()["photos"][0]["state"] == "failed"


def test_photos_that_need_nothing(tiny, tmp_path):
    diagnosis = SimpleNamespace(strengths={"haze": 0.05, "lowlight": 0.8}, seen=("lowlight",), needs_nothing=True)
    with Engine(Restorer(tiny, device="cpu", dtype="fp32"), diagnose=lambda photo: diagnosis) as engine:
        visits = Visits(engine)
        visit = visits.open(None, "page")
        (photo,) = restored(visit, save(tmp_path / "a.png"), if_needed=True)
        assert photo["untouched"] and "needs nothing" in photo["sentence"] and "change" not in photo
        rows = {row["name"]: row["word"] for row in photo["report"]["rows"]}
        assert rows == {"Haze": "no", "Low light": "strong"} and photo["report"]["sentence"] == "Strong darkness."
        visit.again(photo["id"], Options())
        until(lambda: not visit.is_busy)
        assert not visit.view()["photos"][0]["untouched"] and "change" in visit.view()["photos"][0]
        visits.close()


def test_called_off_while_it_is_worked_on_and_while_it_waits(tiny, tmp_path):
    go, real = threading.Event(), tiny.restore

    def held(images: Any, **options: Any) -> Any:
        assert go.wait(WAIT)
        return real(images, **options)

    tiny.restore = held
    with Engine(Restorer(tiny, device="cpu", dtype="fp32")) as engine:
        visits = Visits(engine)
        visit = visits.open(None, "page")
        for name in ("a.png", "b.png", "c.png"):
            visit.add(save(tmp_path / name), name, Options())
        until(lambda: visit.view()["photos"][0]["state"] == "working")
        first, second, _ = (photo["id"] for photo in visit.view()["photos"])
        visit.cancel(first)
        visit.cancel(second)
        go.set()
        until(lambda: not visit.is_busy)
        assert [photo["state"] for photo in visit.view()["photos"]] == ["cancelled", "cancelled", "done"]
        visits.close()


def test_a_full_queue_is_waited_for(tiny, tmp_path):
    go, real = threading.Event(), tiny.restore

    def held(images: Any, **options: Any) -> Any:
        assert go.wait(WAIT)
        return real(images, **options)

    tiny.restore = held
    with Engine(Restorer(tiny, device="cpu", dtype="fp32"), Limits(queue=1, at_once=1)) as engine:
        visits = Visits(engine)
        crowd = [visits.open(None, f"page {i}") for i in range(3)]
        for person in crowd:
            person.add(save(tmp_path / "a.png"), "a.png", Options())
            until(lambda person=person: person.view()["photos"][0]["state"] == "working")
        until(lambda: any("Many photos" in person.view()["photos"][0]["sentence"] for person in crowd))
        go.set()
        for person in crowd:
            until(lambda person=person: person.view()["photos"][0]["state"] == "done")
        visits.close()


# --------------------------------------------------------------------------------------------------------- files


def test_files_are_private_and_go_with_the_visit(visits, visit, tmp_path):
    assert visits.root.stat().st_mode & 0o077 == 0 and visit.folder.stat().st_mode & 0o077 == 0
    (photo,) = restored(visit, save(tmp_path / "a.png"))
    for name in ("source", "../source", "nothing"):
        with pytest.raises(KeyError):
            visit.file(photo["id"], name)
    with pytest.raises(KeyError):
        visit.file("../" + photo["id"], "before.webp")
    visits.grace = 0.05
    visits.leave("page")
    until(lambda: not visit.folder.exists())
    with pytest.raises(KeyError):
        visits.find(visit.key)


def test_a_reloaded_page_finds_its_visit_again(visits, visit):
    visits.grace = 0.3
    visits.leave("page")
    assert visits.open(visit.key, "reloaded") is visit
    time.sleep(0.5)
    visits.sweep()
    assert visits.find(visit.key) is visit
    assert visits.open("no such key", "other") is not visit
    assert visits.open(None, "reloaded") is visit


def test_a_visit_that_ends_calls_its_work_off(visits, visit, tmp_path):
    for i in range(20):
        visit.add(save(tmp_path / f"{i}.png"), f"{i}.png", Options())
    visits.close()
    until(lambda: not visit.folder.exists())
    assert visits.engine.stats.waiting == 0


def test_all_results_in_one_archive(visit, tmp_path):
    (tmp_path / "other").mkdir()
    restored(visit, save(tmp_path / "a.png"), save(tmp_path / "other" / "a.png"), save(tmp_path / "b.jpg"))
    with zipfile.ZipFile(visit.pack()) as archive:
        assert archive.namelist() == ["a_restored.png", "a_restored-2.png", "b_restored.jpg"]
        assert Image.open(io.BytesIO(archive.read("b_restored.jpg"))).format == "JPEG"


def test_a_visit_takes_only_so_many(visit, tmp_path, monkeypatch):
    monkeypatch.setattr("restorevar.serving.page.visit.MOST", 1)
    restored(visit, save(tmp_path / "a.png"))
    with pytest.raises(UserError, match="takes 1 photos"):
        visit.add(tmp_path / "a.png", "a.png", Options())
    monkeypatch.setattr("restorevar.serving.page.visit.MOST", 9)
    monkeypatch.setattr("restorevar.serving.page.visit.ROOM", 10)
    with pytest.raises(UserError, match="GB"):
        visit.add(tmp_path / "a.png", "a.png", Options())


# -------------------------------------------------------------------------------------------------------- asking


def asked(visits: Visits, uploads: Path, page: str = "page", **what: Any) -> list[dict[str, Any]]:
    async def views() -> list[dict[str, Any]]:
        return [view async for view in answer(visits, uploads, page, what, Options())]

    return asyncio.run(views())


def test_only_what_was_sent_is_taken(visits, tmp_path):
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    sent, secret = save(uploads / "a.png"), save(tmp_path / "secret.png")
    (uploads / "link.png").symlink_to(secret)
    for path in (str(secret), str(uploads / ".." / "secret.png"), str(uploads / "link.png"), "", None, "\0", 7):
        (view,) = asked(visits, uploads, what="add", sent=path, name="a.png")
        assert view["photos"] == [] and "did not arrive" in view["error"], path
    *_, view = asked(visits, uploads, what="add", sent=str(sent), name="../../a.png")
    assert [(photo["name"], photo["state"]) for photo in view["photos"]] == [("a.png", "done")]


@pytest.mark.parametrize("nonsense", [{}, {"what": "burn"}, {"what": ["add"]}, {"what": "again", "id": "x"}])
def test_nonsense_is_answered_with_the_view(visits, tmp_path, nonsense):
    (view,) = asked(visits, tmp_path, **nonsense)
    assert view["photos"] == [] and not view["error"]


def test_the_examples_are_there(visits, tmp_path):
    assert list(examples()) == list(TITLES)
    visits.engine.limits = Limits()
    *_, view = asked(visits, tmp_path, what="example", name="snow")
    assert view["photos"][0]["name"] == "snow_chelsea.jpg" and view["photos"][0]["state"] == "done"


def test_without_gradio_a_line_says_what_to_install(engine, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r"pip install 'restorevar\[serve\]'"):
        mount_page(FastAPI(), engine)


# ---------------------------------------------------------------------------------------------------------- maps


def test_the_map_of_changes_is_bright_where_something_changed():
    before = Image.new("RGB", (40, 20), (100, 100, 100))
    after = before.copy()
    after.paste((200, 200, 200), (0, 0, 20, 20))
    picture, share = change(before, after)
    values = np.asarray(picture).astype(int).sum(2)
    assert share == pytest.approx(0.5) and values[:, :20].min() > values[:, 20:].max()
    _, share = change(before, before)
    assert share == 0


def test_the_map_of_confidence_counts_all_scales_alike():
    coarse, fine = np.array([[0.2, 0.8]], np.float32), np.full((4, 8), 0.4, np.float32)
    picture, mean = confidence([coarse, fine], (64, 32))
    values = np.asarray(picture).astype(int).sum(2)
    assert picture.size == (64, 32) and mean == pytest.approx(0.45, abs=0.01)
    assert values[:, -8:].mean() > values[:, :8].mean()
