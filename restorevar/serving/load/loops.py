"""Two kinds of load. Closed: so many clients, each asks again when it has its answer; that finds what the service can
do. Open: requests come when they come, answered or not; that is what the world is like, and the only honest overload.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from .asking import Answer, Asker

#: Clients of an open load, at most: more requests than this are never under way.
MOST_CLIENTS = 400

MakeAsker = Callable[[], Asker]


@dataclass
class Load:
    """What came of a load. `offered`: requests per second that came, of an open one."""

    name: str
    answers: list[Answer]
    seconds: float
    offered: float | None = None
    statuses: Counter[int] = field(init=False)

    def __post_init__(self) -> None:
        self.statuses = Counter(answer.status for answer in self.answers)

    @property
    def rate(self) -> float:
        """Restored images per second."""
        return self.statuses[200] / self.seconds

    @property
    def wrong(self) -> int:
        """Answers with an image that is not the restoration of what was sent."""
        return sum(answer.right is False for answer in self.answers)

    @property
    def silent(self) -> int:
        """Refusals that do not tell when to come back."""
        return sum(answer.status in (429, 503) and not answer.retry_after for answer in self.answers)

    def quantile(self, share: float, status: int = 200) -> float:
        """Seconds within which this share of the answers with this status came; not a number if there are none."""
        found = [answer.seconds for answer in self.answers if answer.status == status]
        return float(np.quantile(found, share)) if found else float("nan")


def closed_loop(name: str, make: MakeAsker, pictures: int, clients: int, requests: int, most_seconds: float) -> Load:
    """`requests` in all, by `clients` at once; fewer if `most_seconds` are over."""
    numbers = _counting(requests)
    start = time.monotonic()

    def due() -> tuple[int, float | None] | None:
        with lock:
            number = next(numbers, None)
        return None if number is None or time.monotonic() - start > most_seconds else (number, None)

    lock = threading.Lock()
    answers = _run(make, clients, pictures, due)
    return Load(name, answers, time.monotonic() - start)


def open_loop(name: str, make: MakeAsker, pictures: int, rate: float, seconds: float, seed: int = 0) -> Load:
    """`rate` requests per second for so many seconds, at random times; latencies count from when each was due."""
    times = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, max(1, round(rate * seconds))))
    numbers = _counting(len(times))
    lock = threading.Lock()
    start = time.monotonic() + 0.2

    def due() -> tuple[int, float | None] | None:
        with lock:
            number = next(numbers, None)
        return None if number is None else (number, start + float(times[number]))

    answers = _run(make, min(MOST_CLIENTS, len(times)), pictures, due)
    return Load(name, answers, time.monotonic() - start, offered=len(times) / float(times[-1]))


def _counting(count: int) -> Iterator[int]:
    return iter(range(count))


def _run(
    make: MakeAsker, clients: int, pictures: int, due: Callable[[], tuple[int, float | None] | None]
) -> list[Answer]:
    """Clients that take what is due next, until nothing is."""
    answers: list[Answer] = []

    def client() -> None:
        asker = make()
        while (task := due()) is not None:
            number, moment = task
            if moment is not None:
                time.sleep(max(0.0, moment - time.monotonic()))
            answers.append(asker.ask(number % pictures, moment))
        asker.close()

    threads = [threading.Thread(target=client, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers
