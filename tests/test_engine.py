"""The engine of the service: passes shared, queue bounded, nobody suffers for another, an end that loses nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from restorevar.errors import UserError
from restorevar.images import Photo
from restorevar.models import RestoreVAR
from restorevar.pipeline import MARGIN, Restorer
from restorevar.serving.engine import Busy, Cancelled, Closed, Engine, Limits, Options, Ticket, TimedOut

WAIT = 30  # seconds that a healthy machine never takes


@pytest.fixture
def restorer(tiny: RestoreVAR) -> Restorer:
    return Restorer(tiny, device="cpu", dtype="fp32", batch=4)


@pytest.fixture
def open_engine(restorer: Restorer) -> Iterator[Callable[..., Engine]]:
    engines: list[Engine] = []

    def make(diagnose: Any = None, **limits: Any) -> Engine:
        engines.append(Engine(restorer, Limits(**limits), diagnose))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close(WAIT)


class Held:
    """A model that waits to be let go, and counts. `spoil(images)` may raise in its place."""

    def __init__(self, model: RestoreVAR, spoil: Callable[[torch.Tensor], None] = lambda images: None):
        self.real, self.spoil = model.restore, spoil
        self.go, self.entered = threading.Event(), threading.Event()
        self.batches: list[int] = []
        model.restore = self  # type: ignore[method-assign, assignment]

    def __call__(self, images: torch.Tensor, **options: Any) -> torch.Tensor:
        self.entered.set()
        assert self.go.wait(WAIT)
        self.spoil(images)
        self.batches.append(len(images))
        return self.real(images, **options)


def photo(seed: int = 0, height: int = 64, width: int = 64) -> Photo:
    return Photo(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def off(one: Photo, other: Photo) -> int:
    return int(np.abs(one.rgb.astype(int) - other.rgb).max())


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_windows_of_several_photos_share_passes(restorer: Restorer, open_engine: Callable[..., Engine]) -> None:
    """Small photos of two sizes, and two of many windows: the same results, in far fewer passes."""
    held = Held(restorer.model)
    held.go.set()
    restorer.tile = 64
    photos = [photo(i) for i in range(6)] + [photo(6, 64, 48), photo(7, 100, 150), photo(8, 100, 150)]
    alone = [restorer.restore_photo(one) for one in photos]
    held.batches.clear()
    held.go.clear()
    engine = open_engine(at_once=8, gather=0.2)
    tickets = [engine.submit(one) for one in photos]
    assert held.entered.wait(WAIT)
    held.go.set()
    together = [ticket.result(WAIT) for ticket in tickets]
    for before, one, other in zip(photos, alone, together, strict=True):
        assert off(one, other.photo) <= 1 < off(before, one)  # rounding may fall to the other side, no more
        assert other.settings == restorer.settings and not other.untouched and other.diagnosis is None
    stats = engine.stats
    assert stats.windows == sum(held.batches) and stats.passes == len(held.batches) < stats.windows / 2
    assert max(held.batches) == 4, "a pass has `batch` windows at most"
    assert stats.ended == {"done": 9, "failed": 0, "cancelled": 0} and stats.taken == 9
    assert stats.pixels == sum(one.rgb.shape[0] * one.rgb.shape[1] for one in photos)


def test_options_are_each_photos_own(restorer: Restorer, open_engine: Callable[..., Engine]) -> None:
    one = photo()
    choices = [
        Options(),
        Options(fidelity=0.0),
        Options(strength=0.25),
        Options(strength=0.0),
        Options(speed="balanced"),
    ]
    alone = [restorer.at(fidelity=o.fidelity, strength=o.strength, speed=o.speed).restore_photo(one) for o in choices]
    engine = open_engine(at_once=5, gather=0.1)
    tickets = [engine.submit(one, options) for options in choices]
    for expected, ticket in zip(alone, tickets, strict=True):
        assert off(expected, ticket.result(WAIT).photo) <= 1
    assert off(one, tickets[3].result().photo) == 0
    assert len({expected.rgb.tobytes() for expected in alone}) == len(choices)
    assert tickets[4].result().settings["speed"] == "balanced"
    for wrong in (Options(fidelity=2), Options(strength=-1), Options(speed="warp"), Options(if_needed=True)):
        with pytest.raises(UserError):
            engine.submit(one, wrong)
    with pytest.raises(UserError, match="has 64 x 64 pixels, above the limit of 4095"):
        open_engine(pixels=4095).submit(one)
    assert engine.stats.taken == len(choices)


def test_watchers_see_their_own_photo(restorer: Restorer, open_engine: Callable[..., Engine]) -> None:
    """Three in one pass: what each is shown is what it would be shown alone; one that raises ends itself only."""
    photos = [photo(i) for i in range(3)]
    alone: list[list[np.ndarray]] = [[] for _ in photos]
    for seen, one in zip(alone, photos, strict=True):
        restorer.restore_photo(one, watch=lambda glimpse, seen=seen: seen.append(glimpse.confidence))
    engine = open_engine(at_once=3, gather=1.0)
    seen: list[list[np.ndarray]] = [[], [], []]
    shares: list[float] = []

    def angry(glimpse: Any) -> None:
        raise KeyError("enough")

    def previewing(glimpse: Any) -> None:
        assert glimpse.preview(32).shape == (32, 32, 3)
        seen[2].append(glimpse.confidence)

    watchers = [lambda glimpse: seen[0].append(glimpse.confidence), angry, previewing]
    # While a fourth has a seat the first is not begun alone, however late the threads of the others come to theirs.
    with engine.model.seat(lambda: None):
        tickets = [engine.submit(one, progress=shares.append, watch=w) for one, w in zip(photos, watchers, strict=True)]
        assert tickets[0].result(WAIT) and tickets[2].result(WAIT)
        with pytest.raises(KeyError, match="enough"):
            tickets[1].result(WAIT)
    assert engine.stats.passes == 1 and [ticket.state for ticket in tickets] == ["done", "failed", "done"]
    assert shares == [1.0, 1.0] and tickets[0].share == 1.0
    for i in (0, 2):
        assert len(seen[i]) == len(alone[i]) > 1
        for one, other in zip(alone[i], seen[i], strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_queue_is_bounded(restorer: Restorer, open_engine: Callable[..., Engine]) -> None:
    held = Held(restorer.model)
    engine = open_engine(queue=2, at_once=1)
    first = engine.submit(photo())
    until(lambda: first.state == "running")
    waiting = [engine.submit(photo(i)) for i in (1, 2)]
    assert [engine.ahead(ticket) for ticket in (first, *waiting)] == [0, 0, 1]
    with pytest.raises(Busy, match="too many photos are waiting") as refusal:
        engine.submit(photo(3))
    assert 1 <= refusal.value.retry_after <= 120 and engine.stats.refused == 1
    waiting[0].cancel()  # whoever waits and gives up makes room at once
    with pytest.raises(Cancelled):
        waiting[0].result(WAIT)
    last = engine.submit(photo(3))
    held.go.set()
    assert first.result(WAIT) and waiting[1].result(WAIT) and last.result(WAIT)

    held.go.clear()
    engine = open_engine(queue_pixels=64 * 64, at_once=1)
    first = engine.submit(photo())
    until(lambda: first.state == "running")
    engine.submit(photo(1, 128, 128))  # a single one may wait, however large
    with pytest.raises(Busy):
        engine.submit(photo(2, 8, 8))
    held.go.set()


def test_cancelled_and_late_work_ends(restorer: Restorer, open_engine: Callable[..., Engine]) -> None:
    held = Held(restorer.model)
    restorer.tile, restorer.batch = 64, 1
    engine = open_engine(at_once=1)
    many = engine.submit(photo(0, 150, 150))
    late = engine.submit(photo(1), seconds=0.2)
    until(lambda: many.state == "running")
    with pytest.raises(TimeoutError, match="no result within"):
        many.result(0.05)
    with pytest.raises(TimedOut, match=r"longer than 0.2 seconds"):
        late.result(WAIT)
    assert late.state == "cancelled" and many.state == "running"
    many.cancel()
    held.go.set()
    with pytest.raises(Cancelled):
        many.result(WAIT)
    assert sum(held.batches) == 1, "the windows after the first were not restored"
    assert engine.submit(photo(2)).result(WAIT), "the engine goes on"

    held.go.clear()
    slow = engine.submit(photo(0, 150, 150), seconds=0.3)
    until(lambda: slow.state == "running" and slow.left < 0)
    held.go.set()
    with pytest.raises(TimedOut):
        slow.future.result(WAIT)
    until(lambda: not engine.stats.running)


def test_a_failure_is_of_one(restorer: Restorer, open_engine: Callable[..., Engine]) -> None:
    """One photo in a shared pass that breaks it: the others are restored, and it is told why."""

    def spoil(images: torch.Tensor) -> None:
        if (images == -1).all(dim=(1, 2, 3)).any():
            raise ZeroDivisionError("black")

    Held(restorer.model, spoil).go.set()
    engine = open_engine(at_once=3, gather=1.0)
    black = Photo(np.zeros((64, 64, 3), np.uint8))
    tickets = [engine.submit(one) for one in (photo(0), black, photo(1))]
    assert tickets[0].result(WAIT) and tickets[2].result(WAIT)
    with pytest.raises(ZeroDivisionError):
        tickets[1].result(WAIT)
    assert tickets[1].state == "failed" and tickets[1].photo is None


def test_lack_of_memory(restorer: Restorer, open_engine: Callable[..., Engine]) -> None:
    """Two windows are too many, then one of 64 pixels and more: smaller passes, then smaller windows, for good."""
    said: list[str] = []
    restorer.log = said.append
    photos = [photo(i, 128, 128) for i in range(3)]
    most = [1, (128 + 2 * MARGIN) ** 2]

    def spoil(images: torch.Tensor) -> None:
        if len(images) > most[0] or images[0, 0].numel() > most[1]:
            raise torch.OutOfMemoryError("CUDA out of memory")

    alone = [restorer.restore_photo(one) for one in photos]
    Held(restorer.model, spoil).go.set()
    engine = open_engine(at_once=3, gather=1.0)
    for expected, ticket in zip(alone, [engine.submit(one) for one in photos], strict=True):
        assert off(expected, ticket.result(WAIT).photo) <= 1
    assert engine.model.most == 1 and any("1 windows per pass" in line for line in said)
    most[1] = (64 + 2 * MARGIN) ** 2
    result = engine.submit(photos[0]).result(WAIT)
    assert result.settings["tile"] == 64 == engine.restorer.tile
    assert engine.submit(photos[1]).result(WAIT).settings["tile"] == 64
    most[1] = 0
    with pytest.raises(UserError, match="not enough memory"):
        engine.submit(photos[2]).result(WAIT)


def test_closing_finishes_what_was_taken(restorer: Restorer, open_engine: Callable[..., Engine]) -> None:
    held = Held(restorer.model)
    engine = open_engine(at_once=2)
    tickets = [engine.submit(photo(i)) for i in range(5)]
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(engine.close, WAIT)
        until(lambda: not engine.is_open)
        with pytest.raises(Closed, match="about to end"):
            engine.submit(photo())
        held.go.set()
        assert closing.result(WAIT) is True
    assert [ticket.state for ticket in tickets] == ["done"] * 5
    assert engine.close() is True, "once more is no fault"
    assert not [t for t in threading.enumerate() if t in engine._workers], "no thread is left"

    held.go.clear()
    engine = open_engine(at_once=1)
    tickets = [engine.submit(photo(i)) for i in range(3)]
    until(lambda: tickets[0].state == "running")
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(engine.close, 0.1)
        with pytest.raises(Cancelled):
            tickets[2].result(WAIT)
        held.go.set()
        assert closing.result(WAIT) is False
    assert tickets[0].done, "what was in the model has ended, one way or the other"


def test_diagnosis(restorer: Restorer, open_engine: Callable[..., Engine]) -> None:
    """Every photo is looked at; one that needs nothing stays as it is if that was asked for."""

    def diagnose(one: Photo) -> Any:
        return SimpleNamespace(needs_nothing=bool(one.rgb.mean() > 200))

    engine = open_engine(diagnose)
    fine = Photo(np.full((64, 64, 3), 250, np.uint8))
    left = engine.submit(fine, Options(if_needed=True)).result(WAIT)
    assert left.untouched and left.photo is fine and left.diagnosis and left.diagnosis.needs_nothing
    assert not engine.submit(fine).result(WAIT).untouched
    needy = engine.submit(photo(), Options(if_needed=True)).result(WAIT)
    assert not needy.untouched and needy.diagnosis and off(needy.photo, photo()) > 1
    assert engine.stats.windows == 2


def test_everyone_is_told_of_the_end(open_engine: Callable[..., Engine]) -> None:
    engine = open_engine()
    ended: list[Ticket] = []
    engine.on_end += [lambda ticket: 1 / 0, ended.append]  # a fault in one does not keep it from the next
    ticket = engine.submit(photo())
    assert ticket.result(WAIT).seconds > 0
    until(lambda: ended == [ticket])


def test_impossible_limits() -> None:
    for wrong in ({"queue": 0}, {"seconds": float("nan")}, {"pixels": -1}, {"gather": -0.1}):
        with pytest.raises(UserError, match=f"the limit {next(iter(wrong))} is a number above 0"):
            Limits(**wrong)
    assert Limits(gather=0).gather == 0


def test_photos_at_once(restorer: Restorer, open_engine: Callable[..., Engine]) -> None:
    assert open_engine().at_once == 4 and open_engine(at_once=2).at_once == 2
    restorer.batch = 32
    assert open_engine().at_once == 16
