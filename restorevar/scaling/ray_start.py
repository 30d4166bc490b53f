"""Ray, started or joined: quietly, without its telemetry and dashboard, and without a copy of the working folder."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import UserError, first_line
from .extra import check_ray

#: Starts a cluster of this machine alone.
LOCAL = "local"

#: Of the user's environment, where it does not say otherwise.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # telemetry
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` Ray would upload the working folder
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}


@contextmanager
def ray_cluster(address: str = LOCAL, cpus: int | None = None) -> Iterator[Any]:
    """The module `ray`, connected; disconnected behind it, and a cluster started here is ended.

    address     "local" starts one on this machine, which other machines cannot join; "auto" or HOST:PORT joins one
                that runs
    cpus        of a cluster started here; None: all cores
    Raises UserError where Ray is missing, or the cluster is not there.
    """
    check_ray()
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    options: dict[str, Any] = {"address": address, "logging_level": logging.ERROR, "log_to_driver": False}
    if address == LOCAL:
        # Ray listens on every address of the machine and knows no option against it. Whoever comes needs its token:
        # so it is unless RAY_AUTH_MODE says otherwise.
        options |= {"include_dashboard": False, "num_cpus": cpus}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise UserError(f"--ray {address}: no cluster there ({first_line(error)})") from None
    try:
        yield ray
    finally:
        ray.shutdown()
