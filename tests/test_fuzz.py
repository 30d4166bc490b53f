"""Whatever is sent: a documented answer of one line, no fault, nothing of this machine in it, nothing left behind."""

from __future__ import annotations

import io
import logging
import os
import struct
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, features

pytest.importorskip("fastapi")
pytest.importorskip("multipart")
pytest.importorskip("prometheus_client")
pytest.importorskip("httpx")
from fastapi import FastAPI
from starlette.testclient import TestClient

from restorevar.models import RestoreVAR
from restorevar.pipeline import Restorer
from restorevar.serving.app import create_app
from restorevar.serving.engine import Engine, Limits
from restorevar.serving.jobs import JobLimits, JobStore

PIXELS = 20_000
#: What an answer to a single image may be.
RESTORED, REFUSED = 200, {413, 415, 422}

#: RESTOREVAR_FUZZ=100 tries a hundred times as much, other than every time before.
TIMES = int(os.environ.get("RESTOREVAR_FUZZ", "1"))
FEW = settings(
    max_examples=40 * TIMES,
    deadline=None,
    derandomize=TIMES == 1,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    folder = tmp_path / "a-telling-name"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore(tmp_path / "a-telling-name-of-jobs", JobLimits(waiting=100_000))


@pytest.fixture
def service(tiny: RestoreVAR, store: JobStore, temporary: Path, caplog: pytest.LogCaptureFixture) -> Iterator[FastAPI]:
    with Engine(Restorer(tiny, device="cpu"), Limits(pixels=PIXELS, bytes=300_000)) as engine:
        yield create_app(engine, store=store)
    assert not list(temporary.iterdir())
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.fixture
def client(service: FastAPI) -> Iterator[TestClient]:
    with TestClient(service) as client:
        yield client


# ------------------------------------------------------------------------------------------------ broken images


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def png_of(width: int, height: int, chunks: bytes = b"", kind: int = 2, data: bytes = b"") -> bytes:
    """A PNG that claims this size, whatever is in it."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)), (b"IDAT", data), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in parts
    )
    return b"\x89PNG\r\n\x1a\n" + body[:25] + chunks + body[25:]


def good() -> dict[str, bytes]:
    """Images of every kind that is read."""
    pixels = np.random.default_rng(0).integers(0, 256, (21, 34, 4), dtype=np.uint8)
    color, alpha, gray = Image.fromarray(pixels[..., :3]), Image.fromarray(pixels), Image.fromarray(pixels[..., 0])
    deep = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    found = {
        "png": encoded(color, "PNG"),
        "png alpha": encoded(alpha, "PNG"),
        "png gray": encoded(gray, "PNG"),
        "png 16 bits": encoded(deep, "PNG"),
        "png palette": encoded(color.quantize(7), "PNG", transparency=1),
        "png one bit": encoded(gray.convert("1"), "PNG"),
        "png text": encoded(color, "PNG", exif=exif, dpi=(300, 300)),
        "jpeg": encoded(color, "JPEG", exif=exif, comment=b"hello"),
        "jpeg cmyk": encoded(color.convert("CMYK"), "JPEG"),
        "jpeg progressive": encoded(color, "JPEG", progressive=True, quality=30),
        "jpeg gray": encoded(gray, "JPEG"),
        "tiff": encoded(color, "TIFF", compression="tiff_lzw"),
        "tiff 16 bits": encoded(deep, "TIFF"),
        "tiff deflate": encoded(alpha, "TIFF", compression="tiff_adobe_deflate"),
        "bmp": encoded(color, "BMP"),
        "webp": encoded(alpha, "WEBP", lossless=True),
        "webp lossy": encoded(color, "WEBP", exif=exif),
    }
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.png", found["png"])
    found["jpeg and archive in one"] = found["jpeg"] + archive.getvalue()
    found["png and page in one"] = found["png"] + b"<html><script>alert(1)</script></html>"
    if features.check("avif"):
        found["avif"] = encoded(color, "AVIF", speed=10)
    return found


def bad() -> dict[str, bytes]:
    """Images, or what looks like them, that are to be refused."""
    color = Image.new("RGB", (30, 20), "teal")
    big = Image.new("RGB", (200, 200))
    frames = {"save_all": True, "append_images": [Image.new("RGB", (30, 20), "red")]}
    bomb = zlib.compress(bytes(20_000_000))
    text = struct.pack(">I", len(bomb) + 8) + b"zTXt" + b"note\0\0" + bomb
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.png", encoded(color, "PNG"))
    return {
        "empty": b"",
        "text": b"no image at all\n",
        "one byte": b"\x89",
        "only a signature": b"\x89PNG\r\n\x1a\n",
        "gif": encoded(color, "GIF"),
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 30 20\nshowpage\n",
        "pdf": b"%PDF-1.4\n%%EOF\n",
        "pixels": encoded(big, "PNG"),
        "pixels claimed": png_of(60_000, 60_000),
        "a side of nothing": png_of(0, 10),
        "a side beyond all": png_of(2**31, 2**31),
        "pixels in a jpeg": encoded(big, "JPEG"),
        "pixels in a webp": encoded(big, "WEBP"),
        "animated png": encoded(color, "PNG", **frames),
        "animated webp": encoded(color, "WEBP", **frames),
        "pages": encoded(color, "TIFF", **frames),
        "floats": encoded(Image.new("F", (30, 20)), "TIFF"),
        "text that grows": png_of(
            10, 10, chunks=text + struct.pack(">I", zlib.crc32(text[4:])), data=zlib.compress(bytes(310))
        ),
        "jpeg without end": encoded(color, "JPEG")[:-40],
        "riff": b"RIFF\xff\xff\xff\xffWEBPVP8X",
        "tiff in a circle": struct.pack("<2sHIHI", b"II", 42, 8, 0, 8),
        "tiff without rows": struct.pack("<2sHIH", b"II", 42, 8, 2)
        + struct.pack("<HHII", 256, 3, 1, 30) * 2
        + bytes(4),
        "bmp of a negative height": b"BM"
        + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 9, -(2**31), 1, 24, *[0] * 6),
        "zip": archive.getvalue(),
        "avif": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(40),
    }


def send(client: TestClient, data: bytes, name: str = "a.png", **options: str) -> Any:
    return client.post("/v1/restore", files={"image": (name, data)}, data=options)


def check_refusal(answer: Any, temporary: Path) -> None:
    """One line for people, in the documented shape, which tells nothing of this machine."""
    problem = answer.json()
    assert set(problem) == {"status", "code", "detail"} and problem["status"] == answer.status_code
    detail = problem["detail"]
    assert detail and "\n" not in detail and len(detail) < 2000
    for telling in (str(temporary), "a-telling-name", "Traceback", ".py", "0x", "object at", "site-packages", "/tmp"):
        assert telling not in answer.text, detail


@pytest.mark.parametrize("kind", sorted(good()))
def test_good_images_of_every_kind(client: TestClient, kind: str) -> None:
    data = good()[kind]
    answer = send(client, data, "wrong.suffix")
    assert answer.status_code == RESTORED, kind
    sent, back = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(answer.content))
    assert back.format == sent.format
    turned = sent.getexif().get(0x0112) == 6
    assert back.size == (sent.size[::-1] if turned else sent.size)


@pytest.mark.parametrize("kind", sorted(bad()))
def test_bad_images_are_refused(client: TestClient, temporary: Path, kind: str) -> None:
    start = time.perf_counter()
    for answer in (send(client, bad()[kind]), client.post("/v1/jobs", files={"files": ("a.png", bad()[kind])})):
        if kind == "zip" and answer.status_code == 202:  # for jobs an archive is no fault
            continue
        if answer.status_code == 202:  # its header is that of an image; the rest is looked at later
            job = ended(client, answer.json()["id"])
            assert job["state"] == "failed", kind
            assert "a-telling-name" not in str(job) and "unexpectedly" not in str(job)
            continue
        assert answer.status_code in REFUSED, kind
        check_refusal(answer, temporary)
    assert time.perf_counter() - start < 20


def test_data_beyond_the_last_row_costs_nothing(client: TestClient) -> None:
    """Readers pass over it. Unpacked it would be 1000 times as much."""
    answer = send(client, png_of(100, 100, data=zlib.compress(bytes(30_000_000))))
    assert answer.status_code == RESTORED and len(answer.content) < 100_000


def ended(client: TestClient, id: str) -> dict[str, Any]:
    until = time.monotonic() + 30
    while (job := client.get(f"/v1/jobs/{id}").json())["state"] in ("queued", "running"):
        assert time.monotonic() < until
        time.sleep(0.01)
    return job


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good image cut, with other bits, with bytes put in, or with another image behind it or in it."""
    images = list(good().values())
    data = bytearray(draw(st.sampled_from(images)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, min(len(data), draw(st.sampled_from([40, 400, 10**9]))) - 1)))
        match draw(st.sampled_from(["cut", "flip", "set", "insert", "splice", "repeat"])):
            case "cut":
                del data[place:]
            case "flip":
                if data:
                    data[place] ^= 1 << draw(st.integers(0, 7))
            case "set":
                data[place : place + 4] = draw(st.sampled_from([b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff"]))
            case "insert":
                data[place:place] = draw(st.binary(max_size=20))
            case "splice":
                data[place:] = draw(st.sampled_from(images))[place:]
            case "repeat":
                data += data[place : place + 2000]
    return bytes(data)


@given(data=damaged())
@FEW
def test_damaged_images(client: TestClient, temporary: Path, data: bytes) -> None:
    answer = send(client, data)
    assert answer.status_code in {RESTORED, *REFUSED}
    if answer.status_code == RESTORED:
        Image.open(io.BytesIO(answer.content)).load()
    else:
        check_refusal(answer, temporary)
    assert not list(temporary.iterdir())


@given(data=st.lists(damaged(), min_size=1, max_size=3), name=st.text(max_size=30))
@settings(FEW, max_examples=10 * TIMES)
def test_damaged_images_in_jobs(
    client: TestClient, temporary: Path, store: JobStore, data: list[bytes], name: str
) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for number, image in enumerate(data):
            file.writestr(f"{number}.png", image)
    files = [("files", (f"{number}.png", image)) for number, image in enumerate(data)]
    answer = client.post("/v1/jobs", files=[*files, ("files", ("a.zip", archive.getvalue()))])
    assert answer.status_code in {202, *REFUSED}, answer.text
    if answer.status_code != 202:
        check_refusal(answer, temporary)
        return
    job = ended(client, answer.json()["id"])
    assert [file["state"] for file in job["files"][: len(data)]] == [
        file["state"] for file in job["files"][len(data) :]
    ]
    assert "unexpectedly" not in str(job) and "a-telling-name" not in str(job)
    assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert not list((store.folder / "files").iterdir())


@given(
    data=st.binary(max_size=400),
    kind=st.sampled_from(["multipart/form-data; boundary=x", "multipart/form-data", "image/png", ""]),
)
@FEW
def test_bodies_that_are_no_forms(client: TestClient, temporary: Path, data: bytes, kind: str) -> None:
    for path in ("/v1/restore", "/v1/jobs"):
        for body in (data, b"--x\r\n" + data, b'--x\r\nContent-Disposition: form-data; name="image"\r\n' + data):
            answer = client.post(path, content=body, headers={"Content-Type": kind})
            assert answer.status_code in {400, 415, 422}, answer.text
            check_refusal(answer, temporary)


# ------------------------------------------------------------------------------------------- the description


def test_by_the_description(service: FastAPI, temporary: Path) -> None:
    """Every operation of /openapi.json, with what fits it and with what does not: the answers are as described."""
    schemathesis = pytest.importorskip("schemathesis")
    from schemathesis.checks import CHECKS, load_all_checks

    load_all_checks()
    # A form may fit its description and hold no image; and a number written as text is one, in a form.
    left_out = [CHECKS.get_one(name) for name in ("positive_data_acceptance", "negative_data_rejection")]
    schema = schemathesis.openapi.from_asgi("/openapi.json", service)
    real = st.sampled_from([None, *good().values()])
    known: list[str] = []  # ids of jobs
    tried = set()
    for operation in [found.ok() for found in schema.get_all_operations()]:

        @given(case=operation.as_strategy(), real=real)
        @settings(FEW, max_examples=20 * TIMES)
        def check(case: Any, real: bytes | None) -> None:
            if real is not None:  # else strangers' forms and ids never get beyond the first room
                if isinstance(case.body, dict):
                    unset = {name for name, value in case.body.items() if value is None or name == "if_needed"}
                    case.body = {name: value for name, value in case.body.items() if name not in unset}
                    case.body.update({"files": [real, real]} if "jobs" in case.path else {"image": real})
                if known and isinstance(case.path_parameters, dict) and "id" in case.path_parameters:
                    case.path_parameters["id"] = known[-1]
            answer = case.call()
            case.validate_response(answer, excluded_checks=left_out)
            if answer.status_code >= 400:
                check_refusal(answer, temporary)
            if answer.status_code == 202:
                known.append(answer.json()["id"])
            tried.add((case.operation.label, answer.status_code))

        check()
    for reached in (("POST /v1/restore", 200), ("POST /v1/jobs", 202), ("GET /v1/jobs/{id}", 200)):
        assert reached in tried, tried
