"""`restorevar degrade` and `restorevar data`: pairs made, found and checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from .common import app, counting, one_line, reporting


@app.command()
def degrade(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT", help="Clean photos, or folders of them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for <task>/input, <task>/target, pairs.json.")],
    task: Annotated[
        list[str] | None,
        typer.Option(help="haze, rain, snow, lowlight, blur, clean, or a mixture like haze+rain; repeatable."),
    ] = None,
    strength: Annotated[
        tuple[float, float], typer.Option(metavar="LOW HIGH", help="Range of strengths, within 0 to 1.")
    ] = (0.2, 0.9),
    seed: Annotated[int, typer.Option(help="The same seed gives the same pairs.")] = 0,
    max_side: Annotated[int | None, typer.Option(min=16, help="Shrink larger photos to this first.")] = None,
    sheet: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a contact sheet.")] = None,
    video: Annotated[
        int | None,
        typer.Option(metavar="FRAMES", min=2, help="Clips instead: a camera moves over each photo. Needs `video`."),
    ] = None,
    size: Annotated[str, typer.Option(metavar="WxH", help="Of the frames of clips.")] = "320x192",
) -> None:
    """Make synthetic pairs from clean photos: the five degradations, seeded. Or clips of them.

    Clips (haze, rain, snow, lowlight, clean) have one strength, the mean of LOW and HIGH; each frame has drops, flakes
    and noise of its own.
    """
    with reporting():
        if video is not None:
            _degrade_clips(inputs, out, video, size, task or (), seed, sum(strength) / 2)
            return
        from ..data.synthesis import make_pairs

        pairs = make_pairs(inputs, out, task or (), seed, strength, max_side, sheet)
        typer.echo(f"{len(pairs)} pairs in {out}")


def _degrade_clips(
    inputs: list[Path], out: Path, frames: int, size: str, tasks: Sequence[str], seed: int, strength: float
) -> None:
    from ..video import check_extra

    check_extra()
    width, _, height = size.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise UserError(f"--size is like 320x192, width and height in pixels, not {size!r}")

    from ..video.synthesis import make_clips

    with counting("making clips") as progress:
        clips = make_clips(inputs, out, frames, (int(height), int(width)), tasks, seed, strength, progress)
    typer.echo(f"{len(clips)} clips in {out}")


data_app = typer.Typer(help="Data sets on disk: find their pairs, check them, write manifests.")
app.add_typer(data_app, name="data")


@data_app.command("index")
def data_index(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="The unpacked data set, or one of its parts.")],
    layout: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="reside, snow100k, rain13k, lolv1, gopro, lhp, revide, toled, poled, lolblur, cdd, or paired: any "
            "input and target side by side.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The manifest to write.")],
    split: Annotated[str, typer.Option(metavar="train|val|test|all", help="Only the pairs of this split.")] = "all",
    variant: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Other degraded images: gopro blur_gamma, cdd low_haze, ..."),
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Manifest that should share no picture with this one; repeatable."),
    ] = None,
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Open no image: pair names and count, nothing else.")
    ] = False,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all that was found as JSON.")] = None,
) -> None:
    """Find the pairs of a published data set, check every file, write the manifest of those that can be used.

    Exit code 0 if a manifest was written, whatever problems were told of; 2 if there are no pairs.
    """
    with reporting():
        if no_check and against:
            raise UserError("--against compares pictures, which --no-check does not open")

        from ..data import audit
        from ..data.layouts import scan
        from ..data.manifest import check_place, read_manifest, write_json, write_manifest

        others = {str(path): read_manifest(path) for path in against or ()}
        index = scan(layout, root, split, variant)
        for place in filter(None, (out, report)):
            check_place(place)
        with counting("checking") as progress:
            result = audit.audit_index(index, not no_check, others, progress)
        if report is not None:
            write_json(audit.as_report(result), report)
        for line in (*audit.count_lines(result.counts), *audit.problem_lines(result, index.root)):
            typer.echo(one_line(line))
        if not result.pairs:
            raise UserError(f"{root}: none of {len(index.complete)} pairs can be used")
        write_manifest(result.pairs, out)
        left_out = len(index.complete) - len(result.pairs)
        typer.echo(f"{len(result.pairs):,} pairs in {out}" + (f", {left_out:,} left out" if left_out else ""))
        if len({entry.split for entry in result.pairs}) > 1:
            typer.echo("the manifest holds several splits; to train on one of them, write it with --split train")


@data_app.command("speed")
def data_speed(
    data: Annotated[list[str] | None, typer.Option(metavar="DIR", help="Folder of clean photographs.")] = None,
    pairs: Annotated[list[str] | None, typer.Option(metavar="FILE", help="Manifest of real pairs.")] = None,
    size: Annotated[int, typer.Option(min=16, help="Side of the crops in pixels.")] = 256,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode and degrade; 0: none of their own.")] = 0,
    seconds: Annotated[float, typer.Option(help="How long to measure.")] = 20.0,
) -> None:
    """Images per second of decoding, cutting and degrading alone. While training, RUN/log.jsonl has "waiting"."""
    with reporting():
        from ..data.pairs import PairSource, Source
        from ..training.replay import loader_speed

        source = PairSource([Source.parse(t) for t in data or ()], [Source.parse(t) for t in pairs or ()])
        typer.echo(f"{loader_speed(source, size, workers, seconds):.1f} images/s of {size}x{size}, {workers} workers")
