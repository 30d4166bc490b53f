"""`restorevar models`, `average` and `convert`: which weights there are, several made one, the published ones."""

from __future__ import annotations

import json as json_text
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UserError
from .common import FAILED, Device, app, counting, note, one_line, reporting

if TYPE_CHECKING:
    from ..checkpoints.card import Figure
    from ..checkpoints.listing import Listed
    from ..models import Model


@app.command()
def models(
    json: Annotated[bool, typer.Option("--json", help="All that is known, as JSON.")] = False,
) -> None:
    """List the models on this disk, shipped and in the Hub's cache: size, hash, licence, measured figures.

    Exit code: 0 all whole, 1 the files of one are damaged or missing.
    """
    with reporting():
        from ..checkpoints.listing import list_models

        found = list_models()
        if json:
            typer.echo(json_text.dumps([model.to_dict() for model in found], indent=1))
        else:
            _print(found)
        raise typer.Exit(FAILED if any(model.problem for model in found) else 0)


def _print(found: Sequence[Listed]) -> None:
    from rich.console import Console

    console = Console(markup=False, highlight=False, emoji=False)
    for table in _tables(found):
        console.print(table)
    for model in found:
        if model.problem:
            console.print(one_line(f"{model.name}: {model.problem}"), soft_wrap=True)
        else:
            console.print(one_line(f"{model.name}: sha256 {model.sha256}"), soft_wrap=True)


def _tables(found: Sequence[Listed]) -> Iterator[Any]:
    """The models, then what each was measured to do. Names and licences of the Hub are strangers' text."""
    table = _table("model", "where", "MB", "parameters", "licence", "files", numbers=(2, 3))
    for model in found:
        whole = "damaged" if model.problem else "whole"
        size, count = f"{model.bytes / 1e6:.1f}", f"{model.parameters / 1e6:.1f} M"
        numbers = ("-", "-") if model.problem else (size, count)
        table.add_row(one_line(model.name), model.place, *numbers, one_line(model.licence) or "-", whole)
    yield table
    for model in found:
        if model.figures:
            yield _figures(model.name, model.figures)


def _figures(name: str, figures: Sequence[Figure]) -> Any:
    table = _table("pairs", "n", "PSNR in", "gained", "PSNR out", "SSIM in", "SSIM out", numbers=range(1, 7))
    table.title = f"{one_line(name)}: measured, dB and SSIM"
    table.title_justify = "left"
    for f in figures:
        gained = "-" if f.psnr_gain is None else f"{f.psnr_gain:+.2f}"
        cells = (_number(f.psnr_in, 2), gained, _number(f.psnr, 2), _number(f.ssim_in, 3), _number(f.ssim, 3))
        table.add_row(one_line(f.data), str(f.images), *cells)
    return table


def _table(*columns: str, numbers: Sequence[int]) -> Any:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i in numbers else "left")
    return table


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


@app.command()
def average(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Shipped names, folders or Hub ids.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Model folder to write.")],
    share: Annotated[
        list[float] | None, typer.Option(metavar="NUMBER", help="Of each model in turn; all the same without.")
    ] = None,
    dtype: Annotated[str, typer.Option(metavar="fp32|bf16|fp16", help="Precision of the file.")] = "fp32",
    clean: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Clean photos, a dozen or more: what the mean does to their light is undone."),
    ] = None,
    device: Device = "auto",
) -> None:
    """Average models of one network weight by weight, such as two stages of one training."""
    with reporting():
        from ..acceleration import DTYPES
        from ..checkpoints.averaging import average_models
        from ..data.photos import find_photos

        if dtype not in DTYPES:
            raise UserError(f"--dtype is one of {', '.join(DTYPES)}, not {dtype!r}")
        photos = [] if clean is None else find_photos(clean)

        def correct(model: Model) -> dict[str, Any]:
            from ..bias_correction import correct_bias

            with counting("clean photos") as progress:
                found = correct_bias(model, photos, device, progress)
            note(
                f"in the mean {found.photos} clean photos were changed by {found.before:+.2f} of 255, "
                f"and are by {found.after:+.2f}"
            )
            return {"bias_corrected": asdict(found)}

        digest = average_models(models, out, share, DTYPES[dtype], None if clean is None else correct)
        typer.echo(f"{out}  sha256 {digest}")


@app.command()
def convert(
    vae: Annotated[Path, typer.Option(metavar="FILE", help="vae_restorevar.ckpt, or VAR's vae_ch160v4096z32.pth.")],
    transformer: Annotated[
        Path, typer.Option(metavar="FILE", help="restorevar.pth, or VAR's var_d16.pth: a start to train.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Model folder to write.")],
    refiner_heads: Annotated[int, typer.Option(help="Heads of the refiner; nothing in the file tells.")] = 6,
    window: Annotated[int, typer.Option(help="Of a start from VAR: 512 or 256.")] = 512,
) -> None:
    """Turn the published checkpoints into a model folder: safetensors, config, sha256. Runs no code from them."""
    with reporting():
        from ..official_weights import convert as run_conversion

        typer.echo(f"{out}  sha256 {run_conversion(vae, transformer, out, refiner_heads, window)}")
