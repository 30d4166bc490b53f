"""Many slots on many machines: Ray Data streams the listing through a pool of actors with a slot each.

    one task lists -> a row per chunk -> actors (Slot) -> a row per chunk: its outcomes -> this process

Nothing is held as a whole: the task waits when the actors have enough to do. Ray starts killed actors anew and gives
them the chunks that were lost; what had ended of those stands in the ledger, an actor too.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ..errors import UserError
from .ledger import Book
from .listing import Source, list_items
from .outcomes import Outcome
from .shards import Chunk, cut
from .slot import Settings, Slot


@dataclass
class Cluster:
    """`workers` actors with a slot each, and a GPU or else `cpus` cores each; of a pair, at least and at most.

    `ray` is the module, connected to a cluster.
    """

    ray: Any
    settings: Settings
    workers: int | tuple[int, int]
    cpus: int = 1
    on_gpus: bool = False
    slot: type[Slot] = Slot

    def check(self) -> None:
        """Makes a slot once, where there is one, so that what is wrong with the settings is a UserError here."""
        if not self.on_gpus:
            self.slot(self.settings).close()
            return

        def make(kind: type[Slot], settings: Settings) -> str:
            try:
                kind(settings).close()
            except UserError as error:
                return str(error)
            return ""

        task = self.ray.remote(make).options(**self._resources, max_retries=3)
        if message := self.ray.get(task.remote(self.slot, self.settings)):
            raise UserError(message)

    def outcomes(self, source: Source, shard_size: int, chunk_size: int) -> Generator[Outcome]:
        """Of all photos, as they end. Raises UserError if the source cannot be listed."""
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.target_max_block_size = context.target_min_block_size = 1  # a chunk is a block: the unit of work
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ledger = self.ray.remote(Book).options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote()
        rows = ray.data.read_datasource(_listing(source, shard_size, chunk_size), override_num_blocks=1, num_cpus=0)
        least, most = self.workers if isinstance(self.workers, tuple) else (self.workers, self.workers)
        results = rows.map_batches(
            _Actor,
            fn_constructor_args=(self.slot, self.settings, ledger),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(min_size=least, max_size=most),
            **self._resources,
        )
        try:
            for block in results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                outcomes = [Outcome.from_json(text) for text in block["outcome"].to_pylist()]
                ledger.forget.remote([outcome.number for outcome in outcomes])
                yield from outcomes
        except ray.exceptions.RayError as error:
            raise _cause(error) from None

    @property
    def _resources(self) -> dict[str, Any]:
        return {"num_gpus": 1, "num_cpus": 1} if self.on_gpus else {"num_cpus": self.cpus}


class _Actor:
    """A slot, as Ray Data calls it. It is restarted for as long as there is a cluster."""

    def __init__(self, kind: type[Slot], settings: Settings, ledger: Any):
        self.slot, self.ledger = kind(settings), _AskedLedger(ledger)

    def __call__(self, rows: Any) -> Any:
        import pyarrow as pa

        chunks = [Chunk.from_json(text) for text in rows["chunk"].to_pylist()]
        outcomes = [outcome.as_json() for chunk in chunks for outcome in self.slot.work(chunk, self.ledger)]
        return pa.table({"outcome": pa.array(outcomes, pa.string())})


class _AskedLedger:
    """The ledger, in an actor of its own. Each word is waited for: it must be there if this worker dies next."""

    def __init__(self, actor: Any):
        self.actor = actor

    def look(self, numbers: Sequence[int]) -> list[tuple[int, str]]:
        return cast("list[tuple[int, str]]", self._ask("look", list(numbers)))

    def begin(self, numbers: Sequence[int]) -> None:
        self._ask("begin", list(numbers))

    def end(self, number: int, outcome: str) -> None:
        self._ask("end", number, outcome)

    def _ask(self, question: str, *content: Any) -> Any:
        import ray

        return ray.get(getattr(self.actor, question).remote(*content))


def _listing(source: Source, shard_size: int, chunk_size: int) -> Any:
    """A data source of Ray Data: one task that lists, and gives a row as soon as it has a chunk."""
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata

    def read() -> Iterable[Any]:
        import pyarrow as pa

        for chunk in cut(list_items(source), shard_size, chunk_size):
            yield pa.table({"chunk": pa.array([chunk.as_json()], pa.string())})

    class Listing(Datasource):
        def estimate_inmemory_data_size(self) -> int | None:
            return None  # nobody knows before it is listed

        def get_read_tasks(self, parallelism: int, *further: Any, **options: Any) -> list[Any]:
            return [ReadTask(read, BlockMetadata(None, None, None, None))]

    return Listing()


def _cause(error: BaseException) -> UserError:
    """What a task or an actor met, in a line: Ray gives it as the text of a traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    told = [line.partition("UserError: ")[2] for line in lines if "restorevar.errors.UserError: " in line]
    return UserError(told[-1] if told else f"the work on Ray ended: {lines[-1]}")
