"""`restorevar report` and `restorevar results`: the paper's tables, and our own page of figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import FAILED, Device, Dtype, app, fail, reporting, warn
from .evaluating import listening


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
        told = write_report(options, warn)
        typer.echo(f"{told} in {out}")


@app.command()
def results(
    root: Annotated[
        Path,
        typer.Argument(metavar="ROOT", help="Held-out: clean/<set>, pairs/<set>/{input,target}, real/<kind>."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The page of figures, Markdown.")],
    gallery: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also a page of HTML, with pictures."),
    ] = None,
    work: Annotated[
        Path, typer.Option(metavar="DIR", help="Keeps pairs, rows and restored images: run again to go on.")
    ] = Path("runs/results"),
    model: Annotated[str, typer.Option(metavar="NAME|DIR|HUB_ID")] = "compact",
    name: Annotated[str | None, typer.Option(metavar="TEXT", help="Calls the model so.")] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    fidelity: Annotated[float | None, typer.Option(metavar="W", help="Default: the model's own.")] = None,
    protocol: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Default: restorevar-512 and saved-8bit; repeatable.")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(metavar="psnr,ssim,...", help="Default: some that need no download.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only so many images of each set.")] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            metavar="dark-channel|clahe|lime|MODEL_DIR",
            help="Another method on the same pairs, saved-8bit, in tables beside; repeatable.",
        ),
    ] = None,
) -> None:
    """Regenerate docs/results.md: a model on all held-out photos, two protocols side by side, with intervals.

    Exit code: 0 all images scored, 1 some failed, 2 wrong usage.
    """
    with reporting():
        from ..acceleration import pick_device
        from ..evaluation import results as made
        from ..evaluation.beside import find_beside
        from ..evaluation.methods import ModelMethod, shown_name
        from ..pipeline import Restorer

        options = made.Options(
            root=root,
            out=out,
            work=work,
            gallery=gallery,
            protocols=protocol or made.PROTOCOLS,
            metrics=metrics.split(",") if metrics else made.METRICS,
            limit=limit,
            device=str(pick_device(device)),
            model=model,
            fidelity=fidelity,
            beside=[find_beside(other, device, dtype) for other in beside or ()],
        )
        with listening() as listener:
            restorer = Restorer.from_pretrained(model, device, dtype)
            restorer.name = name or shown_name(restorer.name)
            outcome = made.results(ModelMethod(restorer, fidelity), options, listener)
        count = len(outcome.rows) + len(outcome.beside)
        typer.echo(f"{count} scored images in {out}" + (f", pictures in {gallery}" if gallery else ""))
        if outcome.missing:
            raise typer.Exit(fail(f"{outcome.missing} images could not be scored", FAILED))
