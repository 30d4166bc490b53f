"""`restorevar models` and `restorevar convert`: which weights there are, and the published ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import app, reporting


@app.command()
def models() -> None:
    """List the models shipped with the package."""
    with reporting():
        from ..checkpoints import WEIGHTS, available_models, file_sha256, resolve_model

        for name in available_models():
            weights = resolve_model(name) / WEIGHTS
            typer.echo(f"{name}  {weights.stat().st_size / 1e6:.1f} MB  sha256 {file_sha256(weights)}")


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
