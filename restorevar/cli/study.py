"""`restorevar study`: a blind rating by people, made and analysed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from .common import app, reporting, warn

study_app = typer.Typer(
    help="A blind study: people rate the outputs of several methods without knowing whose they are."
)
app.add_typer(study_app, name="study")


@study_app.command("make")
def study_make(
    methods: Annotated[list[str], typer.Argument(metavar="METHOD=DIR", help="A method and the folder of its outputs.")],
    input: Annotated[Path, typer.Option(metavar="DIR", help="The degraded photos; subfolders are data sets.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The page for the raters.")],
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Who is who. Keep it to yourself. Default: beside the page.")
    ] = None,
    questions: Annotated[
        int | None, typer.Option(metavar="N", help="So many photos, drawn by chance, alike from each data set.")
    ] = None,
    criterion: Annotated[
        list[str] | None, typer.Option(metavar="QUESTION", help="Ask this instead of the three of ours; repeatable.")
    ] = None,
    size: Annotated[int, typer.Option(metavar="PIXELS", help="Longer side of the pictures in the page.")] = 1024,
    title: Annotated[str | None, typer.Option(metavar="TEXT")] = None,
    seed: Annotated[
        int | None, typer.Option(help="An order that can be made again; who knows it knows the key.")
    ] = None,
) -> None:
    """Build a page of one file that works offline, and its key. Raters send back the file that the page gives them."""
    with reporting():
        from ..evaluation.study import CRITERIA, Criterion, Options
        from ..evaluation.study.make import TITLE, make

        asked = [Criterion(f"criterion{i}", text) for i, text in enumerate(criterion or (), start=1)]
        options = Options(
            methods=[_named_folder(text) for text in methods],
            inputs=input,
            out=out,
            key=key,
            questions=questions,
            criteria=asked or CRITERIA,
            title=title or TITLE,
            side=size,
            seed=seed,
        )
        made = make(options, warn)
        typer.echo(f"{len(made.questions)} photos, {len(made.methods)} methods: send {out}, keep {options.key_path}")


@study_app.command("analyze")
def study_analyze(
    ratings: Annotated[list[Path], typer.Argument(metavar="RATINGS", help="The files that raters sent back.")],
    key: Annotated[Path, typer.Option(metavar="FILE", help="What `study make` wrote beside the page.")],
    reference: Annotated[
        str | None,
        typer.Option(metavar="METHOD", help="The others are compared with it; default: RestoreVAR, or the first."),
    ] = None,
    unit: Annotated[
        str, typer.Option(metavar="rater|question|rating", help="What counts as one independent value.")
    ] = "rater",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the tables: .md, .tex or .html.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all figures, for `restorevar report`.")
    ] = None,
) -> None:
    """The paper's tables 3 and 7: mean rating of each method, paired differences with intervals and tests."""
    with reporting():
        from ..data.manifest import write_json
        from ..evaluation.report.markdown import markdown
        from ..evaluation.report.study_tables import table_3, table_7
        from ..evaluation.report.write import write_tables
        from ..evaluation.study import Key, analyse, read_ratings

        found = Key.read(key)
        told = read_ratings(ratings, found, warn)
        analysis = analyse(found, told, unit, reference)
        tables = [table_3([analysis]), table_7([analysis])]
        if json is not None:
            write_json(analysis.as_json(), json)
        if out is not None:
            write_tables(out, None, f"Blind study: {found.title}", [], tables)
        unfinished = f", {analysis.unfinished} photos not rated in full and left out" if analysis.unfinished else ""
        typer.echo(f"{analysis.raters} raters, {analysis.questions} photos{unfinished}\n")
        typer.echo("\n".join(map(markdown, tables)))


def _named_folder(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise UserError(f"{text}: a method is given as METHOD=DIR")
    return name, Path(folder)
