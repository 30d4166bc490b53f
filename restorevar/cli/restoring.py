"""`restorevar restore`: photos in, photos out."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import FAILED, Device, Dtype, app, auto_or_number, fail, one_line, open_log, progress_bar, reporting

if TYPE_CHECKING:
    from ..batch import Job, Record, Writing


@app.command()
def restore(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT", help="Images, folders (with subfolders), patterns.")],
    out: Annotated[
        str, typer.Option("--out", "-o", help="Folder for the results; for a single image also a file name.")
    ],
    model: Annotated[
        str, typer.Option(metavar="NAME|DIR|HUB_ID", help="A shipped model, a folder, or a Hub id.")
    ] = "compact",
    device: Device = "auto",
    dtype: Dtype = "auto",
    tile: Annotated[
        str, typer.Option(metavar="auto|N", help="Side of the windows of large photos, in pixels.")
    ] = "auto",
    batch: Annotated[str, typer.Option(metavar="auto|N", help="Windows per pass of the model.")] = "auto",
    fidelity: Annotated[
        float | None, typer.Option(metavar="W", help="Detail taken from the input, 0 (none) to 1.")
    ] = None,
    strength: Annotated[
        float, typer.Option(metavar="S", help="How much of the change is made, 0 (none) to 1 (all of it).")
    ] = 1.0,
    speed: Annotated[
        str, typer.Option(metavar="best|balanced|fast", help="How much of the model is run; best is all of it.")
    ] = "best",
    format: Annotated[str, typer.Option(metavar="keep|png|jpg|...", help="Format of the results.")] = "keep",
    quality: Annotated[
        int | None, typer.Option(min=1, max=100, help="For JPEG, WebP and AVIF; default: as the input.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing results instead of skipping them.")
    ] = False,
    json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Append one line of JSON per file to this log, as files finish."),
    ] = None,
    if_needed: Annotated[
        bool, typer.Option("--if-needed", help="Look first; photos that need nothing are copied as they are.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
) -> None:
    """Restore photos: same size, same format, metadata kept.

    Results that exist already are skipped. Exit code: 0 all done, 1 some failed, 2 wrong usage.
    """
    with reporting():
        windows = {"tile": auto_or_number("tile", tile), "batch": auto_or_number("batch", batch)}

        from .. import batch as files
        from ..diagnosis import diagnose
        from ..pipeline import Restorer

        writing = files.Writing(None if format == "keep" else format, quality, overwrite)
        jobs = files.plan_jobs(inputs, out, writing)
        restorer = Restorer.from_pretrained(
            model, device, dtype, **windows, fidelity=fidelity, strength=strength, speed=speed
        )
        counts: Counter[str] = Counter()
        with open_log(json) as log, _watching(jobs, writing, quiet) as (progress, tell):
            if not quiet:  # what "auto" has picked
                typer.echo(f"{restorer.name}: {restorer.summary}")
            for record in files.run(jobs, restorer, writing, progress, diagnose if if_needed else None):
                counts[record.status] += 1
                files.append_record(log, record)
                tell(record)
        if len(jobs) > 1 and not quiet:
            typer.echo(", ".join(f"{number} {status}" for status, number in counts.items()))
        raise typer.Exit(FAILED if counts["failed"] else 0)


@contextmanager
def _watching(
    jobs: Sequence[Job], writing: Writing, quiet: bool
) -> Iterator[tuple[Callable[[Job, float], None], Callable[[Record], None]]]:
    """What shows how far it is, and what tells of each finished file. The bar is for terminals only."""

    def tell(record: Record) -> None:
        if record.status == "failed":
            fail(record.error or "failed", FAILED)
        elif not quiet:
            typer.echo(one_line(str(record)))

    if quiet or not sys.stderr.isatty():
        yield lambda job, share: None, tell
        return

    from ..batch import count_pixels, is_done

    # Pixels, not files, so that the estimate of the time left holds for a mixture of sizes.
    pixels = {job: 0 if is_done(job, writing) else max(1, count_pixels(job.source)) for job in jobs}
    before = dict(zip(jobs, accumulate(pixels.values(), initial=0), strict=False))
    with progress_bar() as bar:
        task = bar.add_task("restoring", total=sum(pixels.values()))

        def progress(job: Job, share: float) -> None:
            bar.update(task, completed=before[job] + share * pixels[job], description=one_line(job.source.name))

        yield progress, tell
