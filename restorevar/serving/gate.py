"""What every request passes first: its key, its size, its time, a place. What is refused here has cost nothing yet."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .engine import Engine
from .keys import Keys
from .metrics import Metrics
from .problems import busy, problem
from .tickets import Busy, Closed

log = logging.getLogger(__name__)

#: The status, for counting, where nothing was answered: the client has gone.
GONE = 499
#: Seconds that a sender may pause: it holds a place meanwhile.
IDLE = 30.0
#: Photos of the greatest size that the page may send in one request.
PAGE_PHOTOS = 16


@dataclass
class Door:
    """For the requests that send something to one path.

    bytes    of the body, at most
    places   requests at once, at most: sending, waiting and being answered
    taken    places taken now
    """

    bytes: int
    places: int
    taken: int = 0


class Gate:
    """ASGI middleware. `doors` by path; bodies sent elsewhere are held to `limits.bytes` of the engine.

    What begins with one of `locked` needs a key, where keys are set. Each answer tells the id of its request. `hosts`:
    names under which the service may be asked for, and whose pages may ask it; None: any.
    """

    def __init__(
        self,
        app: ASGIApp,
        engine: Engine,
        doors: Mapping[str, Door],
        keys: Keys,
        metrics: Metrics,
        locked: tuple[str, ...] = ("/v1", "/metrics"),
        hosts: Sequence[str] | None = None,
    ):
        self.app, self.engine, self.doors = app, engine, doors
        self.keys, self.metrics, self.locked = keys, metrics, locked
        self.hosts = None if hosts is None else {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        id = uuid.uuid4().hex
        status = GONE

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", []), *_headers(scope["path"], id)]}
            await send(message)

        self.metrics.open.inc()
        try:
            await self._pass(scope, receive, tell)
        except Exception:
            log.exception("request %s failed unexpectedly", id)
            if status != GONE:  # an answer has begun, and cannot be taken back
                raise
            await problem(500, "failed unexpectedly; the log of the service tells more")(scope, receive, tell)
        finally:
            self.metrics.open.dec()
            path = _template(scope)
            self.metrics.requests.labels(scope["method"], path, str(status)).inc()
            self.metrics.request_seconds.labels(path).observe(time.perf_counter() - start)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if self.hosts is not None and (stranger := _stranger(scope, self.hosts)) is not None:
            await problem(403, stranger)(scope, receive, send)
            return
        owner: str | None = ""
        if path.startswith(self.locked):
            owner = self.keys.owner(scope["headers"])
            if owner is None:
                refusal = problem(
                    401, "a key is needed: X-API-Key, or Authorization: Bearer", {"WWW-Authenticate": "Bearer"}
                )
                await refusal(scope, receive, send)
                return
        scope.setdefault("state", {})["owner"] = owner
        door = self.doors.get(path) if scope["method"] == "POST" else None
        most = self._most(path) if door is None else door.bytes
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > most:
            await problem(413, _too_large(most))(scope, receive, send)
            return
        receive = _held(receive, most, self.engine.limits.seconds)
        if door is None:
            await self.app(scope, receive, send)
            return
        if not self.engine.is_open:
            await busy(Closed())(scope, receive, send)
            return
        if door.taken >= door.places:
            self.engine.count_refused()
            await busy(Busy(self.engine.retry_after))(scope, receive, send)
            return
        door.taken += 1
        try:
            await self.app(scope, receive, send)
        finally:
            door.taken -= 1

    def _most(self, path: str) -> int:
        """Bytes of a body that goes through no door; the page sends several photos at once."""
        return self.engine.limits.bytes * (1 if path.startswith("/v1") else PAGE_PHOTOS)


def _stranger(scope: Scope, hosts: set[str]) -> str | None:
    """Why a request is refused that does not ask for one of the hosts, or comes from a page of another one."""
    headers = dict(scope["headers"])
    host = headers.get(b"host", b"").decode("latin-1")
    if _name(host) not in hosts:
        return "this service is asked for under another name; --allow-host allows further ones"
    origin = headers.get(b"origin", b"").decode("latin-1")
    if origin and scope["method"] not in ("GET", "HEAD") and _name(origin.partition("://")[2]) not in hosts:
        return "pages of other sites may not ask this service"
    return None


def _name(host: str) -> str:
    """A host without its port."""
    return re.sub(r":\d+$", "", host).lower()


def _held(receive: Receive, most: int, seconds: float) -> Receive:
    """`receive`, which refuses a body of more than `most` bytes, or that takes more than `seconds`, or pauses for
    more than IDLE seconds, as it comes."""
    until = time.monotonic() + seconds
    size, ended = 0, False

    async def held() -> Message:
        nonlocal size, ended
        if ended:
            return await receive()
        try:
            left = min(until - time.monotonic(), IDLE)
            message = await asyncio.wait_for(receive(), max(0.0, left))
        except (TimeoutError, asyncio.TimeoutError):
            told = f"the request was not sent within {seconds:g} seconds, or paused for {IDLE:g}"
            raise HTTPException(408, told) from None
        if message["type"] == "http.request":
            size += len(message.get("body", b""))
            ended = not message.get("more_body", False)
            if size > most:
                raise HTTPException(413, _too_large(most))
        return message

    return held


def _too_large(most: int) -> str:
    return f"the request has more than {most} bytes"


def _headers(path: str, id: str) -> list[tuple[bytes, bytes]]:
    headers = [(b"x-request-id", id.encode())]
    if path.startswith("/v1"):
        headers += [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
    return headers


def _template(scope: Scope) -> str:
    """The path as the routes have it, for counting: names that strangers choose are no labels."""
    path = getattr(scope.get("route"), "path", "")
    return path if path.startswith(("/v1", "/healthz", "/readyz", "/metrics")) else "other"
