"""What is on the page: Gradio's blocks, with parts of our own where it has none.

Drop zone, stage, panel and strip are HTML of ours (assets/), which one script fills; sliders, choices and the fold
around them are Gradio's. Gradio also brings uploads, the queue and the stream of views. It reads the annotations of
its handlers, so it is imported here at the top, and this module only where a page is made.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ...errors import UserError
from ...evaluation.webpage import SHARED
from ...images import EXTENSIONS
from ...pipeline import SPEEDS
from ..engine import Engine, Options
from .asking import answer
from .examples import TITLES, examples
from .visits import Visits

ASSETS = Path(__file__).parent / "assets"
#: One function after the other; desk.js comes last, for it begins.
SCRIPTS = (SHARED / "viewer.js", *(ASSETS / f"{name}.js" for name in ("stage", "panel", "strip", "desk")))
STYLES = (ASSETS / "colors.css", SHARED / "viewer.css", ASSETS / "page.css")
#: Photos in the formats that are read; naming them makes phones convert others.
ACCEPT = "image/jpeg,image/png,image/webp,image/tiff,image/bmp,image/avif," + ",".join(EXTENSIONS)
EXAMPLE = (
    '<li><button type="button" data-act="example" data-name="{name}">'
    '<img src="visit/example/{name}" alt="" width="96" height="72"><span>{title}</span></button></li>'
)
#: Parts of ours look as our style says.
PLAIN: dict[str, Any] = {"padding": False, "apply_default_css": False}
_SPEEDS = {"best": "Best", "balanced": "Balanced", "fast": "Fast"}
#: Uploads that Gradio keeps are looked at so often, and removed at this age, in seconds: visits have copies.
CLEANING = (60, 300)


def build_page(engine: Engine, visits: Visits, uploads: Path) -> gr.Blocks:
    """The page for an engine. `uploads`: where Gradio is going to put what is sent."""
    with gr.Blocks(title="restorevar", analytics_enabled=False, fill_width=True, delete_cache=CLEANING) as page:
        desk = gr.HTML(
            html_template=_welcome(engine), js_on_load="\n".join(map(_read, SCRIPTS)), elem_id="desk", **PLAIN
        )
        with gr.Row(elem_id="work"):
            with gr.Column(scale=7, min_width=320):
                gr.HTML(_read(ASSETS / "stage.html"), **PLAIN)
            with gr.Column(scale=4, min_width=300):
                gr.HTML(_read(ASSETS / "panel.html"), **PLAIN)
                settings = _settings(engine)
        gr.HTML(_read(ASSETS / "strip.html").replace("{accept}", ACCEPT), **PLAIN)

        async def ask(
            strength: float, fidelity: float, speed: str, if_needed: bool, event: gr.EventData, request: gr.Request
        ) -> AsyncIterator[dict[str, Any]]:
            options = _options(engine, strength, fidelity, speed, if_needed)
            asked = event._data if isinstance(event._data, dict) else {}
            async for view in answer(visits, uploads, request.session_hash or "", asked, options):
                yield view

        def leave(request: gr.Request) -> None:
            visits.leave(request.session_hash or "")

        desk.ask(
            ask,
            settings,
            desk,
            trigger_mode="multiple",
            concurrency_limit=None,
            show_progress="hidden",
            api_visibility="private",
        )
        page.unload(leave)
    page.queue(api_open=False, default_concurrency_limit=None)
    return page


def _settings(engine: Engine) -> list[Any]:
    """Strength, fidelity, speed, whether photos that need nothing are left alone; hidden where there is no choice."""
    restorer = engine.restorer
    speeds = [(title, name) for name, title in _SPEEDS.items() if name in SPEEDS and _can(engine, speed=name)]
    with gr.Accordion("Not quite right? Adjust it", open=False, elem_id="adjust"):
        strength = gr.Slider(
            0,
            100,
            round(100 * restorer.strength),
            step=5,
            label="Strength, %",
            info="How much of the change is made.",
            buttons=[],
        )
        fidelity = gr.Slider(
            0,
            100,
            round(100 * restorer.fidelity),
            step=5,
            label="Detail from your photo, %",
            info="More keeps what is there; less lets the model paint.",
            visible=_can(engine, fidelity=1.0),
            buttons=[],
        )
        speed = gr.Radio(
            speeds,
            value=restorer.speed,
            label="Speed",
            info="Fast takes about a quarter of the time, and sees less.",
            visible=len(speeds) > 1,
        )
        if_needed = gr.Checkbox(
            engine.diagnose is not None,
            label="Leave photos alone that need nothing",
            visible=engine.diagnose is not None,
        )
        gr.HTML('<button type="button" class="main" data-act="again">Restore it again</button>', **PLAIN)
    return [strength, fidelity, speed, if_needed]


def _can(engine: Engine, **options: Any) -> bool:
    """Whether the engine's model has a choice there."""
    try:
        engine.restorer.at(**options)
    except UserError:
        return False
    return True


def _options(engine: Engine, strength: float, fidelity: float, speed: str, if_needed: bool) -> Options:
    """From what the controls say, sliders in percent. What was not moved is left to the engine."""
    restorer = engine.restorer
    return Options(
        fidelity=None if fidelity == round(100 * restorer.fidelity) else fidelity / 100,
        strength=None if strength == round(100 * restorer.strength) else strength / 100,
        speed=None if speed == restorer.speed else speed,
        if_needed=bool(if_needed) and engine.diagnose is not None,
    )


def _welcome(engine: Engine) -> str:
    items = [EXAMPLE.format(name=name, title=escape(TITLES[name])) for name in examples()]
    text = _read(ASSETS / "welcome.html").replace("{accept}", ACCEPT).replace("{examples}", "".join(items))
    return text.replace("{bytes}", str(engine.limits.bytes)).replace("{megabytes}", str(engine.limits.bytes >> 20))


def head() -> str:
    """The style of the page. In its head, for Gradio would confine it to its own elements."""
    return "<style>\n" + "\n".join(map(_read, STYLES)) + "</style>"


@cache
def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
