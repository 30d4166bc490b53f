"""A page put together. The browser is told to load nothing from outside, whatever a file name or caption may hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

#: What a page may do: its own style and script, pictures of its own, and nothing else. "blob:" is for downloads.
POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

#: Where the style and script lie that pages share.
SHARED = Path(__file__).parent


@dataclass(frozen=True)
class Page:
    """One HTML file.

    body      HTML; the caller escapes what it puts into it
    assets    files of style (.css) and script (.js), taken in this order after the shared ones
    data      plain JSON types, for the script: `JSON.parse(document.getElementById("data").textContent)`
    """

    title: str
    body: str
    assets: Sequence[Path]
    data: Any = None

    def html(self) -> str:
        files = [SHARED / "base.css", SHARED / "viewer.css", SHARED / "viewer.js", *self.assets]
        style = "\n".join(_read(path) for path in files if path.suffix == ".css")
        script = "\n".join(_read(path) for path in files if path.suffix == ".js")
        return "\n".join(
            [
                "<!doctype html>",
                '<html lang="en">',
                "<head>",
                '<meta charset="utf-8">',
                f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                '<meta name="color-scheme" content="light dark">',
                '<link rel="icon" href="data:,">',
                f"<title>{escape(self.title)}</title>",
                f"<style>\n{style}</style>",
                "</head>",
                "<body>",
                self.body,
                f'<script type="application/json" id="data">{_inline(self.data)}</script>',
                f"<script>\n{script}</script>",
                "</body>",
                "</html>",
                "",
            ]
        )


def _inline(data: Any) -> str:
    """JSON that no markup inside its strings can end; NaN would not be JSON."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


@cache
def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
