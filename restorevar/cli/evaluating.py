"""`restorevar evaluate`: how good a method is, in numbers that name their protocol."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from .common import app, one_line, reporting


@app.command()
def evaluate(
    pairs: Annotated[Path, typer.Argument(metavar="PAIRS", help="Folder with <task>/input and <task>/target.")],
    model: Annotated[str, typer.Option(metavar="NAME|DIR|HUB_ID")] = "compact",
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps")] = "auto",
    dtype: Annotated[str, typer.Option(metavar="auto|fp32|bf16|fp16")] = "auto",
    fidelity: Annotated[
        list[float] | None, typer.Option(metavar="W", help="Repeatable: one table for each; default: the model's own.")
    ] = None,
    latent: Annotated[
        str | None,
        typer.Option(metavar="zeros|degraded", help="A control: this in place of the restored latent."),
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Append one line of JSON per image.")] = None,
) -> None:
    """PSNR and SSIM of restored photos beside those of the degraded ones, per task. Needs the extra `eval`."""
    with reporting():
        from ..evaluation.gains import PROTOCOL, Score
        from ..evaluation.gains import evaluate as run_evaluation
        from ..pipeline import Restorer

        def tell(done: Score) -> None:
            if sys.stderr.isatty():
                typer.echo(f"\r{done.task} {one_line(done.name)}\x1b[K\r", err=True, nl=False)

        typer.echo(PROTOCOL)
        weights: Sequence[float | None] = fidelity or [None]
        for weight in weights:
            restorer = Restorer.from_pretrained(model, device, dtype, fidelity=weight)
            if latent is not None:
                from ..evaluation.controls import control

                control(restorer, latent)
            typer.echo(f"{restorer.name} {restorer.sha256[:12]} {restorer.settings}")
            typer.echo(f"{'task':<20}{'n':>4}{'PSNR in':>10}{'PSNR out':>10}{'gain':>8}{'SSIM in':>10}{'SSIM out':>10}")
            for row in run_evaluation(restorer, pairs, json, tell):
                psnrs = f"{row.psnr_input:>10.2f}{row.psnr_restored:>10.2f}{row.gain:>+8.2f}"
                typer.echo(f"{row.task:<20}{row.n:>4}{psnrs}{row.ssim_input:>10.4f}{row.ssim_restored:>10.4f}")
