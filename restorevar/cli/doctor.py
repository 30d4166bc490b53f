"""`restorevar doctor`: is this machine ready, and how fast?"""

from __future__ import annotations

import json as json_text
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from .common import FAILED, Device, Dtype, app, one_line, reporting

if TYPE_CHECKING:
    from ..doctor import Finding

#: Signs that terminals without Unicode have too.
_SIGNS = {"good": ("ok", "green"), "note": ("note", "yellow"), "bad": ("BAD", "red")}


@app.command()
def doctor(
    model: Annotated[
        str, typer.Option(metavar="NAME|DIR|HUB_ID", help="A shipped model, a folder, or a Hub id.")
    ] = "compact",
    device: Device = "auto",
    dtype: Dtype = "auto",
    speed: Annotated[
        bool, typer.Option(help="Restore a photo and tell how long it takes, in about ten seconds.")
    ] = True,
    json: Annotated[bool, typer.Option("--json", help="All findings, as JSON.")] = False,
) -> None:
    """Look at this machine: device, precision, threads, memory, disk, the model's files, what is missing, speed.

    Exit code: 0 ready, 1 something stops restoring, 2 wrong usage.
    """
    with reporting():
        from ..doctor import examine

        findings = []
        for finding in examine(model, device, dtype, speed):
            findings.append(finding)
            if not json:
                _tell(finding)
        if json:
            typer.echo(json_text.dumps([asdict(finding) for finding in findings], indent=1))
        raise typer.Exit(FAILED if any(finding.grade == "bad" for finding in findings) else 0)


def _tell(finding: Finding) -> None:
    sign, color = _SIGNS[finding.grade]
    typer.echo(f"{typer.style(f'{sign:>4}', fg=color)}  {one_line(f'{finding.name}: {finding.text}')}")
    if finding.help:
        typer.echo(f"      {one_line(finding.help)}")
