"""The application on a port, until a signal ends it: what was taken is finished, nothing more is taken."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from ..errors import UserError

if TYPE_CHECKING:
    from fastapi import FastAPI

#: Connections at once; more are answered with 503.
CONNECTIONS = 1024
#: Seconds between two looks at what is still to do, at the end.
LOOK = 0.1
#: Seconds that a page has to fetch its last result.
FETCH = 2.0


def listen(host: str, port: int) -> socket.socket:
    """A socket bound there; port 0 takes a free one. Raises UserError if it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except BaseException:
            bound.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot listen on {host}, port {port} ({reason})") from None
    return bound


def run(app: FastAPI, bound: socket.socket, drain: float, started: Callable[[], None] = lambda: None) -> None:
    """Serves until SIGINT or SIGTERM; returns when all that was taken is finished, or after `drain` seconds.

    `started` is called when requests are taken. A second SIGINT ends it at once.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=max(1, round(drain + FETCH)),
    )
    _Server(config, started).run([bound])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: Callable[[], None]):
        super().__init__(config)
        self._tell_started = started
        self._app: FastAPI = config.app  # type: ignore[assignment]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._captured_signals.clear()  # it is answered by ending well, not by dying of it afterwards

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        hanging = asyncio.ensure_future(self._hang_up())
        try:
            await super().shutdown(sockets)
        finally:
            hanging.cancel()

    async def _hang_up(self) -> None:
        """Once nothing is to be done any more: pages hold a connection open for as long as they are shown."""
        doors, engine = self._app.state.doors, self._app.state.engine
        idle = 0.0
        while idle < FETCH:
            await asyncio.sleep(LOOK)
            stats = engine.stats
            is_busy = stats.waiting or stats.running or any(door.taken for door in doors.values())
            idle = 0.0 if is_busy else idle + LOOK
        for connection in list(self.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.close()
