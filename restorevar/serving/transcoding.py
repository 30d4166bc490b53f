"""Bytes <-> photos for requests: a few at once, in threads; nobody waits for all of another's large file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from ..images import Photo, check_format, photo_from_bytes, photo_to_bytes

T = TypeVar("T")

#: Content types of results, by format.
MEDIA_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
    "AVIF": "image/avif",
}


class Transcoder:
    """At most `at_once` photos are decoded or encoded at the same time: that bounds the memory, too."""

    def __init__(self, max_pixels: int, at_once: int | None = None):
        self.max_pixels = max_pixels
        self._threads = ThreadPoolExecutor(at_once or min(4, os.cpu_count() or 1), "restorevar-transcoder")

    async def decode(self, data: Callable[[], bytes], format: str | None, quality: int | None) -> Photo:
        """The photo in the content of a file, which is asked for when its turn has come.

        Raises UserError for what cannot be read (NotAnImage, TooLarge), or could not be written afterwards.
        """
        return await self._run(lambda: self._decode(data(), format, quality))

    def _decode(self, data: bytes, format: str | None, quality: int | None) -> Photo:
        photo = photo_from_bytes(data, self.max_pixels)
        check_format(photo, format, quality)
        return photo

    async def encode(self, photo: Photo, format: str | None, quality: int | None) -> tuple[str, bytes]:
        """The name of the format and the content of the file; the photo's own format if none is asked for."""
        return await self._run(partial(photo_to_bytes, photo, format, quality))

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
