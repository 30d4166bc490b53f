"""`/healthz`: the process lives. `/readyz`: it takes photos. `/metrics`: what it has done."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from .engine import Engine
from .metrics import Metrics
from .problems import responses
from .tickets import Closed


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    status: Literal["ready"] = "ready"
    model: str
    device: str
    waiting: int
    running: int


def health_routes(engine: Engine, metrics: Metrics) -> APIRouter:
    router = APIRouter(tags=["state"])

    @router.get("/healthz")
    async def healthz() -> Health:
        """The process lives and answers."""
        return Health()

    @router.get("/readyz", responses=responses(s503="the service is about to end and takes nothing more"))
    async def readyz() -> Readiness:
        """The model is loaded and photos are taken. 503 while the service ends; a full queue is no reason for it."""
        if not engine.is_open:
            raise Closed
        stats, restorer = engine.stats, engine.restorer
        return Readiness(model=restorer.name, device=str(restorer.device), waiting=stats.waiting, running=stats.running)

    @router.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "For Prometheus."}},
    )
    async def measured() -> Response:
        """In Prometheus' format."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router
