"""`restorevar batch`: very many photos, on all cores, all GPUs, or a Ray cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from .common import FAILED, Device, Dtype, app, fail, one_line, reporting
from .ray_option import Ray, RayCommand

#: Failures that are told one by one; all are among the dead letters.
TOLD = 20


@app.command(cls=RayCommand)
def batch(
    source: Annotated[
        str,
        typer.Argument(metavar="SRC", help="Folder, pattern or manifest (txt, json, jsonl, parquet); path or URL."),
    ],
    destination: Annotated[str, typer.Argument(metavar="DST", help="Folder of the results, path or URL.")],
    ray: Ray = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Models at work at once; default: one per GPU, or else per core.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Cores for each of them; default: all cores shared out.")
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="NAME|DIR|HUB_ID", help="A shipped model, a folder, or a Hub id.")
    ] = "compact",
    device: Device = "auto",
    dtype: Dtype = "auto",
    fidelity: Annotated[
        float | None, typer.Option(metavar="W", help="Detail taken from the input, 0 (none) to 1.")
    ] = None,
    strength: Annotated[float, typer.Option(metavar="S", help="Part of the change that is made, 0 (none) to 1.")] = 1.0,
    speed: Annotated[
        str, typer.Option(metavar="auto|best|balanced|fast", help="How much of the model is run; best is all of it.")
    ] = "auto",
    format: Annotated[str, typer.Option(metavar="keep|png|jpg|...", help="Format of the results.")] = "keep",
    quality: Annotated[
        int | None, typer.Option(min=1, max=100, help="For JPEG, WebP and AVIF; default: as the input.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing results instead of skipping them.")
    ] = False,
    if_needed: Annotated[
        bool, typer.Option("--if-needed", help="Look first; photos that need nothing are copied as they are.")
    ] = False,
    column: Annotated[str, typer.Option(help="Of the paths, in Parquet.")] = "path",
    root: Annotated[
        str, typer.Option(metavar="DIR|URL", help="Results mirror the tree below it; default: SRC, or its folder.")
    ] = "",
    retries: Annotated[
        int, typer.Option(min=0, help="Further tries after failures that may pass, and after killed workers.")
    ] = 3,
    shard: Annotated[int, typer.Option(min=1, help="Photos per report.")] = 1000,
    reports: Annotated[
        str, typer.Option(metavar="DIR|URL", help="Reports and dead letters; default: .restorevar in DST.")
    ] = "",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
) -> None:
    """Restore very many photos, on processes of this machine or on a Ray cluster.

    Results mirror the tree of SRC; those that exist are skipped, so that a job that was ended goes on when it is
    started again. Exit code: 0 all done, 1 some failed, 2 wrong usage.
    """
    with reporting():
        from ..batch import Writing
        from ..scaling import Plan, Settings, Source, run_plan

        plan = Plan(
            Source(source, root, column),
            Settings(
                destination,
                model=model,
                device=device,
                dtype=dtype,
                fidelity=fidelity,
                strength=strength,
                speed=speed,
                writing=Writing(None if format == "keep" else format, quality, overwrite),
                if_needed=if_needed,
                retries=retries,
            ),
            reports=reports,
            workers=workers,
            threads=threads,
            shard=shard,
            ray=ray,
        )
        told = 0

        def failed(line: str) -> None:
            nonlocal told
            told += 1
            if told <= TOLD:
                fail(line, FAILED)
            elif told == TOLD + 1:
                fail("more failures are not told here: see the dead letters", FAILED)

        summary = run_plan(plan, lambda line: None if quiet else typer.echo(one_line(line)), failed)
        if not quiet:
            counts = ", ".join(f"{summary[key]} {key}" for key in ("restored", "untouched", "skipped", "failed"))
            typer.echo(f"{counts}; {summary['photos_per_second']} photos/s, {summary['seconds']} s")
            typer.echo(one_line(f"reports: {summary['reports']}"))
        raise typer.Exit(FAILED if summary["failed"] else 0)
