"""How much a video flickers: what changes from frame to frame although the scene does not.

    warping error       each frame against the one before, moved to where it is now: root mean square, in levels of 255
    coarse              the same of means over cells: flicker of the tone
    temporal difference mean absolute difference between frames, motion included: to be compared with the input's

The motion is that of the camera, where the clip was made here and its path is known (camera.py); else it is estimated
once, from the frames of one video, and used for all. Frames are read side by side; two of each are held.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError, reading
from . import camera
from .motion import box, flow_between, warped
from .reading import open_clip
from .temporal import same_scene

#: Cells of the coarse measure along the longer side.
CELLS = 12
#: Estimated motion counts where going there and back ends within so many pixels of the start.
THERE_AND_BACK = 1.0


@dataclass(frozen=True)
class Flicker:
    """One video's figures, in levels of 255. `psnr`: mean over the frames, against the truth, if there is one."""

    path: str
    frames: int
    warping: float
    coarse: float
    difference: float
    psnr: float | None = None


@dataclass(frozen=True)
class Motion:
    """How to move a frame to where it is in the next one: a path that is known, or flow from the guiding frames."""

    poses: Sequence[camera.Pose] | None = None

    @property
    def name(self) -> str:
        return "estimated" if self.poses is None else "of the camera"


class _Sums:
    """What is added up of one video."""

    def __init__(self) -> None:
        self.warping = self.coarse = self.difference = self.psnr = 0.0
        self.before: Tensor | None = None


def known_motion(video: Path) -> Motion:
    """The camera's path from the JSON file beside a clip made here, else motion to be estimated. Raises UserError."""
    file = video.with_suffix(".json")
    if not file.exists():
        return Motion()
    with reading(file):
        text = file.read_text(encoding="utf-8")
    try:
        return Motion(camera.from_rows(json.loads(text)["camera"]))
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file}: holds no camera path of a clip") from error


def measure_flicker(videos: Sequence[Path], motion: Motion, truth: Path | None = None) -> list[Flicker]:
    """The figures of each video. Raises UserError if they differ in size, or cannot be read.

    The frames guide the motion's estimate: of the truth if there is one, else of the first video. Only as many frames
    are measured as all have, and none across a change of scene.
    """
    sums = [_Sums() for _ in videos]
    guide_before: Tensor | None = None
    frames = pairs = 0
    with ExitStack() as stack:
        sources = [_frames(stack, path) for path in (*videos, *([truth] if truth else ()))]
        for shown in zip(*sources, strict=False):
            if len({tuple(frame.shape) for frame in shown}) > 1:
                raise UserError(f"{videos[0]}: has frames of another size than the others")
            guide = shown[-1] if truth else shown[0]
            known = _moved_by(motion, guide_before, guide, frames)
            for each, frame in zip(sums, shown, strict=False):
                if truth:
                    each.psnr += _psnr(frame, shown[-1])
                if known is not None and each.before is not None:
                    _add(each, frame, *known)
                each.before = frame
            pairs += known is not None
            guide_before = guide
            frames += 1
    if not pairs:
        raise UserError(f"{videos[0]}: has no two frames of one scene")
    return [
        Flicker(
            str(path),
            frames,
            (each.warping / pairs) ** 0.5,
            (each.coarse / pairs) ** 0.5,
            each.difference / pairs,
            each.psnr / frames if truth else None,
        )
        for path, each in zip(videos, sums, strict=True)
    ]


def _frames(stack: ExitStack, path: Path) -> Iterator[Tensor]:
    """(3, H, W) in [0, 255]."""
    clip = stack.enter_context(open_clip(path))
    return (_tensor(frame.pixels) for frame in clip.read())


def _tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.moveaxis(pixels[..., :3], -1, 0).astype(np.float32)).div_(257)


def _moved_by(motion: Motion, before: Tensor | None, now: Tensor, index: int) -> tuple[object, Tensor] | None:
    """What moves a frame on: the two poses, or a flow; and (H, W) where that is known. None: there is no telling."""
    if before is None:
        return None
    if motion.poses is not None:
        if index >= len(motion.poses):
            return None
        poses = motion.poses[index - 1], motion.poses[index]
        return poses, camera.carried(now, *poses)[1]
    before, now = before / 255, now / 255
    flow = flow_between(before, now)
    if not same_scene(warped(before, flow), now):
        return None
    back = flow_between(now, before)
    error = (flow + warped(back, flow)).norm(dim=0)
    smooth = box((error < THERE_AND_BACK).float()[None, None], 1)[0, 0] > 0.99
    return (flow, smooth) if bool(smooth.any()) else None


def _add(sums: _Sums, now: Tensor, way: object, seen: Tensor) -> None:
    assert sums.before is not None
    if isinstance(way, Tensor):
        moved = warped(sums.before, way, "bicubic").clamp(0, 255)
    else:
        moved = camera.carried(sums.before / 255, *way)[0] * 255  # type: ignore[misc]
    error = (moved - now) * seen
    sums.warping += float((error**2).sum() / (3 * seen.sum()))
    cell = max(1, round(max(now.shape[-2:]) / CELLS))
    means, share = (F.avg_pool2d(x[None], cell) for x in (error, seen.float()[None]))
    whole = (share > 0.5).expand_as(means)
    if bool(whole.any()):
        sums.coarse += float(((means / share.clamp(min=0.5))[whole] ** 2).mean())
    sums.difference += float((now - sums.before).abs().mean())


def _psnr(frame: Tensor, truth: Tensor) -> float:
    return float(10 * torch.log10(255**2 / ((frame - truth) ** 2).mean().clamp(min=1e-6)))
