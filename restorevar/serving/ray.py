"""The service as a Ray Serve deployment: the same application and engine in each of several replicas.

    client -> Ray's proxy -> a replica: Gate -> route -> Engine -> answer

Ray shares the requests out and starts more replicas when more are under way; the engine of each puts windows of several
requests into one pass, and refuses what its queue cannot hold.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .. import heap
from ..errors import UserError, first_line
from ..scaling.ray_start import LOCAL, ray_cluster
from .settings import Settings, require_extra

if TYPE_CHECKING:
    from fastapi import FastAPI

NAME = "restorevar"
#: Requests that a replica has before Ray starts another, where the limits do not say.
AT_ONCE = 4


@dataclass(frozen=True)
class Replicas:
    """How many copies of the service there are. Raises UserError for what cannot be.

    least, most   replicas; Ray starts further ones while requests wait, and ends them when they do not
    cpus          cores of each; on a cluster with GPUs each has one GPU too
    address       of the Ray cluster, as `ray_cluster` takes it
    """

    least: int = 1
    most: int | None = None
    cpus: int | None = None
    address: str = LOCAL

    def __post_init__(self) -> None:
        if self.least < 1 or (self.most is not None and self.most < self.least):
            raise UserError(f"replicas go from 1, and to no fewer than that: not {self.least} to {self.most}")
        if self.cpus is not None and self.cpus < 1:
            raise UserError(f"a replica needs a core at least, not {self.cpus}")


def run_on_ray(
    settings: Settings,
    replicas: Replicas,
    host: str = "127.0.0.1",
    port: int = 8000,
    started: Callable[[], None] = lambda: None,
) -> None:
    """Serves until SIGINT or SIGTERM. Requests under way are finished, for up to `settings.drain` seconds.

    `started` is called once requests are taken. Raises UserError for settings that cannot be.
    """
    with serving_on_ray(settings, replicas, host, port):
        started()
        ended = threading.Event()
        before = {number: signal.signal(number, lambda *_: ended.set()) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while not ended.wait(1.0):  # not for ever: signals would not be seen on every system
                pass
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def serving_on_ray(settings: Settings, replicas: Replicas, host: str = "127.0.0.1", port: int = 8000) -> Iterator[None]:
    """The service while inside; behind it, what was under way is finished and Ray is left. UserError as above."""
    require_extra()
    settings = _fitting(settings)
    with ray_cluster(replicas.address) as ray:
        from ray import serve

        resources = ray.cluster_resources()
        on_gpus = settings.device in ("auto", "cuda") and resources.get("GPU", 0) >= 1
        most = replicas.most or replicas.least
        cpus = replicas.cpus or max(1, int(resources.get("CPU", 1)) // most)
        _check(settings, on_gpus)
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        serve.start(
            http_options={"host": host, "port": port},
            proxy_location="HeadOnly",
            logging_config={"log_level": "ERROR", "enable_access_log": False},
        )
        try:
            application = _deployment(settings, replicas, cpus, on_gpus).bind()
            try:
                serve.run(application, name=NAME, route_prefix="/")
            except RuntimeError as error:
                raise UserError(f"the service did not start on Ray ({first_line(error)})") from None
            yield
        finally:
            serve.shutdown()


def _fitting(settings: Settings) -> Settings:
    """Without what lives in one process: two requests of one visitor may reach two replicas."""
    if settings.jobs is not None:
        raise UserError(
            "--jobs goes not with --ray: a job lives in one process; restorevar batch --ray does many photos"
        )
    return replace(settings, page=False)


def _check(settings: Settings, on_gpus: bool) -> None:
    """What is wrong with the settings comes out here, in one line, and not in a log of Ray."""
    from .keys import Keys

    Keys(settings.keys)
    if not on_gpus:
        engine = settings.engine()
        settings.app(engine)
        engine.close(0)


def _deployment(settings: Settings, replicas: Replicas, cpus: int, on_gpus: bool) -> Any:
    from ray import serve

    def build() -> FastAPI:
        """In each replica."""
        import torch

        heap.keep_freed()
        torch.set_num_threads(cpus)
        return settings.app(settings.engine())

    at_once = settings.limits.at_once or AT_ONCE
    return serve.deployment(
        serve.ingress(build)(),
        name=NAME,
        ray_actor_options={"num_cpus": cpus, "num_gpus": 1 if on_gpus else 0},
        autoscaling_config={
            "min_replicas": replicas.least,
            "max_replicas": replicas.most or replicas.least,
            # More at once than a replica works on would wait in its queue, where another could do it.
            "target_ongoing_requests": at_once,
        },
        max_ongoing_requests=settings.limits.queue + at_once,  # beyond that the engine would refuse
        graceful_shutdown_timeout_s=settings.drain,
    )
