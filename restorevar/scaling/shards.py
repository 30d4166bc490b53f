"""A listing cut into shards, which are reported on, and shards into chunks, which a worker takes at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice

from .items import Item


@dataclass(frozen=True)
class Chunk:
    """Photos for one worker.

    shard   its number, from 0
    of      how many photos the shard has
    """

    shard: int
    of: int
    items: tuple[Item, ...]

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Chunk:
        row = json.loads(text)
        return cls(row["shard"], row["of"], tuple(Item(**item) for item in row["items"]))


def cut(items: Iterable[Item], shard_size: int, chunk_size: int) -> Iterator[Chunk]:
    """One shard is held at a time."""
    rest = iter(items)
    number = 0
    while shard := list(islice(rest, shard_size)):
        for start in range(0, len(shard), chunk_size):
            yield Chunk(number, len(shard), tuple(shard[start : start + chunk_size]))
        number += 1
