"""Videos among the jobs. What they need is loaded when the first one comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import UserError
from ..pipeline import Restorer
from ..video import check_extra
from .jobs import Job, Writing
from .records import Record

if TYPE_CHECKING:
    from ..video.restoring import Pace

Watch = Callable[[Job, "Pace"], None]


def check_video(job: Job, writing: Writing) -> None:
    """Before its turn comes. Raises UserError if PyAV is missing, or the result cannot be written there."""
    try:
        check_extra()
    except UserError as error:
        raise UserError(f"{job.source}: {error}") from None
    from ..video.restoring import check_video_output

    check_video_output(job.target, writing.overwrite)


def run_video(
    job: Job,
    record: Record,
    restorer: Restorer,
    writing: Writing,
    progress: Callable[[Job, float], None],
    watch: Watch,
) -> None:
    """Restores a video and fills its record. Raises UserError."""
    from ..video.restoring import restore_video

    def tell(pace: Pace) -> None:
        progress(job, pace.share)
        watch(job, pace)

    outcome = restore_video(job.source, job.target, restorer, writing.video, writing.overwrite, tell)
    record.size = record.output_size = outcome.size
    record.frames, record.notes, record.settings = outcome.frames, outcome.notes, outcome.settings
    record.status = "restored"
