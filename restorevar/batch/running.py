"""Reading, restoring and writing of many photos, each while the others go on."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from ..diagnosis.report import Diagnosis
from ..errors import UserError
from ..errors import writing as naming
from ..images import Photo, check_output, read_photo, write_photo
from ..pipeline import Restorer
from ..video import is_video_path
from .jobs import Job, Writing, is_done
from .records import Record
from .transient import is_transient
from .videos import Watch, check_video, run_video

#: Restored photos that may wait for the disk before the next one is restored.
WAITING = 2

Progress = Callable[[Job, float], None]
Look = Callable[[Photo], Diagnosis]


@dataclass
class _Task:
    """A job on its way. Without a photo it has ended: skipped, or failed; or it is a video, of which no more is held.

    left_alone   the photo needs nothing, it is not restored
    copied       nor is its file written anew: it keeps its format
    """

    job: Job
    record: Record
    photo: Photo | None = None
    left_alone: bool = False
    copied: bool = False
    video: bool = False


def run(
    jobs: Iterable[Job],
    restorer: Restorer,
    writing: Writing,
    progress: Progress = lambda job, share: None,
    look: Look | None = None,
    watch: Watch = lambda job, pace: None,
) -> Iterator[Record]:
    """Restores job after job and yields what became of each, in their order. Nothing but an interrupt stops it.

    While one photo is restored, the next is read and the one before written. Small photos of one size share a pass
    of the model, up to `restorer.batch`. Outputs that exist are skipped unless `writing.overwrite`. `progress` is
    told the share of a job done. `look` is asked about each photo: one that needs nothing is left alone, and its file
    copied byte for byte, unless it is to have another format. Videos are restored frame by frame (videos.py), in the
    place of a photo; `watch` is told how far each is.
    """
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        unfinished: deque[Future[_Task]] = deque()
        for group in _groups(_read_ahead(jobs, restorer, writing, look, reader), restorer):
            try:
                if group[0].video:
                    with _noting(group[0].record):
                        run_video(group[0].job, group[0].record, restorer, writing, progress, watch)
                else:
                    _restore(group, restorer, progress)
            except KeyboardInterrupt:  # those before are done, and told of
                yield from (future.result().record for future in unfinished)
                raise
            unfinished.extend(writer.submit(_write, task, writing) for task in group)
            while unfinished and (unfinished[0].done() or len(unfinished) > WAITING):
                yield unfinished.popleft().result().record
        while unfinished:
            yield unfinished.popleft().result().record


def _read_ahead(
    jobs: Iterable[Job], restorer: Restorer, writing: Writing, look: Look | None, reader: ThreadPoolExecutor
) -> Iterator[_Task]:
    """The jobs with their photos; one more is read than has been asked for."""
    ahead: deque[Future[_Task]] = deque()
    for job in jobs:
        record = Record(str(job.source), str(job.target), model=restorer.name, sha256=restorer.sha256)
        ahead.append(reader.submit(_read, _Task(job, record), writing, look))
        if len(ahead) > 1:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


def _groups(tasks: Iterable[_Task], restorer: Restorer) -> Iterator[list[_Task]]:
    """Tasks that come one after the other and share a pass of the model; others are alone."""
    group: list[_Task] = []
    for task in tasks:
        if group and not (len(group) < restorer.batch and _fit_together(group[-1], task, restorer)):
            yield group
            group = []
        group.append(task)
        if restorer.batch == 1:  # nothing to wait for
            yield group
            group = []
    if group:
        yield group


def _fit_together(one: _Task, other: _Task, restorer: Restorer) -> bool:
    if one.photo is None or other.photo is None or one.left_alone or other.left_alone:
        return False
    return one.photo.rgb.shape == other.photo.rgb.shape and restorer.share_a_pass(*one.photo.rgb.shape[:2])


# ---------------------------------------------------------------------------------------- the three stations


def _read(task: _Task, writing: Writing, look: Look | None) -> _Task:
    """Also asks whether the result can be written at all, and whether anything is to be done, before it is done."""
    job, record = task.job, task.record
    with _noting(record):
        if is_done(job, writing):
            record.status = "skipped"
            return task
        if is_video_path(job.source):
            check_video(job, writing)
            task.video = True
            return task
        photo = read_photo(job.source)
        record.size = _size(photo)
        format = check_output(job.target, photo, writing.format, writing.quality, writing.overwrite)
        if look is not None:
            diagnosis = look(photo)
            record.diagnosis = diagnosis.as_json()
            task.left_alone = diagnosis.needs_nothing
            task.copied = task.left_alone and format == photo.format
        task.photo = photo
    return task


def _restore(group: list[_Task], restorer: Restorer, progress: Progress) -> None:
    """Puts the restored photos in the place of the read ones; together if that goes well, else one by one."""
    photos = [task.photo for task in group if task.photo is not None]
    if len(photos) > 1:
        start = time.perf_counter()
        try:
            restored = restorer.restore_photos(photos)
        except Exception:  # of one of them; which, and what it is, comes out below
            pass
        else:
            for task, photo in zip(group, restored, strict=True):
                task.photo = photo
                task.record.settings = restorer.settings
                task.record.seconds += (time.perf_counter() - start) / len(group)
                progress(task.job, 1.0)
            return
    for task in group:
        _restore_one(task, restorer, progress)


def _restore_one(task: _Task, restorer: Restorer, progress: Progress) -> None:
    if task.left_alone:
        return
    photo, task.photo = task.photo, None
    if photo is not None:
        with _noting(task.record):
            try:
                task.photo = restorer.restore_photo(photo, lambda share: progress(task.job, share))
            except UserError as error:
                raise UserError(f"{task.job.source}: {error}") from None
    task.record.settings = restorer.settings  # afterwards, for it may have given way to lack of memory


def _write(task: _Task, writing: Writing) -> _Task:
    photo, task.photo, record = task.photo, None, task.record
    if photo is not None:
        with _noting(record):
            if task.copied:
                _copy(task.job)
            else:
                write_photo(task.job.target, photo, writing.format, writing.quality, writing.overwrite)
            record.output_size = _size(photo)
            record.status = "untouched" if task.left_alone else "restored"
    record.seconds = round(record.seconds, 3)
    return task


def _copy(job: Job) -> None:
    """The file as it is, whole or not at all."""
    temporary = job.target.parent / f".restorevar-{uuid.uuid4().hex}.part"
    with naming(job.target):
        job.target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(job.source, temporary)
            os.replace(temporary, job.target)
        except BaseException:  # an interrupt from the keyboard too
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def _noting(record: Record) -> Iterator[None]:
    """The time that it took, and a failure of whatever kind: the other files are not to suffer."""
    start = time.perf_counter()
    try:
        yield
    except UserError as error:
        record.error, record.transient = str(error), is_transient(error)
    except MemoryError:
        record.error = f"{record.input}: needs more memory than there is"
    except Exception as error:
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        record.error, record.transient = f"{record.input}: failed unexpectedly ({cause})", True
    finally:
        record.seconds += time.perf_counter() - start


def _size(photo: Photo) -> tuple[int, int]:
    return photo.rgb.shape[1], photo.rgb.shape[0]
