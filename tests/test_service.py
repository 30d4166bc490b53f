"""The HTTP service: images in, images out, everyone their own; what is too much, too slow or no image is refused."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from PIL import Image
from starlette.testclient import TestClient
from typer.testing import CliRunner

from restorevar import checkpoints
from restorevar.cli import app as command
from restorevar.cli import serving as serving_command
from restorevar.errors import UserError
from restorevar.images import photo_from_bytes, photo_to_bytes
from restorevar.models import RestoreVAR
from restorevar.pipeline import Restorer
from restorevar.serving.app import create_app
from restorevar.serving.client import Client, ServiceError
from restorevar.serving.engine import Engine, Limits
from restorevar.serving.jobs import JobStore
from restorevar.serving.running import _Server, listen, uvicorn
from restorevar.serving.settings import Settings

WAIT = 60  # seconds that a healthy machine never takes
KEY = "a-key-of-enough-letters"

Service = Callable[..., TestClient]


@pytest.fixture
def restorer(tiny: RestoreVAR) -> Restorer:
    return Restorer(tiny, device="cpu", dtype="fp32", batch=4, name="tiny")


@pytest.fixture
def service(restorer: Restorer) -> Iterator[Service]:
    """Makes a service; its application's options have names of their own, the rest are limits."""
    engines: list[Engine] = []

    def make(
        diagnose: Any = None, keys: tuple[str, ...] = (), hosts: tuple[str, ...] | None = None, **limits: Any
    ) -> TestClient:
        engines.append(Engine(restorer, Limits(**limits), diagnose))
        return TestClient(create_app(engines[-1], keys, hosts=hosts), raise_server_exceptions=False)

    yield make
    for engine in engines:
        engine.close(WAIT)


@pytest.fixture
def gate(restorer: Restorer) -> Iterator[threading.Event]:
    """The model waits until this is set."""
    event, real = threading.Event(), restorer.model.restore

    def held(*args: Any, **options: Any) -> Any:
        assert event.wait(WAIT)
        return real(*args, **options)

    restorer.model.restore = held  # type: ignore[method-assign, assignment]
    yield event
    event.set()


def encoded(seed: int = 0, format: str = "PNG", height: int = 64, width: int = 80, **options: Any) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format, **options)
    return stream.getvalue()


def post(client: TestClient, data: bytes, name: str = "a.png", **fields: Any) -> Any:
    return client.post("/v1/restore", files={"image": (name, data)}, data={k: str(v) for k, v in fields.items()})


def refused(answer: Any, status: int, code: str, detail: str) -> None:
    assert (answer.status_code, answer.json()["status"], answer.json()["code"]) == (status, status, code), answer.text
    assert re.search(detail, answer.json()["detail"]), answer.text
    assert len(answer.json()["detail"].splitlines()) == 1 and answer.headers["x-request-id"]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def metric(client: TestClient, line: str) -> float:
    found = re.search(rf"^{re.escape(line)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


# ------------------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "AVIF"])
def test_the_answer_is_what_restore_writes(service: Service, restorer: Restorer, format: str) -> None:
    """Byte for byte, metadata and all; what the file is called plays no part."""
    exif = Image.Exif()
    exif[0x010E] = "a description"
    data = encoded(format=format) if format == "BMP" else encoded(format=format, exif=exif, dpi=(300, 300))
    expected = photo_to_bytes(restorer.restore_photo(photo_from_bytes(data)))[1]
    answer = post(service(), data, name="../../../etc/passwd\x00.exe")
    assert answer.status_code == 200, answer.text
    assert answer.content == expected
    assert answer.headers["content-type"] == f"image/{format.lower()}"
    assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["cache-control"] == "no-store"
    assert re.fullmatch(
        r"decode;dur=\S+, queue;dur=\S+, restore;dur=\S+, encode;dur=\S+", answer.headers["server-timing"]
    )


def test_options(service: Service, restorer: Restorer) -> None:
    data = encoded()
    client = service()
    settings = {"fidelity": 0.25, "strength": 0.5, "speed": "balanced"}
    expected = restorer.at(**settings).restore_photo(photo_from_bytes(data))
    answer = post(client, data, **settings, format="jpg", quality=77)
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.content == photo_to_bytes(expected, "jpg", 77)[1]
    assert answer.content != post(client, data, format="jpg", quality=77).content
    same = post(client, data, strength=0)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(same.content))), np.asarray(Image.open(io.BytesIO(data))))


def test_json(service: Service) -> None:
    data = encoded(format="JPEG")
    seen = SimpleNamespace(needs_nothing=True, as_json=lambda: {"needs_nothing": True})
    client = service(lambda photo: seen)
    answer = post(client, data, reply="json")
    told = answer.json()
    assert base64.b64decode(told["image"]) == post(client, data).content
    assert (told["model"], told["width"], told["height"], told["format"]) == ("tiny", 80, 64, "JPEG")
    assert told["settings"]["device"] == "cpu" and told["diagnosis"] == {"needs_nothing": True}
    assert set(told["timings"]) == {"decode", "queued", "restore", "encode"} and told["timings"]["restore"] > 0
    assert post(client, data, reply="timings").json()["image"] is None
    left = post(client, encoded(), if_needed=True)
    assert (
        left.headers["x-restorevar-untouched"] == "true"
        and post(client, encoded()).headers["x-restorevar-untouched"] == "false"
    )
    pixels = [np.asarray(Image.open(io.BytesIO(data))) for data in (left.content, encoded())]
    assert np.array_equal(*pixels)


def test_everyone_gets_their_own(service: Service, restorer: Restorer) -> None:
    """Two dozen people at once, of the same size, so that they share passes: nobody is served another's image."""
    images = [encoded(seed) for seed in range(24)]
    alone = [restorer.restore_photo(photo_from_bytes(data)).rgb.astype(int) for data in images]
    client = service(at_once=8, gather=0.05)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda data: post(client, data), images))
    for i, answer in enumerate(answers):
        assert answer.status_code == 200, answer.text
        pixels = np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)
        distances = [np.abs(pixels - other).mean() for other in alone]
        assert distances.index(min(distances)) == i and np.abs(pixels - alone[i]).max() <= 1
    assert metric(client, "restorevar_passes_total") < 24, "they shared passes"
    assert metric(client, 'restorevar_requests_total{method="POST",path="/v1/restore",status="200"}') == 24


# ------------------------------------------------------------------------------------------------------ refusals


def bomb(width: int, height: int) -> bytes:
    """A PNG of few bytes and many pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    rows = zlib.compress(bytes(1_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_what_is_no_image_is_refused(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By content, never by name; and nothing is left on the disk, nor told of it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    client = service(pixels=1_000_000)
    refused(post(client, b"PK\x03\x04 an archive", "photo.png"), 415, "not_an_image", "not an image of a known format")
    refused(post(client, b"<svg/>", "photo.svg"), 415, "not_an_image", "known format")
    refused(post(client, b""), 422, "unusable", "image: is empty")
    refused(post(client, encoded()[:-900]), 422, "unusable", "image: is damaged or incomplete")
    refused(post(client, bomb(60_000, 60_000)), 413, "too_large", "claims 60000 x 60000 pixels, above the limit")
    refused(post(client, bomb(800, 900)), 422, "unusable", "image: is damaged")
    frames = encoded(format="WEBP", save_all=True, append_images=[Image.new("RGB", (80, 64))])
    refused(post(client, frames), 422, "unusable", "is animated")
    alpha = io.BytesIO()
    Image.new("RGBA", (64, 64), (1, 2, 3, 4)).save(alpha, "PNG")
    refused(post(client, alpha.getvalue(), format="jpg"), 422, "unusable", "would lose its transparency")
    assert post(client, encoded(format="PNG"), "photo.jpg").headers["content-type"] == "image/png"
    assert metric(client, "restorevar_taken_total") == 1, "what is refused has not been worked for"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"fidelity": 2}, "fidelity: .* less than or equal to 1"),
        ({"fidelity": "nan"}, "fidelity: .* finite"),
        ({"strength": "x" * 4000}, "strength: .* valid number"),
        ({"speed": "warp"}, "speed: .*'best', 'balanced' or 'fast'"),
        ({"format": "../x"}, "format: .*'png'"),
        ({"quality": 0}, "quality: .* greater than or equal to 1"),
        ({"reply": "xml"}, "reply: .*'image', 'json' or 'timings'"),
        ({"if_needed": True}, "diagnosis, which this service does not have"),
    ],
)
def test_impossible_options_are_refused(service: Service, fields: dict[str, Any], detail: str) -> None:
    answer = post(service(), encoded(), **fields)
    refused(answer, 422, "unusable", detail)
    assert len(answer.content) < 500


def test_other_requests_are_refused(service: Service) -> None:
    client = service()
    refused(client.post("/v1/restore"), 422, "unusable", "image: Field required")
    refused(client.post("/v1/restore", data={"image": "text"}), 422, "unusable", "image")
    refused(client.get("/v1/restore"), 405, "wrong_method", "Method Not Allowed")
    refused(client.get("/v1/nothing"), 404, "not_found", "Not Found")
    long = client.post("/v1/restore", files={"image": encoded()}, data={"speed": "x" * 5000})
    refused(long, 400, "bad_request", "exceeded maximum size")
    two = [("image", encoded()), ("image", encoded(1))]
    refused(client.post("/v1/restore", files=two), 400, "bad_request", "Too many files")
    many = client.post("/v1/restore", data={f"field{i}": "" for i in range(100)}, files={"image": encoded()})
    refused(many, 400, "bad_request", "Too many fields")
    broken = {"content-type": "multipart/form-data"}
    refused(client.post("/v1/restore", content=b"--x", headers=broken), 400, "bad_request", "boundary")


def test_the_page_does_not_hide_the_api(service: Service, restorer: Restorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page takes all that is left; what is wrong below /v1 is still told as JSON."""
    monkeypatch.setattr("restorevar.serving.page.mount_page", lambda app, engine: app.mount("/", FastAPI()))
    with Engine(restorer) as engine:
        client = TestClient(create_app(engine, page=True))
        assert post(client, encoded()).status_code == 200 and client.get("/readyz").status_code == 200
        refused(client.get("/v1/nothing"), 404, "not_found", "Not Found")
        answer = client.put("/v1/restore")
        refused(answer, 405, "wrong_method", "Method Not Allowed")
        assert answer.headers["allow"] == "POST"


def test_a_fault_is_told_without_details(
    service: Service, restorer: Restorer, caplog: pytest.LogCaptureFixture
) -> None:
    def fault(*args: Any, **options: Any) -> Any:
        raise ZeroDivisionError("secret detail")

    restorer.model.restore = fault  # type: ignore[method-assign, assignment]
    client = service()
    answer = post(client, encoded())
    refused(answer, 500, "fault", "failed unexpectedly; the log of the service tells more")
    assert answer.headers["x-request-id"] in caplog.text and "secret detail" in caplog.text
    assert metric(client, 'restorevar_requests_total{method="POST",path="/v1/restore",status="500"}') == 1
    assert metric(client, 'restorevar_ended_total{outcome="failed"}') == 1


def test_bytes_are_counted_as_they_come(service: Service) -> None:
    """Told in advance or not, a body above the limit is not read to its end."""
    client = service(bytes=100_000)
    refused(post(client, bytes(200_000)), 413, "too_large", "more than 100000 bytes")
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(1000):
            sent += 10_000
            yield bytes(10_000)

    headers = {"content-type": "multipart/form-data; boundary=x"}
    with running(client.app) as url, httpx.Client(base_url=url) as http:
        answer = http.post("/v1/restore", content=pieces(), headers=headers)
    refused(answer, 413, "too_large", "more than 100000 bytes")


def test_time_is_bounded(service: Service, gate: threading.Event) -> None:
    client = service(seconds=2)  # less, and on a busy machine the sending alone takes longer at times
    refused(post(client, encoded()), 504, "too_slow", "longer than 2 seconds and was called off")
    gate.set()
    until(lambda: not client.app.state.engine.stats.running)
    assert client.app.state.engine.stats.ended["cancelled"] == 1

    with running(client.app) as url:  # who sends slowly is not waited for either
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=WAIT) as slow:
            slow.sendall(
                b"POST /v1/restore HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
                b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
            )
            assert b"408" in slow.recv(4096).splitlines()[0]


# -------------------------------------------------------------------------------------------------- many at once


@contextmanager
def running(app: Any, drain: float = WAIT) -> Iterator[str]:
    """The application on a port of its own, as `restorevar serve` runs it, in a thread."""
    with serving(app, drain) as (url, _):
        yield url


@contextmanager
def serving(app: Any, drain: float = WAIT) -> Iterator[tuple[str, _Server]]:
    started = threading.Event()
    bound = listen("127.0.0.1", 0)
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=int(drain))
    server = _Server(config, started.set)
    thread = threading.Thread(target=server.run, args=([bound],))
    thread.start()
    try:
        assert started.wait(WAIT)
        yield "http://{}:{}".format(*bound.getsockname()), server
    finally:
        server.should_exit = True
        thread.join(WAIT)
        assert not thread.is_alive()


def test_a_full_house_answers_429(service: Service, gate: threading.Event) -> None:
    """Whoever comes too many is told when to come again; the client does, and is served."""
    client = service(queue=1, at_once=1)
    engine = client.app.state.engine
    with ThreadPoolExecutor(4) as pool, running(client.app) as url:
        first = [pool.submit(post, client, encoded(0))]
        until(lambda: engine.stats.running == 1)  # or both would wait for the one place in the queue
        first.append(pool.submit(post, client, encoded(1)))
        until(lambda: engine.stats.waiting == 1)
        answer = post(client, encoded(2))
        refused(answer, 429, "busy", "too many photos are waiting")
        assert 1 <= int(answer.headers["retry-after"]) <= 120
        with Client(url, patience=0) as hasty, pytest.raises(ServiceError, match="too many photos are waiting") as no:
            hasty.restore(encoded(3))
        assert (no.value.status, no.value.code) == (429, "busy")
        patient = Client(url)
        later = pool.submit(patient.restore, encoded(3))
        until(lambda: engine.stats.refused >= 3)
        gate.set()
        assert [answer.result(WAIT).status_code for answer in first] == [200, 200]
        assert later.result(WAIT).media_type == "image/png"
        patient.close()
    assert metric(client, "restorevar_refused_total") >= 3
    assert engine.stats.taken == 3 and engine.stats.ended["done"] == 3


def test_who_goes_away_is_not_worked_for(service: Service, gate: threading.Event) -> None:
    client = service(at_once=1)
    engine = client.app.state.engine
    with running(client.app) as url:
        for _ in range(2):  # one that runs, one that waits
            with pytest.raises(httpx.ReadTimeout), httpx.Client(base_url=url, timeout=0.5) as http:
                http.post("/v1/restore", files={"image": encoded()})
        gate.set()
        until(lambda: engine.stats.ended["cancelled"] == 2)
        assert engine.stats.ended["done"] <= 1  # of the first, the window may have been in the model
        assert httpx.post(url + "/v1/restore", files={"image": encoded()}).status_code == 200
        until(lambda: client.app.state.doors["/v1/restore"].taken == 0)


def test_the_end_finishes_what_was_taken(service: Service, gate: threading.Event) -> None:
    client = service(at_once=1)
    engine = client.app.state.engine
    with ThreadPoolExecutor(3) as pool, serving(client.app) as (url, server):
        answers = [
            pool.submit(httpx.post, url + "/v1/restore", files={"image": encoded(i)}, timeout=WAIT) for i in range(3)
        ]
        until(lambda: engine.stats.taken == 3)
        server.should_exit = True
        time.sleep(0.5)
        with pytest.raises(httpx.HTTPError):
            httpx.get(url + "/healthz", timeout=2)  # nothing new is taken
        gate.set()
        assert [answer.result(WAIT).status_code for answer in answers] == [200] * 3
    assert not engine.is_open and engine.stats.ended["done"] == 3
    refused(post(client, encoded()), 503, "closing", "about to end")
    refused(client.get("/readyz"), 503, "closing", "about to end")
    assert client.get("/healthz").status_code == 200


def test_pages_that_are_open_do_not_keep_it_from_ending(service: Service) -> None:
    """A page holds a connection for as long as it is shown; the end waits for work, not for that."""
    app = service().app

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"alive\n"
            await asyncio.sleep(0.05)

    app.get("/endless")(lambda: StreamingResponse(endless()))
    begun = threading.Event()

    def look(url: str) -> None:
        with pytest.raises(httpx.RemoteProtocolError), httpx.stream("GET", url + "/endless") as answer:
            for _ in answer.iter_bytes():
                begun.set()

    with ThreadPoolExecutor(1) as pool:
        with serving(app, drain=10 * WAIT) as (url, _):
            looking = pool.submit(look, url)
            assert begun.wait(WAIT)
        looking.result(WAIT)


# ---------------------------------------------------------------------------------------------- doors and metrics


def test_keys(service: Service) -> None:
    client = service(keys=("another-key-of-letters", KEY))
    for headers in ({}, {"X-API-Key": "wrong"}, {"X-API-Key": KEY + "x"}, {"Authorization": f"Basic {KEY}"}):
        answer = client.post("/v1/restore", files={"image": encoded()}, headers=headers)
        refused(answer, 401, "no_key", "a key is needed")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert client.get("/metrics", headers=headers).status_code == 401
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
    for headers in ({"X-API-Key": KEY}, {"Authorization": f"Bearer {KEY}"}):
        assert client.post("/v1/restore", files={"image": encoded()}, headers=headers).status_code == 200
        assert client.get("/metrics", headers=headers).status_code == 200
    for weak in ("short", "", "with a space in between", "ungewöhnlich-lange-schlüssel"):
        with pytest.raises(UserError, match="an API key has at least 16 printable ASCII characters"):
            service(keys=(weak,))


def test_pages_of_strangers_are_refused(service: Service) -> None:
    """A page in somebody's browser must not reach the service on their machine, under whatever name."""
    client = service(hosts=("localhost", "127.0.0.1", "[::1]"))
    for host in ("localhost", "127.0.0.1:7860", "[::1]:7860", "LOCALHOST:1"):
        assert client.get("/healthz", headers={"Host": host}).status_code == 200
    for host in ("evil.example", "localhost.evil.example", "[::2]:7860", ""):
        refused(client.get("/healthz", headers={"Host": host}), 403, "not_allowed", "under another name")
    image = {"image": encoded()}
    local = {"Host": "localhost:7860"}
    assert (
        client.post("/v1/restore", files=image, headers={**local, "Origin": "http://localhost:7860"}).status_code == 200
    )
    for origin in ("https://evil.example", "null", "http://evil.example:7860"):
        answer = client.post("/v1/restore", files=image, headers={**local, "Origin": origin})
        refused(answer, 403, "not_allowed", "pages of other sites")


def test_metrics_count(service: Service, gate: threading.Event) -> None:
    client = service(at_once=1)
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(post, client, encoded(seed)) for seed in range(2)]
        until(lambda: metric(client, "restorevar_running") == 1 and metric(client, "restorevar_waiting") == 1)
        assert metric(client, "restorevar_requests_open") == 3, "these two, and the one that asks"
        gate.set()
        assert [answer.result(WAIT).status_code for answer in answers] == [200, 200]
    post(client, b"no image")
    client.get("/a/name/that/a/stranger/chose")
    expected = {
        'restorevar_requests_total{method="POST",path="/v1/restore",status="200"}': 2,
        'restorevar_requests_total{method="POST",path="/v1/restore",status="415"}': 1,
        'restorevar_requests_total{method="GET",path="other",status="404"}': 1,
        'restorevar_request_seconds_count{path="/v1/restore"}': 3,
        "restorevar_work_seconds_count": 2,
        "restorevar_queued_seconds_count": 2,
        'restorevar_ended_total{outcome="done"}': 2,
        "restorevar_pixels_total": 2 * 64 * 80,
        "restorevar_windows_total": 2,
    }
    assert {line: metric(client, line) for line in expected} == expected
    assert metric(client, "process_resident_memory_bytes") > 0 or sys.platform != "linux"


def test_openapi(service: Service) -> None:
    """What is promised is what is answered, examples and all."""
    client = service()
    spec = client.get("/openapi.json").json()
    assert {"/v1/restore", "/healthz", "/readyz", "/metrics"} <= set(spec["paths"])
    told = spec["paths"]["/v1/restore"]["post"]["responses"]
    assert set(told) >= {"200", "400", "401", "408", "413", "415", "422", "429", "503", "504"}
    assert set(told["200"]["content"]) >= {"image/png", "image/jpeg", "application/json"}
    example = told["200"]["content"]["application/json"]["example"]
    actual = post(client, encoded(), reply="json").json()
    assert set(example) == set(actual) and set(example["timings"]) == set(actual["timings"])
    for status, response in told.items():
        if status != "200":
            example = response["content"]["application/json"]["example"]
            assert example["status"] == int(status) and example["code"] and example["detail"]
    assert set(client.get("/v1/nothing").json()) == set(spec["components"]["schemas"]["Problem"]["properties"])
    page = client.get("/docs").text
    for text in ("POST /v1/restore", "best | balanced | fast", "number, 0 to 1", "sent_too_slowly", "file; required"):
        assert text in page
    assert "src=" not in page and "://" not in page.replace("http://127.0.0.1:7860", ""), "it loads nothing"


# ---------------------------------------------------------------------------------------------------- the client


def test_client(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "hazy.jpg"
    path.write_bytes(encoded(format="JPEG"))
    with running(service(keys=(KEY,)).app) as url:
        with Client(url, KEY) as client:
            reply = client.restore(path, strength=0.5, format="png", if_needed=False)
            assert reply.media_type == "image/png" and not reply.untouched
            assert np.asarray(Image.open(io.BytesIO(reply.data))).shape == (64, 80, 3)
            assert set(reply.seconds) == {"decode", "queue", "restore", "encode"} and reply.seconds["restore"] > 0
            assert client.examine(path.read_bytes())["format"] == "JPEG"
            with pytest.raises(ServiceError, match="is not an image") as refusal:
                client.restore(b"no image")
            assert (refusal.value.status, refusal.value.code) == (415, "not_an_image")
            with pytest.raises(UserError, match=r"missing\.png: cannot be read"):
                client.restore(tmp_path / "missing.png")
        with Client(url) as stranger, pytest.raises(ServiceError, match="a key is needed"):
            stranger.restore(path)
    bound = listen("127.0.0.1", 0)
    port = bound.getsockname()[1]
    bound.close()
    with Client(f"http://127.0.0.1:{port}", patience=0) as lost, pytest.raises(ServiceError, match="cannot be reached"):
        lost.job("0" * 32)


def test_client_of_jobs(restorer: Restorer, tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    path.write_bytes(encoded())
    with Engine(restorer) as engine:
        app = create_app(engine, keys=(KEY,), store=JobStore(tmp_path / "jobs"))
        with running(app) as url, Client(url, KEY) as client:
            expected = client.restore(path).data
            id = client.submit([path, encoded(1)], strength=1.0)
            job = client.wait(id, WAIT)
            assert (job["state"], len(job["files"])) == ("done", 2)
            assert client.result(id, 0) == expected
            assert zipfile.is_zipfile(io.BytesIO(client.result(id)))
            client.drop(id)
            assert client.job(id)["state"] == "expired"
            with pytest.raises(ServiceError) as refusal:
                client.job("0" * 32)
            assert refusal.value.status == 404


# --------------------------------------------------------------------------------------------------- the command


def test_serve_ends_well(tiny: RestoreVAR, tmp_path: Path) -> None:
    """`restorevar serve`, a photo, SIGTERM while it is restored: it is answered, and the exit code is 0."""
    checkpoints.save_model(tiny, tmp_path / "model")
    arguments = ["serve", "--port", "0", "--no-page", "--device", "cpu", "--model", str(tmp_path / "model")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RESTOREVAR_API_KEY": KEY}
    code = "from restorevar.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments, "--tile", "64", "--dtype", "fp32"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        assert "fp32 on cpu" in lines[0], lines
        url = re.search(r"http://127\.0\.0\.1:\d+", lines[1])
        assert url, lines
        with ThreadPoolExecutor(1) as pool, Client(url.group(), KEY, patience=0) as client:
            before = client._http.get("/metrics").text
            assert "restorevar_taken_total 0.0" in before
            answer = pool.submit(client.restore, encoded(height=300, width=400))
            until(lambda: "restorevar_running 1.0" in client._http.get("/metrics").text)
            process.send_signal(signal.SIGTERM)
            assert Image.open(io.BytesIO(answer.result(WAIT).data)).size == (400, 300)
        out, err = process.communicate(timeout=WAIT)
        assert (process.returncode, out, err) == (0, "", "")
    finally:
        process.kill()
        process.wait()


def test_serve_refuses_what_cannot_be(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        cases = [
            (["--port", str(port)], f"cannot listen on 127.0.0.1, port {port}"),
            (["--port", "0", "--host", "no such host"], "cannot listen on no such host"),
            (["--port", "0", "--model", str(tmp_path / "none")], "none"),
            (["--port", "0", "--tile", "x"], "--tile is auto or a whole number"),
        ]
        for arguments, said in cases:
            result = CliRunner().invoke(command, ["serve", "--device", "cpu", "--no-page", *arguments])
            assert result.exit_code == 2 and said in result.stderr, result.stderr
            assert len(result.stderr.splitlines()) == 1


def test_serve_warns_of_open_doors(monkeypatch: pytest.MonkeyPatch) -> None:
    settings: list[Settings] = []

    def note(found: Settings, place: Any) -> None:
        settings.append(found)
        serving_command._warn_of_open_doors(found, place)

    monkeypatch.setattr(serving_command, "_run", note)
    run = CliRunner()
    assert run.invoke(command, ["serve"]).stderr == ""
    assert settings[-1].page and settings[-1].hosts and "localhost" in settings[-1].hosts
    assert "everyone who reaches 0.0.0.0 may use" in run.invoke(command, ["serve", "--host", "0.0.0.0"]).stderr
    assert settings[-1].hosts is None
    assert run.invoke(command, ["serve", "--api-key", KEY]).stderr == "" and not settings[-1].page
    assert "the page asks for no key" in run.invoke(command, ["serve", "--api-key", KEY, "--page"]).stderr
    run.invoke(command, ["serve", "--allow-host", "photos.example"])
    assert settings[-1].hosts and "photos.example" in settings[-1].hosts
    assert KEY not in repr(settings)


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    result = CliRunner().invoke(command, ["serve", "--port", "0"])
    assert (
        result.exit_code == 2
        and "the service needs prometheus_client: pip install 'restorevar[serve]'" in result.stderr
    )


def test_a_refusal_reaches_those_who_still_send(service: Service) -> None:
    """A body that is not read does not cost the answer: 429 with Retry-After, no reset. uvicorn sees to it."""
    import uvicorn

    application = service(bytes=64 << 20).app
    for door in application.state.doors.values():
        door.places = 0
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(application, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            for size in (1_000, 300_000, 12_000_000):
                sender = HTTPConnection("127.0.0.1", bound.getsockname()[1], timeout=WAIT)
                sender.request("POST", "/v1/restore", bytes(size), {"Content-Type": "multipart/form-data; boundary=x"})
                answer = sender.getresponse()
                assert answer.status == 429 and answer.headers["Retry-After"]
                sender.close()
        finally:
            server.should_exit = True
            thread.join(WAIT)
