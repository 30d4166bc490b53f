"""`restorevar restore`: photos in, photos out; videos too."""

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
    from ..video.restoring import Pace


@app.command()
def restore(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT", help="Photos, videos, folders (with subfolders), patterns.")
    ],
    out: Annotated[
        str, typer.Option("--out", "-o", help="Folder for the results; for a single input also a file name.")
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
        str, typer.Option(metavar="auto|best|balanced|fast", help="How much of the model is run; best is all of it.")
    ] = "auto",
    format: Annotated[
        str, typer.Option(metavar="keep|png|jpg|mp4|...", help="Format of the results: of photos, or of videos.")
    ] = "keep",
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
    codec: Annotated[
        str | None,
        typer.Option(metavar="h264|hevc|av1|vp9|mpeg4|prores|ffv1", help="Of videos; default: by the container."),
    ] = None,
    crf: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Quality of videos as their codec counts it; lower is better."),
    ] = None,
    temporal: Annotated[
        str,
        typer.Option(
            metavar="off|steady|strong",
            help="Hold videos steady from frame to frame; strong also takes away what shows in one frame only.",
        ),
    ] = "steady",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
) -> None:
    """Restore photos and videos: same size, same format, metadata kept; of videos also sound, subtitles, chapters.

    Results that exist already are skipped; a video that was interrupted goes on.
    Exit code: 0 all done, 1 some failed, 2 wrong usage.
    """
    with reporting():
        windows = {"tile": auto_or_number("tile", tile), "batch": auto_or_number("batch", batch)}

        from .. import batch as files
        from ..diagnosis import diagnose
        from ..pipeline import Restorer

        writing = _writing(format, quality, overwrite, codec, crf, temporal)
        jobs = files.plan_jobs(inputs, out, writing)
        restorer = Restorer.from_pretrained(
            model, device, dtype, **windows, fidelity=fidelity, strength=strength, speed=speed
        )
        counts: Counter[str] = Counter()
        with open_log(json) as log, _watching(jobs, writing, quiet) as (progress, watch, tell):
            if not quiet:  # what "auto" has picked
                typer.echo(f"{restorer.name}: {restorer.summary}")
            for record in files.run(jobs, restorer, writing, progress, diagnose if if_needed else None, watch):
                counts[record.status] += 1
                files.append_record(log, record)
                tell(record)
        if len(jobs) > 1 and not quiet:
            typer.echo(", ".join(f"{number} {status}" for status, number in counts.items()))
        raise typer.Exit(FAILED if counts["failed"] else 0)


def _writing(
    format: str, quality: int | None, overwrite: bool, codec: str | None, crf: int | None, temporal: str
) -> Writing:
    """The format is of photos or of videos; the others keep theirs."""
    from ..batch import Writing
    from ..video import CONTAINERS, VideoOptions

    container = f".{format.lower()}" if f".{format.lower()}" in CONTAINERS else None
    photos = None if container or format == "keep" else format
    return Writing(photos, quality, overwrite, VideoOptions(container, codec, crf, temporal))


@contextmanager
def _watching(
    jobs: Sequence[Job], writing: Writing, quiet: bool
) -> Iterator[tuple[Callable[[Job, float], None], Callable[[Job, Pace], None], Callable[[Record], None]]]:
    """What shows how far it is, and a video's pace, and what tells of each finished file.

    The bar is for terminals only.
    """

    def tell(record: Record) -> None:
        if record.status == "failed":
            fail(record.error or "failed", FAILED)
        elif not quiet:
            for line in (str(record), *record.notes):
                typer.echo(one_line(line))

    if quiet or not sys.stderr.isatty():
        yield lambda job, share: None, lambda job, pace: None, tell
        return

    from ..batch import count_pixels, is_done

    # Pixels, not files, so that the estimate of the time left holds for a mixture of sizes.
    pixels = {job: 0 if is_done(job, writing) else max(1, count_pixels(job.source)) for job in jobs}
    before = dict(zip(jobs, accumulate(pixels.values(), initial=0), strict=False))
    with progress_bar() as bar:
        task = bar.add_task("restoring", total=sum(pixels.values()))

        def progress(job: Job, share: float) -> None:
            bar.update(task, completed=before[job] + share * pixels[job], description=one_line(job.source.name))

        def watch(job: Job, pace: Pace) -> None:
            bar.update(task, description=one_line(f"{job.source.name}, {pace}"))

        yield progress, watch, tell
