"""Files as answers: opened before anything is promised, for they may be removed while they are sent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import IO
from urllib.parse import quote

from fastapi.responses import StreamingResponse

from .archives import CHUNK


def read_pieces(stream: IO[bytes]) -> Iterator[bytes]:
    while piece := stream.read(CHUNK):
        yield piece


def send(content: Iterator[bytes], kind: str, name: str | None = None) -> StreamingResponse:
    """Content of the media type `kind`; with a name it is for keeping, else for showing."""
    headers = {} if name is None else {"Content-Disposition": content_disposition(name)}
    return StreamingResponse(content, media_type=kind, headers=headers)


def send_file(stream: IO[bytes], kind: str, name: str | None = None) -> StreamingResponse:
    """What an open file holds, with its length; closed when it is sent."""
    response = send(_and_close(stream), kind, name)
    response.headers["Content-Length"] = str(os.fstat(stream.fileno()).st_size)
    return response


def content_disposition(name: str) -> str:
    """For saving under `name`; other than plain characters as RFC 6266 has it."""
    plain = "".join(c if c.isascii() and c not in '"\\%' else "_" for c in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _and_close(stream: IO[bytes]) -> Iterator[bytes]:
    with stream:
        yield from read_pieces(stream)
