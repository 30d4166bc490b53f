"""A small client of the service: waits its turn, and says in a line what went wrong.

client = Client("http://127.0.0.1:7860")
Path("clear.jpg").write_bytes(client.restore("hazy.jpg").data)
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError, first_line

try:
    import httpx
except ImportError:
    raise UserError("the client needs httpx: pip install 'restorevar[serve]'") from None

#: Seconds between two questions where the service does not say.
PAUSE = 1.0

Image = str | os.PathLike[str] | bytes


class ServiceError(UserError):
    """The service refused, or failed: `status` of HTTP, and its `code`; both empty where there was no answer."""

    def __init__(self, message: str, status: int = 0, code: str = ""):
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(frozen=True)
class Reply:
    """A restored image.

    data        the content of its file
    media_type  such as image/jpeg
    untouched   it came back as it was, for there was nothing to restore
    seconds     by what they were spent on: decode, queue, restore, encode
    """

    data: bytes
    media_type: str
    untouched: bool
    seconds: dict[str, float]


class Client:
    """Asks the service at `url`; `key` if it wants one. To be closed, or used in a `with`.

    timeout    seconds without any sign of the service
    patience   seconds, in all, that a request may be put off by a service that is busy or begins anew
    Raises ServiceError (a UserError) for what the service refuses, and where it cannot be reached.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:7860",
        key: str | None = None,
        timeout: float = 330.0,
        patience: float = 600.0,
    ):
        headers = {} if key is None else {"X-API-Key": key}
        self.patience = patience
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------- at once

    def restore(self, image: Image, **options: Any) -> Reply:
        """Options as the form fields of POST /v1/restore: fidelity, strength, speed, if_needed, format, quality."""
        answer = self._ask("POST", "/v1/restore", [("image", _file(image))], {**options, "reply": "image"})
        return Reply(
            answer.content,
            answer.headers["content-type"],
            answer.headers.get("x-restorevar-untouched") == "true",
            _seconds(answer.headers.get("server-timing", "")),
        )

    def examine(self, image: Image, **options: Any) -> dict[str, Any]:
        """Timings, settings and diagnosis of a restoration, without the image."""
        return self._ask("POST", "/v1/restore", [("image", _file(image))], {**options, "reply": "timings"}).json()

    # ---------------------------------------------------------------------------------------------------- jobs

    def submit(self, images: Iterable[Image], **options: Any) -> str:
        """Sends many images, or large ones, or zip archives of images; the id of the job."""
        return self._ask("POST", "/v1/jobs", [("files", _file(image)) for image in images], options).json()["id"]

    def job(self, id: str) -> dict[str, Any]:
        """How far it is."""
        return self._ask("GET", f"/v1/jobs/{id}").json()

    def wait(self, id: str, timeout: float | None = None) -> dict[str, Any]:
        """The job, when it has ended. TimeoutError after `timeout` seconds; the job goes on."""
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            job = self.job(id)
            if job["state"] not in ("queued", "running"):
                return job
            if until is not None and time.monotonic() >= until:
                raise TimeoutError(f"job {id} has not ended within {timeout} seconds")
            time.sleep(PAUSE)

    def result(self, id: str, number: int | None = None) -> bytes:
        """One of its restored images; or all: an image if it was one, else a zip archive."""
        part = "result" if number is None else f"files/{number}"
        return self._ask("GET", f"/v1/jobs/{id}/{part}").content

    def drop(self, id: str) -> None:
        """Calls the job off, or removes its results."""
        self._ask("DELETE", f"/v1/jobs/{id}")

    # -------------------------------------------------------------------------------------------------- asking

    def _ask(
        self,
        method: str,
        path: str,
        files: list[tuple[str, tuple[str, bytes]]] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> httpx.Response:
        """Again, for as long as patience lasts, while the service is busy or cannot be reached."""
        form = {name: _plain(value) for name, value in (options or {}).items() if value is not None}
        until = time.monotonic() + self.patience
        while True:
            try:
                answer = self._http.request(method, path, files=files, data=form or None)
            except httpx.ConnectError as error:
                failure = ServiceError(f"{self._http.base_url}: cannot be reached ({first_line(error)})")
                pause = PAUSE
            except httpx.HTTPError as error:
                raise ServiceError(f"{self._http.base_url}: gave no answer ({first_line(error)})") from None
            else:
                if answer.is_success:
                    return answer
                failure = _failure(answer)
                if answer.status_code not in (429, 503):
                    raise failure
                pause = _number(answer.headers.get("retry-after", ""), PAUSE)
            pause *= random.uniform(1, 1.25)  # those who were refused together are not to come back together
            if time.monotonic() + pause > until:
                raise failure from None
            time.sleep(pause)


def _file(image: Image) -> tuple[str, bytes]:
    if isinstance(image, bytes):
        return "image", image
    path = Path(image)
    try:
        return path.name, path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _failure(answer: httpx.Response) -> ServiceError:
    try:
        problem = answer.json()
        return ServiceError(str(problem["detail"]), answer.status_code, str(problem.get("code", "")))
    except (ValueError, KeyError, TypeError, AttributeError):  # a proxy's answer
        return ServiceError(f"HTTP status {answer.status_code}", answer.status_code)


def _number(text: str, otherwise: float) -> float:
    try:
        return max(0.0, float(text))
    except ValueError:  # a date
        return otherwise


def _seconds(header: str) -> dict[str, float]:
    """Of a Server-Timing header: `decode;dur=1.5, ...`, milliseconds."""
    parts = (part.strip().partition(";dur=") for part in header.split(",") if ";dur=" in part)
    return {name: _number(milliseconds, 0.0) / 1000 for name, _, milliseconds in parts}
