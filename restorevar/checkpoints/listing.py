"""Which models are here, and what is known of each. No torch here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from .card import Figure, read_card
from .finding import available_models, shipped_folder
from .folders import check_weights, count_parameters, read_config
from .hub import cached_models


@dataclass(frozen=True)
class Listed:
    """A model on this disk. `problem` is the line that loading it would end with; empty: its files are whole."""

    name: str  #: as `--model` takes it
    place: str  #: "shipped" or "Hub cache"
    folder: Path
    bytes: int = 0
    parameters: int = 0
    sha256: str = ""
    kind: str = ""
    licence: str = ""
    figures: tuple[Figure, ...] = ()
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "folder": str(self.folder), "figures": [asdict(figure) for figure in self.figures]}


def list_models(cache_dir: str | Path | None = None) -> list[Listed]:
    """Those shipped with the package, then those in the Hub's cache. Every file is held against its sha256."""
    found = [_look(name, "shipped", shipped_folder(name)) for name in available_models()]
    cached = cached_models(cache_dir)
    for model in cached:
        alone = sum(other.repository == model.repository for other in cached) == 1
        name = model.repository if alone else f"{model.repository}@{model.revision}"
        found.append(_look(name, "Hub cache", model.folder))
    return found


def _look(name: str, place: str, folder: Path) -> Listed:
    try:
        description = read_config(folder)
        files, digest = check_weights(folder, description)
        parameters = count_parameters(folder, description)
    except UserError as error:
        return Listed(name, place, folder, problem=str(error))
    card = read_card(folder)
    return Listed(
        name=name,
        place=place,
        folder=folder,
        bytes=sum(path.stat().st_size for path in files),
        parameters=parameters,
        sha256=digest,
        kind=str(description.get("kind", "restorevar")),
        licence=card.licence,
        figures=card.figures_of(digest),
    )
