"""The page: photos dropped into a browser, restored before one's eyes. Gradio on the service's FastAPI application.

layout.py      what is on it: Gradio's blocks, and parts of our own from assets/
asking.py      what the browser asks for -> the visit; the visit's view -> the browser
visit.py       the photos of one person, a thread that takes them to the engine; visits.py  all of them
pictures.py    what a browser is shown of a photo; maps;  words.py  what it is told
mounting.py    routes, Gradio, and headers that keep the browser from asking anybody else
"""

from __future__ import annotations

from .mounting import mount_page

__all__ = ["mount_page"]
