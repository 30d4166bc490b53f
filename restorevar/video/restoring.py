"""A video in, the same video restored out, in constant memory, a segment at a time; an interrupted one goes on."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..errors import UserError
from ..images import Photo
from ..pipeline import Restorer
from .encoders import Encoding, choose_encoding
from .formats import CONTAINERS, HOLD_ROTATION
from .joining import join
from .options import VideoOptions
from .reading import Clip, Frame, open_clip
from .segments import Segments, key_of
from .temporal import Steadier
from .writing import Look, SegmentWriter

#: Frames that are read before they are asked for, and that may wait for the encoder.
AHEAD = 3
WAITING = 3
#: Enters the key of the segments; changes with what their frames are.
VERSION = 1

T = TypeVar("T")
_END: Any = object()


@dataclass(frozen=True)
class Pace:
    """How far a video is. `resumed`: frames of an earlier run; `seconds` of this one."""

    done: int
    total: int | None
    resumed: int
    seconds: float

    @property
    def share(self) -> float:
        return min(1.0, self.done / self.total) if self.total else 0.0

    @property
    def fps(self) -> float:
        return (self.done - self.resumed) / self.seconds if self.seconds > 0 else 0.0

    def __str__(self) -> str:
        of = f" of {self.total}" if self.total else ""
        return f"{self.done}{of} frames, {self.fps:.1f} fps"


@dataclass
class Outcome:
    """What became of a video. `resumed`: frames that an earlier run had restored. `notes`: lines for the user."""

    size: tuple[int, int]  # width, height as stored
    frames: int
    resumed: int
    settings: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def check_video_output(target: Path, overwrite: bool = False) -> None:
    """Before long work. Raises UserError for a place or a container that cannot be written."""
    if target.suffix.lower() not in CONTAINERS:
        raise UserError(f"{target}: is no kind of video that is written; one of {', '.join(CONTAINERS)}")
    if target.is_dir():
        raise UserError(f"{target}: is a folder")
    if not overwrite and target.exists():
        raise UserError(f"{target}: exists already and is not overwritten")
    folder = next(parent for parent in target.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"{target}: cannot be written: {folder} is not a folder that may be written to")


def restore_video(
    source: Path,
    target: Path,
    restorer: Restorer,
    options: VideoOptions | None = None,
    overwrite: bool = False,
    watch: Callable[[Pace], None] = lambda pace: None,
) -> Outcome:
    """Restores a video file. `watch` is told after each pass of the model how far it is.

    Whole segments stay in a hidden folder beside `target` until it is written; the next run with the same settings
    goes on after them. Raises UserError for what is no such video, or cannot be written.
    """
    options = options or VideoOptions()
    check_video_output(target, overwrite)
    with open_clip(source) as clip:
        encoding = choose_encoding(target, clip.pix_fmt, (clip.height, clip.width), options)
        if clip.turns and target.suffix.lower() not in HOLD_ROTATION:
            raise UserError(f"{target}: cannot hold that {source} is shown turned; one of {', '.join(HOLD_ROTATION)}")
        clip.notes += [f"{source}: {loss}" for loss in encoding.losses]
        settings = restorer.settings | {
            "codec": encoding.codec,
            "encoder": encoding.encoder,
            "pix_fmt": encoding.pix_fmt,
            "options": encoding.options,
            "temporal": options.temporal,
        }
        identity = {"version": VERSION, "model": restorer.sha256 or restorer.name, "segment": options.segment}
        segments = Segments.beside(target, key_of(source, settings | identity))
        segments.prepare()
        run = _Run(clip, restorer, encoding, segments, options, watch)
        total = run.restore()
        notes = join(clip, segments, target)
        segments.remove()
    settings |= restorer.settings  # afterwards, for it may have given way to lack of memory
    return Outcome((clip.width, clip.height), total, run.resumed, settings, [*clip.notes, *notes])


@dataclass
class _Run:
    """The way of one clip's frames into segments."""

    clip: Clip
    restorer: Restorer
    encoding: Encoding
    segments: Segments
    options: VideoOptions
    watch: Callable[[Pace], None]
    resumed: int = 0

    def restore(self) -> int:
        """All frames that are not in a segment yet; the number of all."""
        done = self.segments.finished()
        self.resumed = count = sum(len(self.segments.times(index)) for index in range(done))
        steadier = None
        if self.options.temporal != "off":
            steadier = Steadier(self.options.temporal, self.restorer.device)
            steadier.load(self.segments.state(done - 1) if done else {})
        start = time.perf_counter()
        frames = read_ahead(self.clip.read(), AHEAD + self.restorer.batch)
        try:
            for _ in islice(frames, count):  # decoding alone is quick
                pass
            while first := next(frames, None):
                rest = islice(frames, self.options.segment - 1)
                count += self._segment(done, _chain(first, rest), steadier, count, start)
                done += 1
        finally:
            frames.close()
        return count

    def _segment(
        self, index: int, frames: Iterator[Frame], steadier: Steadier | None, before: int, start: float
    ) -> int:
        """One segment, whole or not at all; the number of its frames. The encoder works in a thread of its own."""
        clip = self.clip
        look = Look(clip.width, clip.height, clip.rate, clip.colors, clip.aspect)
        writer = SegmentWriter(self.segments.media(index), self.encoding, look)
        done = 0
        try:
            with ThreadPoolExecutor(1) as encoder:
                waiting: deque[Future[None]] = deque()
                for group in self._groups(frames):
                    for frame, pixels in zip(group, self._restored(group, steadier), strict=True):
                        waiting.append(encoder.submit(writer.write, pixels, frame.pts, frame.duration))
                    while len(waiting) > WAITING:
                        waiting.popleft().result()
                    done += len(group)
                    self.watch(Pace(before + done, clip.frames, self.resumed, time.perf_counter() - start))
                while waiting:
                    waiting.popleft().result()
            writer.close()
        except BaseException:  # an interrupt from the keyboard too
            writer.discard()
            raise
        self.segments.finish(index, writer.times, {} if steadier is None else steadier.state())
        return done

    def _groups(self, frames: Iterator[Frame]) -> Iterator[list[Frame]]:
        """Frames that share a pass of the model."""
        turned = self.clip.turns % 2
        sides = (self.clip.width, self.clip.height) if turned else (self.clip.height, self.clip.width)
        while group := list(islice(frames, self.restorer.batch if self.restorer.share_a_pass(*sides) else 1)):
            yield group

    def _restored(self, group: list[Frame], steadier: Steadier | None) -> Iterator[np.ndarray]:
        """The frames' pixels, restored. The model sees them upright; they come back as they are stored."""
        turns = self.clip.turns
        photos = [Photo(np.ascontiguousarray(np.rot90(frame.pixels[..., :3], turns))) for frame in group]
        try:
            restored = self._restored_photos(photos)
        except UserError as error:
            raise UserError(f"{self.clip.path}: {error}") from None
        for frame, photo, result in zip(group, photos, restored, strict=True):
            rgb = result.rgb if steadier is None else steadier.steady(photo.rgb, result.rgb)
            rgb = np.rot90(rgb, -turns)
            yield np.concatenate([rgb, frame.pixels[..., 3:]], axis=2)

    def _restored_photos(self, photos: list[Photo]) -> list[Photo]:
        if len(photos) > 1:
            return self.restorer.restore_photos(photos)
        return [self.restorer.restore_photo(photo) for photo in photos]


def read_ahead(items: Iterator[T], depth: int) -> Generator[T, None, None]:
    """The same items, `depth` of them taken from the iterator, in a thread, before they are asked for."""
    with ThreadPoolExecutor(1) as reader:
        waiting = deque(reader.submit(next, items, _END) for _ in range(depth))
        try:
            while (item := waiting.popleft().result()) is not _END:
                waiting.append(reader.submit(next, items, _END))
                yield item
        finally:
            reader.shutdown(wait=True, cancel_futures=True)


def _chain(first: T, rest: Iterator[T]) -> Iterator[T]:
    yield first
    yield from rest
