"""`restorevar diagnose`: what photos suffer from. `restorevar train-diagnosis`: the small network that tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UserError
from .common import FAILED, app, fail, one_line, reporting

if TYPE_CHECKING:
    from ..diagnosis.weights import Head


@app.command()
def diagnose(
    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="INPUT", help="Images, folders (with subfolders), patterns.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what was found: an entry per photo, or the figures.")
    ] = None,
    score: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="How often it is right: on DIR/<task>/input and target, or on DIR/<task>."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="DIR", help="What train-diagnosis wrote, in place of what is shipped.")
    ] = None,
) -> None:
    """Tell which degradations photos show and how strongly, from 0 to 1, or that they need nothing.

    Exit code: 0 all read, 1 some could not be read, 2 wrong usage.
    """
    with reporting():
        if bool(inputs) == (score is not None):
            raise UserError("give photos, or --score and a folder of pairs")

        from ..data.manifest import check_place, write_json
        from ..diagnosis.weights import load_head, shipped_head

        head = shipped_head() if weights is None else load_head(weights)
        if json is not None:
            check_place(json)
        failures: list[str] = []

        def tell(message: str) -> None:
            failures.append(message)
            fail(message, FAILED)

        found = list(_look(inputs or [], head, tell)) if score is None else _score(score, head, tell)
        if json is not None:
            write_json(found, json)
        raise typer.Exit(FAILED if failures else 0)


def _look(inputs: list[str], head: Head, tell: Callable[[str], None]) -> Iterator[dict[str, object]]:
    """Photo after photo, each with its line; an entry for those that can be read."""
    from ..batch import find_inputs
    from ..diagnosis import diagnose

    for path in find_inputs(inputs):
        try:
            diagnosis = diagnose(path, head)
        except UserError as error:
            tell(str(error))
        else:
            typer.echo(one_line(f"{path}: {diagnosis}"))
            yield {"input": str(path), **diagnosis.as_json()}


def _score(folder: Path, head: Head, tell: Callable[[str], None]) -> dict[str, Any]:
    from ..diagnosis import diagnose
    from ..evaluation.diagnosing import figures, judge, tables

    found = figures(judge(folder, lambda path: diagnose(path, head), tell))
    typer.echo(tables(found))
    return found


@app.command("train-diagnosis")
def train_diagnosis(
    photos: Annotated[Path, typer.Argument(metavar="PHOTOS", help="Folder of clean photographs.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for weights and config.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same weights.")] = 0,
    examples: Annotated[int, typer.Option(min=1, help="Degraded examples of each photograph.")] = 6,
    epochs: Annotated[int, typer.Option(min=1, help="How often the network sees each example.")] = 30,
    workers: Annotated[int, typer.Option(min=1, help="Processes that make and measure examples.")] = 2,
) -> None:
    """Train what `diagnose` tells from, on synthetic degradations of clean photographs, and choose its thresholds."""
    with reporting():
        from ..diagnosis.training import Options, train

        options = Options(examples=examples, epochs=epochs, seed=seed, workers=workers)
        typer.echo(f"{out}  sha256 {train(photos, out, options, typer.echo)}")
