"""The door: options that go before the command, and what its end means."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from typing import Annotated

import typer
import typer.main

from .. import heap
from . import completing
from .common import INTERRUPTED, USAGE, UsageError, app, fail


def main() -> None:
    """Entry point. Exit codes: 0 all done, 1 some files failed, 2 wrong usage, 130 interrupted."""
    heap.keep_freed()
    try:
        command = typer.main.get_command(app)
        if completing.is_asked():
            completing.teach(command)
        code = command(args=sys.argv[1:] or ["--help"], prog_name="restorevar", standalone_mode=False)
    except UsageError as error:
        code = fail(" ".join(error.format_message().split()), USAGE)
    except (typer.Abort, KeyboardInterrupt):
        code = fail("interrupted", INTERRUPTED)
    sys.exit(code)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"restorevar {installed_version('restorevar')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options that go before the command."""
