"""The HTTP service around an engine.

    request -> Gate (key, size, time, a place) -> route -> Engine -> answer

The page, where there is one, is mounted at "/"; the API lies below /v1.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from anyio import to_thread
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse
from starlette.routing import Match

from . import describing
from .engine import Engine
from .gate import Door, Gate
from .health_routes import health_routes
from .keys import Keys
from .metrics import Metrics
from .problems import answer_problems
from .restore_routes import restore_routes

if TYPE_CHECKING:
    from .jobs import JobStore

#: Seconds in which what was taken is finished at the end.
DRAIN = 60.0
#: Jobs that may be sent at once.
SENDING_JOBS = 4
#: Bytes around the files of a form: names of fields, borders, options.
AROUND = 1 << 20

#: Of forms, beside their files: fields are held in memory.
FORM: Any = {"max_fields": 32, "max_part_size": 4096}
#: Files that one form may hold, at least; how many of them are taken, the jobs say.
FILES = 1000
#: Of HTTP.
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

_DESCRIPTION = """Restores photographs from haze, rain, snow, low light and blur: same size, same format, metadata kept.

    curl -F image=@hazy.jpg http://127.0.0.1:7860/v1/restore -o clear.jpg

Whatever goes wrong is answered with `{"status", "code", "detail"}`. On 429 and 503 come back after `Retry-After`
seconds.
"""


def create_app(
    engine: Engine,
    keys: Iterable[str] = (),
    store: JobStore | None = None,
    page: bool = False,
    hosts: Sequence[str] | None = None,
    drain: float = DRAIN,
) -> FastAPI:
    """The application; it closes the engine at its end, when what was taken is finished, or after `drain` seconds.

    keys    that open /v1 and /metrics, in `X-API-Key` or `Authorization: Bearer`; none: open to everyone
    store   of the jobs; without it there are none
    page    whether the web page is there; it needs gradio
    hosts   names under which the service may be asked for; None: any. On the own machine, names of it only: else a
            web page that somebody visits could reach the service under a name of its own
    Raises UserError for keys that cannot be.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await to_thread.run_sync(engine.close, drain)

    app = FastAPI(
        title="restorevar",
        version=version("restorevar"),
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # its own pages load scripts from elsewhere
        redoc_url=None,
    )
    app.state.engine = engine
    app.state.metrics = metrics = Metrics(engine)
    limits = engine.limits
    app.state.doors = doors = {"/v1/restore": Door(limits.bytes, limits.queue + engine.at_once)}
    answer_problems(app)
    app.include_router(restore_routes(engine), form_limits={**FORM, "max_files": 1})
    app.include_router(health_routes(engine, metrics))
    if store is not None:
        from .job_routes import job_routes

        doors["/v1/jobs"] = Door(store.limits.job_bytes + AROUND, SENDING_JOBS)
        app.include_router(
            job_routes(engine, store, owner), form_limits={**FORM, "max_files": max(FILES, store.limits.files + 1)}
        )

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(describing.page(app.openapi()))

    if page:
        from .page import mount_page

        _answer_unknown(app)
        mount_page(app, engine)
    app.add_middleware(Gate, engine=engine, doors=doors, keys=Keys(keys), metrics=metrics, hosts=hosts)
    return app


def _answer_unknown(app: FastAPI) -> None:
    """What is below /v1 and not there is answered here, not by the page, which is mounted at "/" and takes all else."""
    known = list(app.router.routes)

    @app.api_route("/v1/{rest:path}", methods=METHODS, include_in_schema=False)
    async def unknown(request: Request) -> None:
        allowed = {
            method
            for method in METHODS
            for route in known
            if route.matches({**request.scope, "method": method})[0] is Match.FULL
        }
        if not allowed:
            raise HTTPException(404)
        raise HTTPException(405, headers={"Allow": ", ".join(sorted(allowed))})


def owner(request: Request) -> str:
    """Whose request it is: one for each key, "" where there are none."""
    return str(getattr(request.state, "owner", ""))
