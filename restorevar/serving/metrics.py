"""What Prometheus is told. The engine counts for itself; its numbers are read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .tickets import Ticket

if TYPE_CHECKING:
    from .engine import Engine

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Of one service; in a registry of its own, so that several can live in a process."""

    def __init__(self, engine: Engine):
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "restorevar_requests", "Requests answered.", ["method", "path", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "restorevar_request_seconds",
            "From the header to the end of the answer.",
            ["path"],
            buckets=SECONDS,
            registry=registry,
        )
        self.open = Gauge("restorevar_requests_open", "Requests that are not answered yet.", registry=registry)
        self.queued_seconds = Histogram(
            "restorevar_queued_seconds", "That a photo waited.", buckets=SECONDS, registry=registry
        )
        self.work_seconds = Histogram(
            "restorevar_work_seconds", "From its turn to its end.", buckets=SECONDS, registry=registry
        )
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        registry.register(_EngineCollector(engine))
        engine.on_end.append(self._ended)

    def _ended(self, ticket: Ticket) -> None:
        if ticket.future.exception() is None:
            restored = ticket.future.result()
            self.queued_seconds.observe(restored.queued)
            self.work_seconds.observe(restored.seconds)

    def text(self) -> bytes:
        """In Prometheus' format."""
        return generate_latest(self.registry)


class _EngineCollector(Collector):
    def __init__(self, engine: Engine):
        self.engine = engine

    def collect(self) -> Iterator[Metric]:
        stats, limits = self.engine.stats, self.engine.limits
        yield GaugeMetricFamily("restorevar_waiting", "Photos that wait.", stats.waiting)
        yield GaugeMetricFamily("restorevar_waiting_most", "Photos that may wait.", limits.queue)
        yield GaugeMetricFamily("restorevar_running", "Photos that are worked on.", stats.running)
        yield CounterMetricFamily("restorevar_taken", "Photos taken into the queue.", stats.taken)
        yield CounterMetricFamily("restorevar_refused", "Photos refused by a full queue.", stats.refused)
        ended = CounterMetricFamily("restorevar_ended", "Photos that ended.", labels=["outcome"])
        for outcome, count in stats.ended.items():
            ended.add_metric([outcome], count)
        yield ended
        yield CounterMetricFamily("restorevar_pixels", "Pixels restored.", stats.pixels)
        yield CounterMetricFamily("restorevar_windows", "Windows that went through the model.", stats.windows)
        yield CounterMetricFamily("restorevar_passes", "Passes of the model; windows share them.", stats.passes)
