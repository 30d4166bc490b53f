"""`POST /v1/restore`: an image in, the same image restored out."""

from __future__ import annotations

import asyncio
import base64
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from pydantic import BaseModel, Field

from ..images import Photo
from .engine import Engine
from .problems import responses
from .tickets import Options, Restored, Ticket, TimedOut
from .transcoding import MEDIA_TYPES, Transcoder

Speed = Literal["auto", "best", "balanced", "fast"]
Reply = Literal["image", "json", "timings"]
Format = Literal["png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp", "avif"]


class Timings(BaseModel):
    """Seconds."""

    decode: float = Field(description="reading the image")
    queued: float = Field(description="waiting for a turn")
    restore: float = Field(description="from its turn to its end; others' passes in between included")
    encode: float = Field(description="writing the image")


class Answer(BaseModel):
    """What became of an image."""

    model: str
    sha256: str = Field(description="of the weights")
    width: int
    height: int
    format: str
    untouched: bool = Field(description="it came back as it was: `if_needed`, and nothing was to restore")
    settings: dict[str, Any] = Field(description="what the result depends on, beside model and image")
    timings: Timings
    diagnosis: dict[str, Any] | None = Field(description="what the image suffered from, where the service can tell")
    image: str | None = Field(description="the restored image in base64; null in the reply `timings`")


EXAMPLE = {
    "model": "compact",
    "sha256": "0f3a...",
    "width": 640,
    "height": 480,
    "format": "JPEG",
    "untouched": False,
    "settings": {
        "device": "cpu",
        "dtype": "fp32",
        "tile": "auto",
        "batch": 1,
        "fidelity": 1.0,
        "strength": 1.0,
        "speed": "best",
    },
    "timings": {"decode": 0.012, "queued": 0.0, "restore": 2.1, "encode": 0.015},
    "diagnosis": {
        "sentence": "strong haze (0.81)",
        "needs_nothing": False,
        "seen": ["haze"],
        "strengths": {"haze": 0.81},
    },
    "image": "/9j/4AAQSkZJRg...",
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_TIMES = {
    "Server-Timing": {"description": "decode, queue, restore, encode: milliseconds", "schema": {"type": "string"}},
    "X-Restorevar-Model": {"description": "name of the model", "schema": {"type": "string"}},
    "X-Restorevar-Untouched": {"description": "true or false", "schema": {"type": "string"}},
}


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


def restore_routes(engine: Engine) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["restore"])
    transcoder = Transcoder(engine.limits.pixels)

    @router.post(
        "/restore",
        response_class=Response,
        responses={
            200: {
                "description": "The restored image, in its own format with its metadata; or JSON, by `reply`.",
                "content": {**dict.fromkeys(MEDIA_TYPES.values(), _BINARY), "application/json": {"example": EXAMPLE}},
                "model": Answer,
                "headers": _TIMES,
            },
            **responses(
                s400="There was an error parsing the body",
                s401="a key is needed: X-API-Key, or Authorization: Bearer",
                s408="the request was not sent within 300 seconds, or paused for 30",
                s413="image: claims 60000 x 60000 pixels, above the limit of 50000000",
                s415="image: is not an image of a known format (PNG, JPEG, WEBP, TIFF, BMP, AVIF)",
                s422="fidelity: Input should be less than or equal to 1",
                s429="too many photos are waiting; try again later",
                s503="the service is about to end and takes nothing more",
                s504="took longer than 300 seconds and was called off",
            ),
        },
    )
    async def restore(
        request: Request,
        image: Annotated[
            UploadFile, File(description="PNG, JPEG, WebP, TIFF, BMP or AVIF, by its content; its name means nothing")
        ],
        fidelity: Annotated[
            float | None,
            Form(ge=0, le=1, allow_inf_nan=False, description="detail taken from the input", examples=[0.5]),
        ] = None,
        strength: Annotated[
            float | None,
            Form(ge=0, le=1, allow_inf_nan=False, description="how much of the change is made", examples=[1]),
        ] = None,
        speed: Annotated[Speed | None, Form(description="how much of the model is run", examples=["best"])] = None,
        if_needed: Annotated[bool, Form(description="an image that suffers from nothing comes back as it is")] = False,
        format: Annotated[
            Format | None, Form(description="of the result; without it that of the image", examples=["png"])
        ] = None,
        quality: Annotated[
            int | None, Form(ge=1, le=100, description="of JPEG, WebP and AVIF; without it as the image", examples=[90])
        ] = None,
        reply: Annotated[
            Reply, Form(description="the image; or JSON with timings and diagnosis, with the image in it or without")
        ] = "image",
    ) -> Response:
        """Restores an image. Same size, same format, metadata kept. A request that is given up is called off."""
        start = time.perf_counter()
        photo = await transcoder.decode(image.file.read, format, quality)
        await image.close()
        decoded = time.perf_counter() - start
        ticket = engine.submit(photo, Options(fidelity, strength, speed, if_needed))
        del photo
        try:
            restored = await result_of(ticket, request)
        except ClientGone:
            return Response(status_code=499)
        start = time.perf_counter()
        name, data = restored.photo.format, b""
        if reply != "timings":
            name, data = await transcoder.encode(restored.photo, format, quality)
        timings = Timings(
            decode=round(decoded, 4),
            queued=round(restored.queued, 4),
            restore=round(restored.seconds, 4),
            encode=round(time.perf_counter() - start, 4),
        )
        if reply == "image":
            return Response(data, media_type=MEDIA_TYPES[name], headers=_told(engine, restored, timings))
        return Response(_answer(engine, restored, name, data, timings).model_dump_json(), media_type="application/json")

    return router


async def result_of(ticket: Ticket, request: Request) -> Restored:
    """Waits for the ticket, and calls it off when its time is over (TimedOut) or the client has gone (ClientGone)."""
    result = asyncio.wrap_future(ticket.future)
    gone = asyncio.ensure_future(_until_gone(request))
    try:
        await asyncio.wait((result, gone), timeout=max(0.0, ticket.left), return_when=asyncio.FIRST_COMPLETED)
        if result.done():
            return result.result()
        raise ClientGone if gone.done() else TimedOut(ticket.seconds)
    finally:
        if not result.done():  # also when this task itself is cancelled
            ticket.cancel()
            result.cancel()
        gone.cancel()


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _told(engine: Engine, restored: Restored, timings: Timings) -> dict[str, str]:
    times = {"decode": timings.decode, "queue": timings.queued, "restore": timings.restore, "encode": timings.encode}
    return {
        "Server-Timing": ", ".join(f"{name};dur={1000 * seconds:.1f}" for name, seconds in times.items()),
        "X-Restorevar-Model": _plain(engine.restorer.name),
        "X-Restorevar-Untouched": str(restored.untouched).lower(),
    }


def _plain(text: str) -> str:
    """For a header: a model's name may be a path of any characters."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)


def _answer(engine: Engine, restored: Restored, name: str, data: bytes, timings: Timings) -> Answer:
    photo: Photo = restored.photo
    return Answer(
        model=engine.restorer.name,
        sha256=engine.restorer.sha256,
        width=photo.rgb.shape[1],
        height=photo.rgb.shape[0],
        format=name,
        untouched=restored.untouched,
        settings=restored.settings,
        timings=timings,
        diagnosis=None if restored.diagnosis is None else restored.diagnosis.as_json(),
        image=base64.b64encode(data).decode() if data else None,
    )
