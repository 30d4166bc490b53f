"""A model by name: shipped with the package, a folder, or on the Hugging Face Hub. No torch here."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from ..errors import UserError
from .folders import WEIGHTS

#: Names that `--model` takes: models shipped inside the package.
SHIPPED = ("compact",)


def available_models() -> list[str]:
    """Names of the models shipped with the package."""
    return [name for name in SHIPPED if (shipped_folder(name) / WEIGHTS).is_file()]


def shipped_folder(name: str) -> Path:
    return Path(str(resources.files("restorevar") / "weights" / name))


def resolve_model(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
) -> Path:
    """The folder of a model: shipped, local, or from the Hub ("owner/name", "owner/name@revision").

    The other arguments are the Hub's. Raises UserError, one line, for a name that is none of these, and for whatever
    the Hub says instead of sending the files.
    """
    text = os.fspath(name)
    if text in SHIPPED and revision is None:
        return shipped_folder(text)
    folder = Path(text)
    if folder.is_dir():
        if revision is not None:
            raise UserError(f"{text}: is a folder; only a model of the Hub has revisions")
        return folder
    repository, _, tagged = text.partition("@")
    if folder.is_absolute() or repository.count("/") != 1 or text.startswith(".") or folder.exists():
        known = ", ".join(SHIPPED)
        raise UserError(f"unknown model {text!r}: not one of {known}, not a folder, not a Hub id like owner/name")
    if revision is not None and tagged:
        raise UserError(f"model {text!r} names a revision, and {revision!r} is given as another")

    from .hub import fetch

    return fetch(
        repository,
        revision=revision or tagged or None,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        token=token,
    )
