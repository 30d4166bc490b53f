"""`restorevar export`: the model as ONNX graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import FAILED, app, reporting


@app.command()
def export(
    model: Annotated[str, typer.Argument(metavar="NAME|DIR|HUB_ID", help="A shipped model, a folder, or a Hub id.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the graphs.")],
    size: Annotated[int, typer.Option(help="Side of the square images that the graphs take, in pixels.")] = 512,
    speed: Annotated[
        str, typer.Option(metavar="best|balanced", help="How much of the model is exported; best is all of it.")
    ] = "best",
    photo: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Compare on this photo, resized, rather than on a drawn one.")
    ] = None,
    check: Annotated[
        bool, typer.Option(help="Run the graphs with onnxruntime beside torch: pixels, tokens, seconds.")
    ] = True,
) -> None:
    """Write the model as ONNX graphs of one size, and hold them against torch. Needs the extra `onnx`.

    Exit code: 0 written and alike, 1 the results differ, 2 wrong usage.
    """
    with reporting():
        from ..checkpoints import load_model
        from ..export.compare import compare
        from ..export.pictures import drawn, from_photo
        from ..export.write import export_model
        from ..pipeline import scales_of

        picture = drawn(size) if photo is None else from_photo(photo, size)
        loaded = load_model(model)
        for path in export_model(loaded, out, size, speed, lambda name: typer.echo(f"tracing {name}", err=True)):
            typer.echo(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
        if check:
            agreement = compare(loaded.model, out, picture, scales_of(loaded.model, speed))  # type: ignore[arg-type]
            typer.echo(str(agreement))
            raise typer.Exit(0 if agreement.holds else FAILED)
