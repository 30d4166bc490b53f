"""Jobs of the service: what is promised is kept, over restarts too; what strangers send does no harm."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import stat
import struct
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restorevar.errors import UserError
from restorevar.models import RestoreVAR
from restorevar.pipeline import Restorer
from restorevar.serving import jobs
from restorevar.serving.archives import TooMuch, ZipLimits, is_zip, members, pack
from restorevar.serving.engine import Engine, Limits
from restorevar.serving.job_runner import JobRunner
from restorevar.serving.jobs import MAX_ATTEMPTS, Job, JobLimits, JobOptions, JobStore, NoRoom, UnknownJob
from restorevar.serving.names import distinct, result_name, shown_name
from restorevar.serving.tickets import Busy

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient

from restorevar.serving.app import create_app


def png(value: int = 0, width: int = 40, height: int = 30, format: str = "PNG", **options) -> bytes:
    """A picture of noise; another for every `value`."""
    pixels = np.random.default_rng(value).integers(0, 256, (height, width, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format, **options)
    return stream.getvalue()


def pixels_of(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


def fill(store: JobStore, *files: bytes, owner: str = "") -> Job:
    with store.arriving(owner, JobOptions()) as arrival:
        for number, data in enumerate(files):
            arrival.add(f"{number}.png", [data])
    return store.job(arrival.id, owner)


def wait(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.01)


@pytest.fixture
def restorer(tiny: RestoreVAR) -> Restorer:
    return Restorer(tiny, device="cpu")


@pytest.fixture
def engine(tiny: RestoreVAR) -> Iterator[Engine]:
    with Engine(Restorer(tiny, device="cpu"), Limits(pixels=100_000)) as engine:
        yield engine


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    store = JobStore(tmp_path / "jobs", JobLimits(files=5, file_bytes=20_000, job_bytes=50_000, store_bytes=400_000))
    yield store
    store.close()


KEYS = ["the-key-of-the-one", "the-key-of-the-other"]


@pytest.fixture
def client(engine: Engine, store: JobStore) -> Iterator[TestClient]:
    with TestClient(create_app(engine, store=store)) as client:
        yield client


@pytest.fixture
def locked(engine: Engine, store: JobStore) -> Iterator[TestClient]:
    with TestClient(create_app(engine, keys=KEYS, store=store)) as client:
        yield client


def post(client: TestClient, *files: tuple[str, bytes], **options):
    return client.post("/v1/jobs", files=[("files", file) for file in files], data=options)


def ended(client: TestClient, id: str) -> dict:
    wait(lambda: client.get(f"/v1/jobs/{id}").json()["state"] not in ("queued", "running"))
    return client.get(f"/v1/jobs/{id}").json()


# -------------------------------------------------------------------------------------------------- over HTTP


def test_one_image(client: TestClient, restorer: Restorer) -> None:
    answer = post(client, ("../../etc/wave.png", png()), fidelity="0.5")
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert job["files"][0]["name"] == "wave.png"
    job = ended(client, job["id"])
    assert (job["state"], job["progress"]) == ("done", 1.0)
    assert (job["files"][0]["width"], job["files"][0]["height"], job["files"][0]["format"]) == (40, 30, "PNG")
    for link in (job["result"], job["files"][0]["result"]):
        result = client.get(link)
        assert result.headers["content-type"] == "image/png"
        assert 'filename="wave.png"' in result.headers["content-disposition"]
        assert result.headers["cache-control"] == "no-store"
        expected = restorer.at(fidelity=0.5).restore_pixels(pixels_of(png()))
        assert np.array_equal(pixels_of(result.content), expected)


def test_several_images_and_archives_come_back_as_one_archive(client: TestClient, restorer: Restorer) -> None:
    archive = zipped({"trip/a.png": png(1), "trip/b.jpg": png(2, format="JPEG"), "__MACOSX/._a.png": b"litter"})
    answer = post(client, ("a.png", png(0)), ("whatever.txt", archive), ("A.png", png(3)))
    job = ended(client, answer.json()["id"])
    assert [file["name"] for file in job["files"]] == ["a.png", "trip/a.png", "trip/b.jpg", "A.png"]
    assert 'restorevar_job_files{state="done"} 4.0' in client.get("/metrics").text
    result = client.get(job["result"])
    assert result.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(result.content)) as results:
        assert results.testzip() is None
        assert results.namelist() == ["a.png", "trip/a.png", "trip/b.jpg", "A-2.png"]
        for name, value in (("a.png", 0), ("trip/a.png", 1), ("A-2.png", 3)):
            assert np.array_equal(pixels_of(results.read(name)), restorer.restore_pixels(pixels_of(png(value)))), name


def test_a_bad_file_costs_a_line(client: TestClient, store: JobStore) -> None:
    truncated = png(1)[:-200]
    answer = post(client, ("good.png", png()), ("truncated.png", truncated), ("text.png", b"no image"))
    job = ended(client, answer.json()["id"])
    assert job["state"] == "done"
    assert [file["state"] for file in job["files"]] == ["done", "failed", "failed"]
    assert "damaged" in job["files"][1]["error"] and "known format" in job["files"][2]["error"]
    assert str(store.folder) not in str(job)
    assert client.get(f"/v1/jobs/{job['id']}/files/1").status_code == 409
    assert client.get(f"/v1/jobs/{job['id']}/files/3").status_code == 404
    with zipfile.ZipFile(io.BytesIO(client.get(job["result"]).content)) as results:
        assert results.namelist() == ["good.png"]


@pytest.mark.parametrize(
    "files, status, cause",
    [
        ([("a.png", b"")], 415, "known format"),
        ([("a.png", b"text")], 415, "known format"),
        ([("a.tar.gz", b"\x1f\x8b\x08" + bytes(50))], 415, "archive of a kind"),
        ([("a.png", png(width=400, height=300, format="JPEG", quality=1))], 415, "above the limit"),
        ([(f"{i}.png", png()) for i in range(6)], 413, "5 files"),
        ([("a.bmp", png(width=100, height=100, format="BMP"))], 413, "20000 bytes"),
        ([(f"{i}.bmp", png(width=70, height=70, format="BMP")) for i in range(4)], 413, "50000 bytes"),
        ([("a.zip", zipped({f"{i}.png": b"" for i in range(6)}))], 413, "a.zip: holds more than 5"),
        ([("a.zip", zipped({"../a.png": png()}))], 422, "leads out"),
        ([("a.zip", b"PK\3\4 and no more")], 422, "damaged"),
    ],
)
def test_refused_at_once_and_nothing_is_kept(
    client: TestClient, store: JobStore, files: list[tuple[str, bytes]], status: int, cause: str
) -> None:
    answer = post(client, *files)
    assert (answer.status_code, cause in answer.json()["detail"]) == (status, True), answer.json()
    assert not store.counts() and not list((store.folder / "files").iterdir())
    assert store.used_bytes() == 0


@pytest.mark.parametrize(
    "options",
    [
        {"fidelity": "2"},
        {"speed": "warp"},
        {"strength": "nan"},
        {"if_needed": "1"},
        {"format": "exe"},
        {"quality": "0"},
    ],
)
def test_impossible_options(client: TestClient, store: JobStore, options: dict[str, str]) -> None:
    assert post(client, ("a.png", png()), **options).status_code == 422
    assert not store.counts()


def test_other_formats(client: TestClient) -> None:
    transparent = Image.fromarray(np.full((20, 20, 4), 77, np.uint8))
    stream = io.BytesIO()
    transparent.save(stream, "PNG")
    job = ended(client, post(client, ("a.png", png()), ("b.png", stream.getvalue()), format="jpg").json()["id"])
    assert [file["state"] for file in job["files"]] == ["done", "failed"]
    result = client.get(job["files"][0]["result"])
    assert (
        result.headers["content-type"] == "image/jpeg" and 'filename="a.jpg"' in result.headers["content-disposition"]
    )
    assert "transparency" in job["files"][1]["error"]


def test_jobs_of_others_are_unknown(locked: TestClient) -> None:
    mine, another = ({"X-API-Key": key} for key in KEYS)
    place = locked.post("/v1/jobs", files={"files": ("a.png", png())}, headers=mine).headers["location"]
    for headers, status in (({}, 401), ({"X-API-Key": "a-key-that-is-none"}, 401), (another, 404)):
        for way in ("", "/files/0", "/result"):
            assert locked.get(place + way, headers=headers).status_code == status
        assert locked.delete(place, headers=headers).status_code == status
    assert locked.get(place, headers=mine).status_code == 200
    assert locked.post("/v1/jobs", files={"files": ("a.png", png())}).status_code == 401


def test_many_at_once_get_their_own(locked: TestClient, store: JobStore, restorer: Restorer) -> None:
    """Some call their jobs off; nobody is served another's image, nothing is left."""

    def person(number: int) -> str:
        headers = {"X-API-Key": KEYS[number % 2]}
        answer = locked.post("/v1/jobs", files={"files": ("a.png", png(number))}, headers=headers)
        place = answer.headers["location"]
        if number % 4 == 3:
            return f"dropped {locked.delete(place, headers=headers).status_code}"
        wait(lambda: locked.get(place, headers=headers).json()["state"] == "done", 60)
        expected = restorer.restore_pixels(pixels_of(png(number)))
        right = np.array_equal(pixels_of(locked.get(f"{place}/result", headers=headers).content), expected)
        locked.delete(place, headers=headers)
        return "right" if right else "wrong"

    with ThreadPoolExecutor(4) as people:  # as many as may send at once
        assert list(people.map(person, range(16))) == ["right", "right", "right", "dropped 204"] * 4
    wait(lambda: not list((store.folder / "files").iterdir()))


@pytest.mark.parametrize(
    "id", ["0" * 32, "..%2fjobs.sqlite3", "%2e%2e", "'%20OR%201=1%20--", "0" * 31 + "%00", "A" * 32]
)
def test_guessed_ids(client: TestClient, id: str) -> None:
    for place in (f"/v1/jobs/{id}", f"/v1/jobs/{id}/files/0", f"/v1/jobs/{id}/result"):
        assert client.get(place).status_code in (404, 422)
    assert client.delete(f"/v1/jobs/{id}").status_code in (404, 422)


def test_called_off(client: TestClient, store: JobStore) -> None:
    store.limits = JobLimits()
    place = post(client, *[(f"{i}.png", png(i, 200, 150)) for i in range(5)]).headers["location"]
    assert client.delete(place).status_code == client.delete(place).status_code == 204
    assert client.get(place).json()["state"] == "cancelled"
    assert client.get(f"{place}/result").status_code == client.get(f"{place}/files/0").status_code == 410
    wait(lambda: not list((store.folder / "files").iterdir()))
    place = post(client, ("a.png", png())).headers["location"]  # and the next one is not
    assert ended(client, place.rsplit("/", 1)[1])["state"] == "done"
    assert client.delete(place).status_code == 204
    assert client.get(place).json()["state"] == "expired"
    wait(lambda: not list((store.folder / "files").iterdir()))


# -------------------------------------------------------------------------------------------------- the store


def test_a_restart_takes_up_what_was_begun(tmp_path: Path, engine: Engine, restorer: Restorer) -> None:
    store = JobStore(tmp_path / "jobs")
    job = fill(store, png(0), png(1))
    task = store.take()
    assert task is not None and store.job(job.id, "").state == "running"
    (store.folder / "files" / job.id / "0.part").write_bytes(b"half a result")
    (store.folder / "files" / ("0" * 32)).mkdir()  # of a job that was never promised
    store.close()  # as a crash leaves it: nothing is told to the database at the end

    with_results = JobStore(tmp_path / "jobs")
    assert [folder.name for folder in (store.folder / "files").iterdir()] == [job.id]
    with JobRunner(engine, with_results):
        wait(lambda: with_results.job(job.id, "").state == "done")
    for number in range(2):
        result = with_results.result(with_results.job(job.id, ""), number).read_bytes()
        assert np.array_equal(pixels_of(result), restorer.restore_pixels(pixels_of(png(number))))
    with_results.close()
    store = JobStore(tmp_path / "jobs")
    assert store.job(job.id, "").state == "done" and store.take() is None
    store.close()


def test_a_file_that_takes_the_process_down_is_given_up(tmp_path: Path) -> None:
    for _ in range(MAX_ATTEMPTS):
        store = JobStore(tmp_path / "jobs")
        if not store.counts():
            job = fill(store, png())
        assert store.take() is not None
        store.close()
    store = JobStore(tmp_path / "jobs")
    job = store.job(job.id, "")
    assert job.state == job.files[0].state == "failed" and "given up" in (job.files[0].error or "")
    store.close()


def test_put_back_is_no_attempt(store: JobStore) -> None:
    fill(store, png())
    for _ in range(MAX_ATTEMPTS + 1):
        task = store.take()
        assert task is not None
        store.put_back(task)
    assert store.counts() == {"queued": 1}


def test_results_expire_by_age(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs", JobLimits(keep_hours=1))
    job, waiting = fill(store, png()), fill(store, png())
    task = store.take()
    assert task is not None and task.job == job.id
    store.finish(task, b"result", "PNG", 0.1, {})
    now = time.time()
    assert store.expire(now + 3500) == 0 and store.result(job, 0).read_bytes() == b"result"
    assert store.expire(now + 3700) == 1 and not store.result(job, 0).parent.exists()
    assert store.job(job.id, "").state == "expired"
    store.expire(now + 7300)
    with pytest.raises(UnknownJob):
        store.job(job.id, "")
    assert store.job(waiting.id, "").state == "queued"  # what waits does not age
    assert store.counts() == {"queued": 1}
    store.close()


def test_jobs_take_turns(store: JobStore) -> None:
    large = fill(store, png(0), png(1), png(2))
    first = store.take()
    small = fill(store, png(3))
    order = [store.take() for _ in range(3)]
    assert first is not None and first.job == large.id
    assert [task.job for task in order if task] == [large.id, small.id, large.id]


def test_what_is_called_off_leaves_nothing_whenever_it_ends(store: JobStore) -> None:
    job = fill(store, png())
    task = store.take()
    assert task is not None
    store.drop(job.id, "")
    store.finish(task, b"late", "PNG", 0.1, {})
    assert store.job(job.id, "").state == "cancelled" and not task.target.parent.exists()


def test_full(tmp_path: Path) -> None:
    size = len(png())
    store = JobStore(tmp_path / "jobs", JobLimits(waiting=2, store_bytes=7 * size))
    first = fill(store, png(), png())
    with pytest.raises(Busy) as busy:
        fill(store, png())
    assert busy.value.retry_after >= 1
    for _ in range(2):
        task = store.take()
        assert task is not None
        store.finish(task, png(), "PNG", 0.1, {})
    fill(store, png(), png())  # 2 results and 2 inputs, whose results are awaited: 6 files
    store.drop(first.id, "")
    fill_up = JobLimits(waiting=9, store_bytes=7 * size)
    store.limits = fill_up
    with pytest.raises(NoRoom):
        fill(store, png(), png())
    assert store.used_bytes() == 4 * size
    assert len(list((store.folder / "files").iterdir())) == 1
    store.close()


def test_the_folder_is_private_and_held_by_one(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs")
    with pytest.raises(UserError, match="another process"):
        JobStore(tmp_path / "jobs")
    if os.name == "posix":
        assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    store.close()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="no folder of jobs"):
        JobStore(tmp_path / "photos")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot hold jobs"):
        JobStore(tmp_path / "file")


def test_the_end_puts_back_what_it_cannot_finish(store: JobStore, engine: Engine) -> None:
    for number in range(3):
        fill(store, png(number, 90, 70))
    runner = JobRunner(engine, store)
    runner.start()
    wait(lambda: store.counts().get("running", 0) + store.counts().get("done", 0) > 0)
    runner.close(timeout=0)
    assert set(store.counts()) <= {"queued", "done"} and sum(store.counts().values()) == 3


def test_a_full_disk(store: JobStore, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result that it does not take fails; an end that it does not take is asked for again."""
    job, another = fill(store, png(0)), fill(store, png(1))
    full = [OSError(28, "No space left on device")]
    write, end = jobs._write_whole, store._end
    monkeypatch.setattr(jobs, "_write_whole", lambda *given: _raise(full.pop()) if full else write(*given))
    with JobRunner(engine, store):
        wait(lambda: store.job(job.id, "").state == "failed")
        assert store.job(job.id, "").files[0].error == "could not be read or kept (No space left on device)"
        wait(lambda: store.job(another.id, "").state == "done")
        broken = [sqlite3.OperationalError("disk I/O error")] * 2
        monkeypatch.setattr(store, "_end", lambda *given: _raise(broken.pop()) if broken else end(*given))
        third = fill(store, png(2))
        wait(lambda: store.job(third.id, "").state == "done")
    assert not broken


def _raise(error: Exception) -> None:
    raise error


# ------------------------------------------------------------------------------------------- archives and names

LIMITS = ZipLimits(files=4, file_bytes=5_000_000, total_bytes=8_000_000)


def unpacked(data: bytes) -> dict[str, bytes]:
    return {name: b"".join(pieces) for name, pieces in members(io.BytesIO(data), LIMITS)}


def test_pack_and_unpack(tmp_path: Path) -> None:
    files = {"a.png": png(1), "deep/er/ü.png": png(2)}
    for number, data in enumerate(files.values()):
        (tmp_path / str(number)).write_bytes(data)
    data = b"".join(pack((name, tmp_path / str(number)) for number, name in enumerate(files)))
    assert is_zip(data) and unpacked(data) == files


def with_entry(name: str = "a.png", data: bytes = b"x", mode: int = 0, flags: int = 0) -> bytes:
    stream = io.BytesIO()
    entry = zipfile.ZipInfo("PLACE" + "_" * (len(name) - 5) if "\\" in name else name)
    entry.external_attr = mode << 16
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(entry, data)
    raw = stream.getvalue().replace(entry.filename.encode(), name.encode())
    if flags:  # of the local and of the central header
        raw = bytearray(raw)
        struct.pack_into("<H", raw, 6, flags)
        struct.pack_into("<H", raw, raw.index(b"PK\1\2") + 8, flags)
    return bytes(raw)


def lying_about_its_size() -> bytes:
    """Said to unpack to 10 bytes; does to 4 million."""
    raw = bytearray(zipped({"a.png": bytes(4_000_000)}))
    struct.pack_into("<I", raw, 22, 10)
    struct.pack_into("<I", raw, raw.index(b"PK\1\2") + 24, 10)
    return bytes(raw)


def overlapping() -> bytes:
    """Four files that are one and the same, a million bytes each: the quine's little brother."""
    raw = zipped({"a.bin": np.random.default_rng(0).bytes(100_000) * 30})
    at, end = raw.index(b"PK\1\2"), raw.index(b"PK\5\6")
    tail = bytearray(raw[end:])
    entry = raw[at:end]
    struct.pack_into("<HHII", tail, 8, 4, 4, 4 * len(entry), at)
    return raw[:at] + entry * 4 + bytes(tail)


def zip64() -> bytes:
    raw = zipped({"a.png": png()})
    end = raw.index(b"PK\5\6")
    record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, 1 << 40, 0)
    return raw[:end] + record + struct.pack("<4sIQI", b"PK\6\7", 0, end, 1) + raw[end:]


@pytest.mark.parametrize(
    "data, kind, cause",
    [
        (zipped({"a.png": bytes(6_000_000)}), TooMuch, "more than 5000000 bytes"),
        (zipped({f"{i}.png": np.random.default_rng(i).bytes(3_000_000) for i in range(3)}), TooMuch, "8000000"),
        (zipped({"a.png": bytes(4_000_000)}), UserError, "grows too much"),
        (lying_about_its_size(), UserError, "damaged"),
        (overlapping(), UserError, "damaged|unpacks to more"),
        (zip64(), TooMuch, "zip64"),
        (zipped({f"{i}.png": b"x" for i in range(5)}), TooMuch, "more than 4 files"),
        (zipped({f"{'x' * 250}{i}/": b"" for i in range(9)}), TooMuch, "more than 4 files"),
        (zipped({}), UserError, "without files"),
        (zipped({"inner.png": zipped({"a.png": png()})}), UserError, "archive within"),
        (zipped({"inner.png": b"\x1f\x8b\x08gzip"}), UserError, "archive within"),
        (with_entry("/etc/passwd"), UserError, "leads out"),
        (with_entry("a/../../b.png"), UserError, "leads out"),
        (with_entry("..\\windows.png"), UserError, "leads out"),
        (with_entry("C:/a.png"), UserError, "leads out"),
        (with_entry(mode=stat.S_IFLNK | 0o777, data=b"/etc/passwd"), UserError, "link"),
        (with_entry(mode=stat.S_IFCHR | 0o666), UserError, "special"),
        (with_entry(flags=1), UserError, "encrypted"),
        (zipped({"a.png": png()}, zipfile.ZIP_LZMA), UserError, "other than Deflate"),
        (zipped({"a.png": png()})[:-30], UserError, "damaged"),
        (b"PK\5\6" + b"\xff" * 18, TooMuch, "more than"),
        (zipped({"a.png": png()}).replace(png()[100:110], bytes(10)), UserError, "damaged"),
    ],
)
def test_archives_that_are_refused(data: bytes, kind: type[UserError], cause: str) -> None:
    with pytest.raises(kind, match=cause):
        unpacked(data)


@pytest.mark.parametrize(
    "sent, shown",
    [
        ("a.png", "a.png"),
        (None, "photo"),
        ("", "photo"),
        ("...", "photo"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\é.jpg", "é.jpg"),
        ("a\r\nSet-Cookie: x=1.png", "aSet-Cookie_ x=1.png"),
        ("a\u202egnp.exe", "agnp.exe"),
        ("a\0.png\ud800", "a.png"),
        (".hidden.png", "hidden.png"),
        ("<script>.png", "_script_.png"),
        ("con.png", "_con.png"),
        ("x" * 300 + ".png", "x" * 96 + ".png"),
    ],
)
def test_shown_names(sent: str | None, shown: str) -> None:
    assert shown_name(sent) == shown


def test_names_of_results() -> None:
    assert shown_name("a/../b//c.png", tree=True) == "a/b/c.png"
    assert result_name("a.jpeg", "JPEG") == "a.jpeg"
    assert result_name("d/a.png", "JPEG") == "d/a.jpg"
    assert result_name("a.v2", "PNG") == "a.v2.png"
    assert distinct(["a.png", "A.png", "a.png", "a-2.png"]) == ["a.png", "A-2.png", "a-3.png", "a-2-2.png"]


# -------------------------------------------------------------------------------------------- the whole process


def test_a_killed_service_keeps_its_promises(tiny: RestoreVAR, restorer: Restorer, tmp_path: Path) -> None:
    """kill -9 while a job runs; the next service on the folder ends it. SIGTERM, then, leaves nothing half done."""
    pytest.importorskip("psutil")
    import httpx

    from restorevar.checkpoints import save_model
    from restorevar.serving.load.process import Service

    save_model(tiny, tmp_path / "model")
    options = ["--no-page", "--device", "cpu", "--model", str(tmp_path / "model"), "--jobs", str(tmp_path / "jobs")]
    sent = {f"{i}.png": png(i, 100, 70) for i in range(6)}
    with Service(options) as service, httpx.Client(base_url=f"http://127.0.0.1:{service.port}") as http:
        answer = http.post("/v1/jobs", files=[("files", file) for file in sent.items()])
        place = answer.headers["location"]
        wait(lambda: "done" in {file["state"] for file in http.get(place).json()["files"]}, 120)
        service.kill()
    with Service(options) as service, httpx.Client(base_url=f"http://127.0.0.1:{service.port}") as http:
        wait(lambda: http.get(place).json()["state"] not in ("queued", "running"), 120)
        assert http.get(place).json()["state"] == "done"
        with zipfile.ZipFile(io.BytesIO(http.get(f"{place}/result").content)) as results:
            assert results.namelist() == list(sent)
            for name, data in sent.items():
                expected = restorer.restore_pixels(pixels_of(data)).astype(int)
                assert np.abs(pixels_of(results.read(name)) - expected).max() <= 2, name
        http.post("/v1/jobs", files=[("files", file) for file in sent.items()])
        assert service.left_files() == []
        assert service.end() == 0, service.output
    store = JobStore(tmp_path / "jobs")
    assert set(store.counts()) <= {"done", "queued"} and sum(store.counts().values()) == 12
    store.close()


def test_jobs_do_not_keep_others_waiting(client: TestClient) -> None:
    """A photo of somebody who waits is done long before the job that was there first."""
    place = post(client, *[(f"{i}.png", png(i, 60, 60)) for i in range(4)]).headers["location"]
    assert client.post("/v1/restore", files={"image": ("a.png", png(9))}).status_code == 200
    assert client.get(place).json()["state"] in ("queued", "running")
    assert client.delete(place).status_code == 204


def test_the_load_test_checks_what_it_gets(tiny: RestoreVAR, tmp_path: Path) -> None:
    """A small one, end to end; and a service that mixes up its answers does not pass."""
    pytest.importorskip("psutil")
    from typer.testing import CliRunner

    from restorevar.checkpoints import save_model
    from restorevar.cli import app
    from restorevar.serving.load.asking import Asker, make_pictures

    save_model(tiny, tmp_path / "model")
    options = ["--model", str(tmp_path / "model"), "--device", "cpu", "--side", "32", "--pictures", "4"]
    options += ["--seconds", "1", "--soak", "20", "--queue", "4", "--markdown", str(tmp_path / "load.md")]
    result = CliRunner().invoke(app, ["bench-service", *options, "--json", str(tmp_path / "load.json")])
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "load.json").read_text())
    assert [load["name"] for load in figures["loads"]][-1] == "soak" and figures["loads"][-1]["requests"] == 20
    assert figures["loads"][3]["statuses"].get("429")  # ten times what it can do
    assert figures["left_files"] == [] and not any(load["wrong"] for load in figures["loads"])
    assert "| soak | 20 |" in (tmp_path / "load.md").read_text()

    pictures = make_pictures(Restorer(tiny, device="cpu"), 3, 32)
    asker = Asker(0, pictures)
    as_files = []
    for picture in pictures:
        stream = io.BytesIO()
        Image.fromarray(picture.expected).save(stream, "PNG")
        as_files.append(stream.getvalue())
    right = [[asker._is_right(number, data) for data in as_files] for number in range(3)]
    assert right == np.eye(3, dtype=bool).tolist()
    assert not asker._is_right(0, pictures[0].data)  # sent back as it was
