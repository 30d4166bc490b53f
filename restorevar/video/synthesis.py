"""Photos on disk -> test clips on disk: degraded, clean, and the path of the camera."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch

from ..data.manifest import write_json
from ..data.photos import find_photos, load_rgb
from ..errors import UserError
from .camera import as_rows
from .colors import Colors
from .encoders import Encoding
from .making import TASKS, Clip, clip_name, make_clip
from .writing import Look, SegmentWriter

#: Frames a second.
RATE = Fraction(25)
#: sRGB as RGB: lossless, so that all flicker is that of the frames.
_LOSSLESS = Encoding("ffv1", "ffv1", "bgr0", {"level": "3"})
_COLORS = Colors(primaries=1, trc=13, matrix=0, range=2)


@dataclass(frozen=True)
class MadeClip:
    """One written clip."""

    task: str
    input: Path
    target: Path


def make_clips(
    inputs: Iterable[Path],
    out: Path,
    frames: int,
    size: tuple[int, int],
    tasks: Sequence[str] = (),
    seed: int = 0,
    strength: float = 0.6,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[MadeClip]:
    """Write OUT/<task>/input/NAME.mkv, OUT/<task>/target/NAME.mkv and the camera's path, NAME.json, beside the first.

    `size`: height, width. Lossless; the same seed gives the same frames. Raises UserError.
    """
    photos = [file for path in inputs for file in (find_photos(path) if path.is_dir() else [path])]
    if not photos:
        raise UserError("no photographs given")
    if frames < 2 or min(size) < 16:
        raise UserError("a clip has at least two frames of 16x16 pixels")
    made = []
    jobs = [(photo, task) for photo in photos for task in (tasks or TASKS)]
    for number, (photo, task) in enumerate(jobs):
        clip = make_clip(load_rgb(photo), task, photo.stem, frames, size, strength, seed)
        name = f"{clip_name(photo, task)}.mkv"
        pair = MadeClip(task, out / task / "input" / name, out / task / "target" / name)
        done = number * frames
        _write(clip, pair, lambda count, done=done: progress(done + count, len(jobs) * frames))  # type: ignore[misc]
        facts = {"camera": as_rows(clip.poses), "task": task, "strength": strength, "seed": seed}
        write_json(facts, pair.input.with_suffix(".json"))
        made.append(pair)
    return made


def _write(clip: Clip, pair: MadeClip, progress: Callable[[int], None]) -> None:
    """Both files under a temporary name, then moved."""
    look = Look(clip.size[1], clip.size[0], RATE, _COLORS)
    places = (pair.input, pair.target)
    parts = [path.with_name(f".{path.name}.part") for path in places]
    for path in places:
        path.parent.mkdir(parents=True, exist_ok=True)
    writers = [SegmentWriter(part, _LOSSLESS, look) for part in parts]
    try:
        for index, pictures in enumerate(clip.frames()):
            for writer, picture in zip(writers, pictures, strict=True):
                writer.write(picture.permute(1, 2, 0).to(torch.int32).mul(257).numpy().astype("uint16"), index, 1)
            progress(index + 1)
        for writer, part, path in zip(writers, parts, places, strict=True):
            writer.close()
            part.replace(path)
    except BaseException:
        for writer, part in zip(writers, parts, strict=True):
            writer.discard()
            part.unlink(missing_ok=True)
        raise
