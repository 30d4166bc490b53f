"""Command: a program to run in the peer's environment, before it is known where that is."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

#: What stands for a place in a command: the job's folder, the user's checkout, interpreter and weights.
PLACES = ("job", "checkout", "python", "weights")
_PLACE = re.compile(rf"{{({'|'.join(PLACES)})}}")


@dataclass(frozen=True)
class Command:
    """One run of a peer. In all texts {job}, {checkout}, {python} and {weights} stand for places.

    arguments   the program first
    keys        of the images whose outputs it makes
    folder      in which it runs
    links       link -> what it leads to: some programs find files only at a place of their own
    folders     that have to exist before
    python      the module path
    """

    arguments: tuple[str, ...]
    keys: tuple[str, ...]
    folder: str = "{job}"
    links: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    python: tuple[str, ...] = ()

    @property
    def places(self) -> set[str]:
        """The names of the places that it needs."""
        texts = (*self.arguments, self.folder, *self.links, *self.links.values(), *self.folders, *self.python)
        return {name for text in texts for name in _PLACE.findall(text)}


def filled(text: str, places: Mapping[str, str]) -> str:
    """The text with the places in it. Raises KeyError for one that is not given."""
    return _PLACE.sub(lambda match: places[match[1]], text)


def as_shell(command: Command) -> str:
    """Lines of a POSIX shell in which $JOB, $CHECKOUT, $PYTHON and $WEIGHTS are the places."""
    lines = [f"mkdir -p {_quoted(folder)}" for folder in command.folders]
    lines += [f"ln -sfn {_quoted(target)} {_quoted(link)}" for link, target in command.links.items()]
    path = f"PYTHONPATH={':'.join(map(_quoted, command.python))} " if command.python else ""
    program = " ".join(map(_quoted, command.arguments))
    return "\n".join([*lines, f"(cd {_quoted(command.folder)} && {path}{program})"])


def _quoted(text: str) -> str:
    parts = _PLACE.split(text)  # texts and names of places take turns
    words = [f'"${part.upper()}"' if i % 2 else (shlex.quote(part) if part else "") for i, part in enumerate(parts)]
    return "".join(words) or "''"
