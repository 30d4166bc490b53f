"""`restorevar analyze flicker`: how much videos flicker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .analyzing import analyze_app
from .common import one_line, reporting


@analyze_app.command("flicker")
def flicker(
    videos: Annotated[list[Path], typer.Argument(metavar="INPUT OUTPUT...", help="A video and its restored ones.")],
    truth: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The clean video, if there is one: adds PSNR and its figures.")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all figures.")] = None,
) -> None:
    """How much do videos flicker? Each frame against the one before it, moved to where it is now.

    The motion is known for clips of `restorevar degrade --video` (the JSON beside INPUT); else it is estimated. Needs
    the extra `video`.
    """
    with reporting():
        from dataclasses import asdict

        from ..data.manifest import check_place, write_json
        from ..video import check_extra

        check_extra()
        if json is not None:
            check_place(json)

        from ..video.flicker import known_motion, measure_flicker

        motion = known_motion(videos[0])
        all_videos = [*videos, *([truth] if truth else [])]
        found = measure_flicker(all_videos, motion, truth)
        typer.echo(f"motion {motion.name}, {found[0].frames} frames; levels of 255")
        for figures in found:
            against = "" if figures.psnr is None else f", {figures.psnr:.2f} dB to the truth"
            own = f"warping error {figures.warping:.2f}, coarse {figures.coarse:.2f}, "
            own += (
                f"temporal difference {figures.difference:.2f} ({figures.difference / found[0].difference:.2f} of it)"
            )
            typer.echo(one_line(f"{figures.path}: {own}{'' if figures.path == str(truth) else against}"))
        if json is not None:
            write_json({"motion": motion.name, "videos": [asdict(figures) for figures in found]}, json)
