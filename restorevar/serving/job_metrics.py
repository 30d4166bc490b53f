"""What Prometheus is told of the jobs; read when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .jobs import JobStore


class JobCollector(Collector):
    def __init__(self, store: JobStore):
        self.store = store

    def collect(self) -> Iterator[Metric]:
        counts = self.store.counts()
        files = GaugeMetricFamily("restorevar_job_files", "Files of jobs that are known.", labels=["state"])
        for state in ("queued", "running", "done", "failed", "cancelled"):
            files.add_metric([state], counts.get(state, 0))
        yield files
        yield GaugeMetricFamily("restorevar_job_bytes", "Of the files of jobs.", self.store.used_bytes())
        yield GaugeMetricFamily("restorevar_job_bytes_most", "Room for them.", self.store.limits.store_bytes)
