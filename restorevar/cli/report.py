"""`restorevar report`: results as the paper's tables, and as a page with pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import app, one_line, reporting


@app.command()
def report(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULTS",
            help="What evaluate, bench and study analyze write with --json; folders of .jsonl; ablation.json.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The report to write.")],
    format: Annotated[
        str | None, typer.Option(metavar="md|latex|html", help="Default: by the suffix of FILE (.md, .tex, .html).")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(metavar="METHOD", help="The others are compared with it; default: the first measured.")
    ] = None,
    table: Annotated[
        list[str] | None, typer.Option(metavar="1..10|ours", help="Only this table; repeatable. ours: held-out sets.")
    ] = None,
    gallery: Annotated[
        int, typer.Option(metavar="N", help="HTML: images of each data set, where outputs were kept; 0: none.")
    ] = 3,
    title: Annotated[str | None, typer.Option(metavar="TEXT")] = None,
) -> None:
    """The paper's tables 1 to 10, ours beside them, with intervals and tests: Markdown, LaTeX or one HTML file.

    What was not measured stands there with the command that would measure it.
    """
    with reporting():
        from ..evaluation.report import Options
        from ..evaluation.report import report as write_report

        options = Options(results, out, format, reference, table or (), gallery, *([title] if title else []))
        told = write_report(options, lambda line: typer.echo(f"restorevar: warning: {one_line(line)}", err=True))
        typer.echo(f"{told} in {out}")
