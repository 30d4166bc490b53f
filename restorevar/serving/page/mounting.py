"""The page put into an application: its files, Gradio at "/", and headers."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse, Response
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...errors import UserError
from ..engine import Engine
from ..sending import send_file
from .examples import examples
from .visits import Visits

#: What the browser may load: only what comes from here. Gradio evaluates templates and sets styles on elements.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
#: Keys, and photos of people: nothing of a visit is kept by browsers or proxies, or told to other sites.
PRIVATE = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}


def mount_page(app: FastAPI, engine: Engine) -> FastAPI:
    """The application with the page at "/". Call it last: what is added after it would lie behind the page.

    Raises UserError when Gradio is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when it is imported
    try:
        import gradio
    except ImportError:
        raise UserError("the page needs Gradio: pip install 'restorevar[serve]', or leave the page out") from None
    from .layout import build_page, head

    visits = Visits(engine)
    uploads = visits.root / "uploads"
    uploads.mkdir(mode=0o700)
    _add_files(app, visits)
    # Gradio takes its folder from here only; its usual one can be read by everybody on the machine.
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    try:
        gradio.mount_gradio_app(
            app,
            build_page(engine, visits, uploads),
            path="/",
            theme=_theme(),
            head=head(),
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            show_error=False,
            max_file_size=engine.limits.bytes,
            favicon_path=str(Path(__file__).parent / "assets" / "icon.png"),
        )
    finally:
        if before is None:
            del os.environ["GRADIO_TEMP_DIR"]
        else:
            os.environ["GRADIO_TEMP_DIR"] = before
    app.add_middleware(_Headers)
    app.state.visits = visits
    _close_at_end(app, visits)
    return app


def _close_at_end(app: FastAPI, visits: Visits) -> None:
    """Before the application itself ends, which waits for what its engine has taken."""
    lifespan = app.router.lifespan_context

    @asynccontextmanager
    async def with_visits(app: FastAPI) -> AsyncIterator[Mapping[str, Any] | None]:
        async with lifespan(app) as state:
            yield state
            visits.close()

    app.router.lifespan_context = with_visits  # type: ignore[assignment]


def _theme() -> object:
    """Gradio's, with the fonts of the system: its own would be loaded."""
    import gradio

    return gradio.themes.Default(
        primary_hue="blue",
        neutral_hue="slate",
        radius_size="lg",
        text_size="lg",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )


def _add_files(app: FastAPI, visits: Visits) -> None:
    @app.get("/visit/example/{name}", include_in_schema=False)
    def example(name: str) -> Response:
        path = examples().get(name)
        if path is None:
            raise HTTPException(404)
        return FileResponse(path, headers={"Cache-Control": "public, max-age=86400"})

    @app.get("/visit/{key}/all", include_in_schema=False)
    def everything(key: str) -> Response:
        try:
            path = visits.find(key).pack()
        except KeyError:
            raise HTTPException(404) from None
        return _sent(path, "restored.zip")

    @app.get("/visit/{key}/{photo}/{file}", include_in_schema=False)
    def file(key: str, photo: str, file: str) -> Response:
        """A picture, or the result. The key is the secret; the other two are looked up, never used as a path."""
        try:
            path, name = visits.find(key).file(photo, file)
        except KeyError:
            raise HTTPException(404) from None
        return _sent(path, name)


def _sent(path: Path, name: str | None) -> Response:
    """A file of a visit, which may be deleted at any moment: to be kept under a name, or a WebP picture to be shown."""
    try:
        file = path.open("rb")
    except OSError:
        raise HTTPException(404) from None
    kind = "image/webp" if name is None else mimetypes.guess_type(name)[0] or "application/octet-stream"
    response = send_file(file, kind, name)
    response.headers.update(PRIVATE)
    return response


class _Headers:
    """Sends the policy with every page, so that no font, script or picture can come from anywhere else."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("content-type", "").startswith("text/html"):
                    headers["Content-Security-Policy"] = POLICY
                    headers["Referrer-Policy"] = "same-origin"
            await send(message)

        await self.app(scope, receive, send_with_policy if scope["type"] == "http" else send)
