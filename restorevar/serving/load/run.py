"""The load test: one client, capacity, capacity and ten times as much from outside, then a long run. Tables."""

from __future__ import annotations

import json as json_format
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ...benchmarks.hardware import environment
from ...data.manifest import write_json, write_text
from ...pipeline import Restorer
from .asking import Asker, Picture, make_pictures
from .loops import Load, closed_loop, open_loop
from .process import Reading, Service

#: Share of the capacity that the open load "at capacity" offers: at all of it, any queue grows without end.
NEAR = 0.8
#: Times the capacity.
OVERLOAD = 10


@dataclass(frozen=True)
class LoadOptions:
    """side: of the pictures in pixels; pictures: how many different ones; seconds: of each load, about
    clients: that ask as fast as they are answered; queue: of the service
    soak: requests of the long run; most_minutes: that it may take, at most
    command: as it is told
    """

    model: str = "compact"
    device: str = "auto"
    dtype: str = "auto"
    side: int = 128
    pictures: int = 32
    seconds: float = 20.0
    soak: int = 0
    most_minutes: float = 10.0
    queue: int = 32
    clients: int = 8
    json: Path | None = None
    markdown: Path | None = None
    command: str = ""


@dataclass(frozen=True)
class Outcome:
    """Each load with the service's state before and after; what was read meanwhile; temporary files and exit code at
    the end."""

    loads: list[tuple[Load, Reading, Reading]]
    readings: list[Reading]
    left_files: list[str]
    exit_code: int

    @property
    def peak_rss(self) -> int:
        return max((reading.rss for reading in self.readings), default=0)

    def memory(self, points: int = 6) -> list[int]:
        """Bytes at evenly spaced moments of the last load."""
        _, before, after = self.loads[-1]
        found = [reading.rss for reading in self.readings if before.seconds <= reading.seconds <= after.seconds]
        found = [before.rss, *found, after.rss]
        return [found[round(i * (len(found) - 1) / (points - 1))] for i in range(points)]

    @property
    def is_good(self) -> bool:
        """Nothing lost, nothing left, nobody served another's image."""
        clean = all(
            not load.wrong and not load.silent and set(load.statuses) <= {200, 429} for load, _, _ in self.loads
        )
        return clean and not self.left_files and self.exit_code == 0


def load_test(options: LoadOptions, say: Callable[[str], None]) -> Outcome:
    """Runs all loads against a service that it begins and ends itself, and tells of each as it ends."""
    restorer = Restorer.from_pretrained(options.model, options.device, options.dtype)
    pictures = make_pictures(restorer, options.pictures, options.side)
    about = environment(restorer.device)
    del restorer  # its memory and threads are the service's now
    with tempfile.TemporaryDirectory(prefix="restorevar-load-") as folder:
        outcome = _measure(options, pictures, Path(folder) / "jobs", say)
    text = table(outcome, options, about)
    say(text)
    if options.markdown is not None:
        write_text(text + "\n", options.markdown)
    if options.json is not None:
        write_json(_figures(outcome, options, about), options.json)
    return outcome


def _measure(options: LoadOptions, pictures: list[Picture], jobs: Path, say: Callable[[str], None]) -> Outcome:
    serving = ["--no-page", "--model", options.model, "--device", options.device, "--dtype", options.dtype]
    serving += ["--queue", str(options.queue), "--jobs", str(jobs)]
    loads: list[tuple[Load, Reading, Reading]] = []
    with Service(serving) as service:

        def make() -> Asker:
            return Asker(service.port, pictures)

        def run(load: Callable[[], Load]) -> Load:
            before = service.read()
            result = load()
            loads.append((result, before, service.read()))
            say(f"{result.name}: {result.rate:.2f} restored per second, {dict(result.statuses)}")
            return result

        count, enough, time = len(pictures), 10**9, options.seconds
        closed_loop("warm-up", make, count, 1, min(count, 4), 60)
        run(lambda: closed_loop("one client", make, count, 1, enough, time))
        most = run(lambda: closed_loop(f"{options.clients} clients", make, count, options.clients, enough, time))
        rate = max(most.rate, 0.1)
        run(lambda: open_loop(f"{NEAR:.0%} of that", make, count, NEAR * rate, time))
        run(lambda: open_loop(f"{OVERLOAD} times that", make, count, OVERLOAD * rate, time))
        run(lambda: closed_loop("one client, afterwards", make, count, 1, enough, time / 2))
        if options.soak:
            clients, minutes = options.clients, options.most_minutes
            run(lambda: closed_loop("soak", make, count, clients, options.soak, 60 * minutes))
        left = service.left_files()
        code = service.end()
    return Outcome(loads, service.readings, left, code)


def table(outcome: Outcome, options: LoadOptions, about: dict[str, Any]) -> str:
    """Markdown, with what the figures have to be told with."""
    lines = [
        f"`{options.command}`, {about['device_name']}, {about['threads']} threads, torch {about['torch']}, "
        f"{datetime.now(timezone.utc):%Y-%m-%d}",
        "",
        "| load | requests | offered/s | restored/s | CPU s each | p50 s | p99 s | 429 | p99 of a 429 | other answers "
        "| another's image | memory MB | threads | open files |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for load, before, after in outcome.loads:
        others = sum(load.statuses.values()) - load.statuses[200] - load.statuses[429]
        refused = load.statuses[429] / max(1, len(load.answers))
        cells = [
            load.name,
            str(len(load.answers)),
            "" if load.offered is None else f"{load.offered:.1f}",
            f"{load.rate:.2f}",
            f"{(after.cpu - before.cpu) / max(1, load.statuses[200]):.3f}",
            f"{load.quantile(0.5):.3f}",
            f"{load.quantile(0.99):.3f}",
            f"{refused:.0%}" if load.statuses[429] else "0",
            f"{load.quantile(0.99, 429):.3f}" if load.statuses[429] else "",
            str(others),
            str(load.wrong),
            f"{before.rss / 2**20:.0f} → {after.rss / 2**20:.0f}",
            f"{before.threads} → {after.threads}",
            f"{before.files} → {after.files}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"Memory over the last load, MB: {', '.join(f'{rss / 2**20:.0f}' for rss in outcome.memory())}. "
        f"Most of all {outcome.peak_rss / 2**20:.0f} . Temporary files left: {len(outcome.left_files)}. "
        f"Exit code at the end: {outcome.exit_code}.",
    ]
    return "\n".join(lines)


def _figures(outcome: Outcome, options: LoadOptions, about: dict[str, Any]) -> dict[str, Any]:
    loads = [
        {
            "name": load.name,
            "requests": len(load.answers),
            "offered_per_second": load.offered,
            "restored_per_second": load.rate,
            "p50": load.quantile(0.5) if load.statuses[200] else None,
            "p99": load.quantile(0.99) if load.statuses[200] else None,
            "statuses": load.statuses,
            "wrong": load.wrong,
            "silent": load.silent,
            "before": asdict(before),
            "after": asdict(after),
        }
        for load, before, after in outcome.loads
    ]
    rest = {
        "peak_rss": outcome.peak_rss,
        "memory": outcome.memory(),
        "left_files": outcome.left_files,
        "exit_code": outcome.exit_code,
    }
    wanted = json_format.loads(json_format.dumps(asdict(options), default=str))
    return {"options": wanted, "environment": about, "loads": loads, **rest}
