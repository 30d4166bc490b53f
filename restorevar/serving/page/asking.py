"""What the browser asks for, and the view that it gets, again and again while something changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import UserError
from ..engine import Options
from .examples import examples
from .visit import Visit
from .visits import Visits

#: Seconds between two looks at a visit that is worked on.
PACE = 0.1


async def answer(
    visits: Visits, uploads: Path, page: str, asked: Mapping[str, Any], options: Options
) -> AsyncIterator[dict[str, Any]]:
    """Does what was asked for, then yields the view of the visit whenever it differs, until nothing is at work.

    page      Gradio's name for the open page
    uploads   the folder into which Gradio puts what was sent; files elsewhere are not taken
    asked     from the browser: `what` is look, add, example, again or cancel; `visit` the key, if it has one
    """
    visit = visits.open(_text(asked, "visit") or None, page)
    error = ""
    try:
        await asyncio.to_thread(_do, visit, uploads, asked, options)
    except UserError as refused:
        error = str(refused)
    number = visit.follow()
    shown: dict[str, Any] = {}
    while True:
        is_busy = visit.is_busy  # before the view, so that the last one has everything
        view = {**visit.view(), "error": error}
        if view != shown:
            shown = view
            yield view
        if not is_busy or not visit.is_followed_by(number):
            return
        await asyncio.sleep(PACE)


def _do(visit: Visit, uploads: Path, asked: Mapping[str, Any], options: Options) -> None:
    what, id = _text(asked, "what"), _text(asked, "id")
    if what == "add":
        visit.add(_uploaded(_text(asked, "sent"), uploads), _text(asked, "name"), options)
    elif what == "example":
        path = examples().get(_text(asked, "name"))
        if path is not None:
            visit.add(path, path.name, options)
    elif what == "again":
        visit.again(id, replace(options, if_needed=options.if_needed and not asked.get("anyway")))
    elif what == "cancel":
        visit.cancel(id)


def _uploaded(text: str, uploads: Path) -> Path:
    """The path of what was sent. UserError for any other: it comes from the browser, who may say anything."""
    with contextlib.suppress(OSError, ValueError):
        path = Path(text).resolve(strict=True)
        if path.is_relative_to(uploads.resolve()) and path.is_file():
            return path
    raise UserError("the photo did not arrive; send it once more")


def _text(asked: Mapping[str, Any], key: str) -> str:
    value = asked.get(key)
    return value if isinstance(value, str) else ""
