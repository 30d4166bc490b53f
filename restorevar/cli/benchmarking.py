"""`restorevar bench`: how fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import FAILED, Device, Dtype, app, command_line, reporting


@app.command()
def bench(
    model: Annotated[
        str, typer.Option(metavar="NAME|DIR|HUB_ID|paper|paper_256", help="paper and paper_256: random weights.")
    ] = "compact",
    device: Device = "auto",
    dtype: Dtype = "auto",
    size: Annotated[int | None, typer.Option(help="Side of the image in pixels; default: the model's window.")] = None,
    batch: Annotated[int, typer.Option(help="Images at once, for the throughput.")] = 1,
    repeat: Annotated[int, typer.Option(help="Measurements of each figure, of which the median is told.")] = 5,
    published_code: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The authors' checkout, measured with the same weights.")
    ] = None,
    ldm: Annotated[
        bool, typer.Option("--ldm", help="Also the networks of the diffusion methods. Needs the extra `ldm`.")
    ] = False,
    rival: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIR", help="A checkout of promptir or instructir, measured too; repeatable."),
    ] = None,
    scaling: Annotated[bool, typer.Option("--scaling", help="Cost against the size of the latent.")] = False,
    ladder: Annotated[
        Path | None,
        typer.Option(metavar="PAIRS", help="What leaving parts out costs on <task>/input, <task>/target."),
    ] = None,
    precision: Annotated[
        Path | None, typer.Option(metavar="DIR", help="How near --dtype comes to fp32 on these photos.")
    ] = None,
    photos: Annotated[
        str | None, typer.Option(metavar="1,4,12", help="Photos of so many megapixels, end to end.")
    ] = None,
    speed: Annotated[
        str, typer.Option(metavar="best|balanced|fast", help="Of the photos, and of the way from pixels to pixels.")
    ] = "best",
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all figures.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the tables, and the plot of --scaling beside it.")
    ] = None,
) -> None:
    """Measure speed and memory, part by part, beside the published code and the compared methods.

    Exit code: 0 measured, 1 the outputs of the published code differ from ours, 2 wrong usage.
    """
    with reporting():
        from ..benchmarks.photos import parse_photos
        from ..benchmarks.regression_rivals import parse_rival
        from ..benchmarks.run import Options
        from ..benchmarks.run import bench as run_benchmark

        options = Options(
            model=model,
            device=device,
            dtype=dtype,
            size=size,
            batch=batch,
            repeat=repeat,
            published_code=published_code,
            ldm=ldm,
            rivals=[parse_rival(text) for text in rival or ()],
            scaling=scaling,
            ladder=ladder,
            speed=speed,
            precision=precision,
            photos=[] if photos is None else parse_photos(photos),
            json=json,
            markdown=markdown,
            command=command_line(),
        )
        raise typer.Exit(0 if run_benchmark(options, typer.echo).agrees else FAILED)
