"""`--ray` of several commands: alone it starts a cluster of this machine, with an address it joins one."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

Ray = Annotated[
    str | None,
    typer.Option(
        metavar="[ADDRESS]",
        help="On a Ray cluster: auto (the one that runs here) or HOST:PORT; alone, one is started on this machine.",
    ),
]

_ADDRESS = re.compile(r"auto|local|(ray://)?[^\s/:]+:\d+")


class RayCommand(TyperCommand):
    """A command whose option --ray may stand without a value; what does not look like an address is not its value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        written: list[str] = []
        for i, word in enumerate(args):
            alone = word == "--ray" and not (i + 1 < len(args) and _ADDRESS.fullmatch(args[i + 1]))
            written.append("--ray=local" if alone else word)
        return super().parse_args(ctx, written)
