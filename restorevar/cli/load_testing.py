"""`restorevar bench-service`: what the HTTP service does under load."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from .common import FAILED, Device, Dtype, app, reporting


@app.command()
def bench_service(
    model: Annotated[
        str, typer.Option(metavar="NAME|DIR|HUB_ID", help="A shipped model, a folder, or a Hub id.")
    ] = "compact",
    device: Device = "auto",
    dtype: Dtype = "auto",
    side: Annotated[int, typer.Option(min=16, help="Side of the pictures that are sent, in pixels.")] = 128,
    pictures: Annotated[int, typer.Option(min=2, help="Different pictures.")] = 32,
    seconds: Annotated[float, typer.Option(min=1, help="Of each load.")] = 20.0,
    soak: Annotated[int, typer.Option(min=0, help="Requests of a long run at the end; 0: none.")] = 0,
    most_minutes: Annotated[float, typer.Option(min=0.1, help="That the long run may take.")] = 10.0,
    queue: Annotated[int, typer.Option(min=1, help="Of the service: photos that may wait.")] = 32,
    clients: Annotated[int, typer.Option(min=1, help="That find out what it can do.")] = 8,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all figures.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table.")] = None,
) -> None:
    """Load-test the service: begin one on this machine, ask more than it can do, check every answer, end it.

    Exit code: 0 all well, 1 an answer was wrong or missing or something was left behind, 2 wrong usage.
    """
    with reporting():
        from ..serving.settings import require_extra

        require_extra()
        from ..serving.load import LoadOptions, load_test

        options = LoadOptions(
            model=model,
            device=device,
            dtype=dtype,
            side=side,
            pictures=pictures,
            seconds=seconds,
            soak=soak,
            most_minutes=most_minutes,
            queue=queue,
            clients=clients,
            json=json,
            markdown=markdown,
            command=shlex.join(["restorevar", *sys.argv[1:]]),
        )
        raise typer.Exit(0 if load_test(options, typer.echo).is_good else FAILED)
