"""What lies in a model folder, and whether it is whole. No torch here.

    config.json                     format, sha256, kind, the network's numbers; of weights in parts also `shards`
    model.safetensors               the weights in one file, or
    model-00001-of-00002.safetensors, ..., model.safetensors.index.json     in several, with the index that others read
    card.json, README.md            where it comes from and what it was measured to do; the same for people

The sha256 of weights in parts is that of the list "<sha256>  <file>\\n" of the parts, in the order of their names.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError

WEIGHTS, CONFIG = "model.safetensors", "config.json"
INDEX, CARD, README = "model.safetensors.index.json", "card.json", "README.md"
#: The only names that parts may have: none leads out of the folder.
SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")


def file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def shards_sha256(shards: Mapping[str, str]) -> str:
    """One sha256 for weights in parts, from those of the files."""
    return hashlib.sha256("".join(f"{shards[name]}  {name}\n" for name in sorted(shards)).encode()).hexdigest()


def read_config(folder: Path) -> dict[str, Any]:
    """config.json as it is. Raises UserError, one line, for one that is missing or is no JSON object."""
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"{path}: no such file; a model folder has {CONFIG} and {WEIGHTS}")
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable JSON ({error})") from None
    if not isinstance(description, dict):
        raise UserError(f"{path}: not a model config")
    return description


def weight_files(description: Mapping[str, Any], where: str = CONFIG) -> dict[str, str | None]:
    """Files of the weights -> the sha256 each must have, None where the config tells none.

    Raises UserError naming `where` for a list of parts that is none.
    """
    shards = description.get("shards")
    if shards is None:
        return {WEIGHTS: description.get("sha256")}
    if not isinstance(shards, dict) or not shards or not all(isinstance(v, str) for v in shards.values()):
        raise UserError(f"{where}: not a model config (shards are names of files with their sha256)")
    for name in shards:
        if not SHARD.fullmatch(name):
            raise UserError(f"{where}: not a model config (a part of the weights cannot be called {name!r})")
    if description.get("sha256") not in (None, shards_sha256(shards)):
        raise UserError(f"{where}: damaged, its sha256 is not that of its shards")
    return dict(sorted(shards.items()))


def check_weights(folder: Path, description: Mapping[str, Any]) -> tuple[list[Path], str]:
    """The files of the weights, all there and undamaged, and the sha256 of the whole. Raises UserError, one line."""
    expected = weight_files(description, str(folder / CONFIG))
    found: dict[str, str] = {}
    for number, (name, digest) in enumerate(expected.items(), start=1):
        path = folder / name
        part = f" (part {number} of {len(expected)} of the weights)" if len(expected) > 1 else ""
        if not path.is_file():
            raise UserError(f"{path}: no such file{part}")
        try:
            found[name] = file_sha256(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
        if digest not in (None, found[name]):
            raise UserError(f"{path}: damaged, its sha256 is not the one in {CONFIG}{part}")
    whole = found[WEIGHTS] if WEIGHTS in found else shards_sha256(found)
    return [folder / name for name in expected], whole


def count_parameters(folder: Path, description: Mapping[str, Any]) -> int:
    """Numbers in the weights, from the headers of the files alone. Raises UserError for files that are none."""
    total = 0
    for name in weight_files(description, str(folder / CONFIG)):
        path = folder / name
        try:
            with path.open("rb") as file:
                header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            shapes = [entry["shape"] for key, entry in header.items() if key != "__metadata__"]
        except (OSError, ValueError, OverflowError, MemoryError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: not a readable safetensors file ({error})") from None
        for shape in shapes:
            size = 1
            for side in shape:
                size *= side
            total += size
    return total
