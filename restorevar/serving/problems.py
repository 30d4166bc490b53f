"""What goes wrong, as JSON: `{"status": 429, "code": "busy", "detail": "..."}`. The detail is one line for people."""

from __future__ import annotations

import math
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as StarletteHTTPException

from ..errors import UserError
from ..images import NotAnImage, TooLarge
from .tickets import Busy, Cancelled, Closed, TimedOut

#: Codes by status, for programs: a status may change its meaning with a proxy in between, a code does not.
CODES = {
    400: "bad_request",
    401: "no_key",
    403: "not_allowed",
    404: "not_found",
    405: "wrong_method",
    408: "sent_too_slowly",
    409: "not_ready",
    410: "gone",
    413: "too_large",
    415: "not_an_image",
    422: "unusable",
    429: "busy",
    499: "client_gone",
    500: "fault",
    503: "closing",
    504: "too_slow",
    507: "no_room",
}


class Problem(BaseModel):
    """What went wrong."""

    status: int = Field(description="the status of the answer")
    code: str = Field(description="what it is, for programs")
    detail: str = Field(description="what it is, in a line for people")


def responses(**details: str) -> dict[int | str, dict[str, Any]]:
    """Statuses for an OpenAPI description, each with an example: `responses(s413="image: claims ...")`."""
    found: dict[int | str, dict[str, Any]] = {}
    for name, detail in details.items():
        status = int(name[1:])
        example = {"status": status, "code": CODES[status], "detail": detail}
        found[status] = {
            "model": Problem,
            "description": CODES[status].replace("_", " "),
            "content": {"application/json": {"example": example}},
        }
        if status in (429, 503):
            found[status]["headers"] = {
                "Retry-After": {"description": "seconds until it is worth asking again", "schema": {"type": "integer"}}
            }
    return found


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    code = CODES.get(status, "error")
    return JSONResponse({"status": status, "code": code, "detail": detail}, status, headers)


def busy(error: Busy) -> JSONResponse:
    """429, or 503 at the end, with the whole seconds after which to come back."""
    status = 503 if isinstance(error, Closed) else 429
    return problem(status, str(error), {"Retry-After": str(math.ceil(error.retry_after))})


def answer_problems(app: FastAPI) -> None:
    """Routes may raise what the engine and the readers of images raise."""
    statuses: dict[type[Exception], int] = {
        UserError: 422,
        NotAnImage: 415,
        TooLarge: 413,
        TimedOut: 504,
        Cancelled: 503,
        MemoryError: 503,
    }

    def status_of(error: Exception) -> int:
        return next(statuses[kind] for kind in type(error).__mro__ if kind in statuses)

    async def expected(request: Request, error: Exception) -> JSONResponse:
        status = status_of(error)
        detail = "needs more memory than there is" if isinstance(error, MemoryError) else str(error)
        return problem(status, detail, {"Retry-After": "5"} if status == 503 else None)

    for kind in statuses:
        app.add_exception_handler(kind, expected)

    @app.exception_handler(Busy)
    async def full(request: Request, error: Busy) -> JSONResponse:
        return busy(error)

    @app.exception_handler(StarletteHTTPException)
    async def told(request: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        # The values themselves are not repeated: they may be anything, and of any length.
        faults = (f"{'.'.join(str(part) for part in fault['loc'][1:])}: {fault['msg']}" for fault in error.errors())
        return problem(422, "; ".join(faults))
