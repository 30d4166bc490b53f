"""A large job from beginning to end: the listing, the slots, the reports."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..errors import UserError
from . import places
from .items import Item
from .listing import Source, list_items
from .outcomes import Outcome
from .processes import Pool
from .reports import Reports
from .shards import cut
from .slot import Settings, Slot

#: Photos that a worker takes at once; what it has begun of them is suspected when it dies.
CHUNK = 8
#: Photos per report.
SHARD = 1000
#: Folder of the reports, below the destination.
REPORTS = ".restorevar"


@dataclass(frozen=True)
class Plan:
    """A large job.

    source      folder, pattern, photo or manifest
    settings    of the slots; `threads` is set here
    reports     folder or URL; "": a hidden folder in the destination
    workers     slots; None: one per GPU, or else one per core
    threads     of each slot on a CPU; None: the cores divided among the slots
    ray         address of a Ray cluster; None: processes of this machine
    slot        what works; tests give another
    """

    source: Source
    settings: Settings
    reports: str = ""
    workers: int | None = None
    threads: int | None = None
    shard: int = SHARD
    chunk: int = CHUNK
    ray: str | None = None
    slot: type[Slot] = field(default=Slot, repr=False)


def run_plan(
    plan: Plan,
    tell: Callable[[str], None] = lambda line: None,
    failed: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Does it, and gives the summary, which lies among the reports too.

    `tell` hears a line of each shard, `failed` one of each photo that failed for good. Raises UserError for a job that
    cannot be.
    """
    plan = _check(plan)
    reports = Reports(plan.reports, tell)
    facts: dict[str, Any] = {}
    start = time.monotonic()
    with closing(_on_ray(plan, facts) if plan.ray is not None else _on_processes(plan, facts)) as outcomes:
        for outcome in outcomes:
            facts.setdefault("seconds_to_first", round(time.monotonic() - start, 3))
            facts |= {"model": outcome.record.model, "sha256": outcome.record.sha256}
            reports.add(outcome)
            if outcome.record.status == "failed":
                failed(outcome.record.error or f"{outcome.record.input}: failed")
    return reports.close(**facts, source=plan.source.text, reports=plan.reports, settings=asdict(plan.settings))


def _check(plan: Plan) -> Plan:
    """The plan with what was left open, and every path from the root: workers may stand elsewhere."""
    destination = places.absolute(plan.settings.destination)
    source = replace(plan.source, text=places.absolute(plan.source.text), apart=destination)
    if source.root:
        source = replace(source, root=places.absolute(source.root))
    writing = plan.settings.writing
    source = replace(source, suffix=writing.suffix)
    if _same(source.text, destination) and not writing.overwrite:
        raise UserError(f"{plan.source.text}: is an input; give another output, or --overwrite to replace it")
    if (path := places.local_path(destination)) is not None and path.exists() and not path.is_dir():
        raise UserError(f"{plan.settings.destination}: is not a folder")
    next(iter(list_items(source)))  # what is wrong with the source comes out here
    reports = places.absolute(plan.reports) if plan.reports else places.join(destination, REPORTS)
    settings = replace(plan.settings, destination=destination, model=_model(plan.settings.model))
    return replace(plan, source=source, settings=settings, reports=reports)


def _same(one: str, other: str) -> bool:
    first, second = places.local_path(one), places.local_path(other)
    if first is not None and second is not None:
        return first.resolve() == second.resolve()
    return one.rstrip("/") == other.rstrip("/")


def _model(name: str) -> str:
    """A folder by its path from the root."""
    return os.path.abspath(name) if os.path.isdir(name) else name


# -------------------------------------------------------------------------------------------------- two ways


def _on_processes(plan: Plan, facts: dict[str, Any]) -> Generator[Outcome]:
    gpus = _gpus(plan.settings.device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = plan.workers or len(gpus) or cores
    threads = plan.threads or max(1, cores // workers)
    pool = Pool(replace(plan.settings, threads=threads), workers, gpus, plan.slot)
    facts |= {"way": "processes", "workers": workers, "threads": threads}
    with closing(pool.outcomes(cut(_items(plan), plan.shard, plan.chunk))) as outcomes:
        for outcome in outcomes:
            facts["deaths"] = pool.deaths
            yield outcome


def _on_ray(plan: Plan, facts: dict[str, Any]) -> Generator[Outcome]:
    from .cluster import Cluster
    from .ray_start import ray_cluster

    assert plan.ray is not None
    with ray_cluster(plan.ray) as ray:
        resources = ray.cluster_resources()
        on_gpus = plan.settings.device in ("auto", "cuda") and resources.get("GPU", 0) >= 1
        cores = max(1, int(resources.get("CPU", 1)))
        workers = plan.workers or (int(resources["GPU"]) if on_gpus else cores // (plan.threads or 1)) or 1
        threads = plan.threads or max(1, cores // workers)
        settings = replace(plan.settings, threads=threads)
        cluster = Cluster(ray, settings, workers, threads, on_gpus, plan.slot)
        cluster.check()
        facts |= {"way": "ray", "workers": workers, "threads": threads}
        with closing(cluster.outcomes(plan.source, plan.shard, plan.chunk)) as outcomes:
            yield from outcomes


def _items(plan: Plan) -> Iterable[Item]:
    return list_items(plan.source)


def _gpus(device: str) -> list[str]:
    """Numbers of the GPUs to be shared out among processes; none where the CPU computes."""
    if device not in ("auto", "cuda"):
        return []
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return visible.split(",")[:count] if visible else [str(number) for number in range(count)]
