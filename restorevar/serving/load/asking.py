"""Requests of which the right answer is known: whose image came back is told by its pixels."""

from __future__ import annotations

import http.client
import io
import time
import uuid
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ...pipeline import Restorer

#: Seconds after which an idle connection is made anew, as libraries do: servers close them, uvicorn after 5.
STALE = 2.0
#: Mean difference in levels of 255 that arithmetic in another order may make. Pictures differ by far more.
TOLERANCE = 1.0


@dataclass(frozen=True)
class Picture:
    """`data`: a PNG file; `expected`: its restoration, [H, W, 3] uint8."""

    data: bytes
    expected: np.ndarray


@dataclass(frozen=True)
class Answer:
    """`status` 0: no answer. `seconds` since it was due. `right`: the restoration of what was sent; None: no image.
    `retry_after`: whether the answer told when to come back."""

    status: int
    seconds: float
    right: bool | None
    retry_after: bool


def make_pictures(restorer: Restorer, count: int, side: int, seed: int = 0) -> list[Picture]:
    """Square pictures of coloured waves, no two alike, and what the model makes of them here."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    pictures = []
    for _ in range(count):
        waves = []
        for _ in range(3):
            a, b, phase, level = random.uniform([1, 1, 0, 60], [12, 12, 6.3, 196])
            waves.append(level + 55 * np.sin(a * x * 6.3 + b * y * 6.3 + phase))
        pixels = np.stack(waves, -1).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
        pictures.append(Picture(stream.getvalue(), restorer.restore_pixels(pixels)))
    return pictures


class Asker:
    """One client with one connection, kept open as browsers and libraries do. Not for several threads."""

    def __init__(self, port: int, pictures: list[Picture], key: str | None = None, timeout: float = 300.0):
        self.port, self.pictures, self.timeout = port, pictures, timeout
        self._headers = {} if key is None else {"X-API-Key": key}
        self._connection: http.client.HTTPConnection | None = None
        self._used = 0.0

    def ask(self, number: int, due: float | None = None) -> Answer:
        """Sends picture `number` to /v1/restore. `due`: the monotonic time when it should have been sent."""
        start = time.monotonic() if due is None else due
        body, kind = form(self.pictures[number].data)
        if time.monotonic() - self._used > STALE:
            self.close()
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)
            self._connection.request("POST", "/v1/restore", body, {**self._headers, "Content-Type": kind})
            response = self._connection.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException):
            self.close()
            return Answer(0, time.monotonic() - start, None, False)
        self._used = time.monotonic()
        seconds = self._used - start
        if response.will_close:
            self.close()
        right = self._is_right(number, data) if response.status == 200 else None
        return Answer(response.status, seconds, right, response.headers.get("Retry-After") is not None)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _is_right(self, number: int, data: bytes) -> bool:
        """Nearer to its own restoration than to any other's, and near enough."""
        try:
            pixels = np.asarray(Image.open(io.BytesIO(data)))
        except Exception:  # no image at all
            return False
        if pixels.shape != self.pictures[number].expected.shape:
            return False
        far = [np.abs(pixels.astype(np.int16) - picture.expected).mean() for picture in self.pictures]
        return int(np.argmin(far)) == number and bool(far[number] <= TOLERANCE)


def form(data: bytes) -> tuple[bytes, str]:
    """A form with one image: body, content type."""
    border = uuid.uuid4().hex
    head = f'--{border}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
    head += "Content-Type: application/octet-stream\r\n\r\n"
    return head.encode() + data + f"\r\n--{border}--\r\n".encode(), f"multipart/form-data; boundary={border}"
