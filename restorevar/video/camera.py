"""A camera that moves over a photo: its path is known exactly, so flicker can be told from motion.

Frame t shows at the pixel p (from the middle of the frame, in pixels) the photo at `centre_t + zoom_t * p`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

#: The photo is as many times larger than the frame: the way there is to go.
ROOM = 1.7
#: The closest the camera comes: photo pixels per pixel of the frame; 1 is the farthest.
CLOSEST = 0.78
#: Frames from one turning point of the path back to it: across, down, zoom. No common period, so no frame comes twice.
PERIODS = (209, 263, 173)


@dataclass(frozen=True)
class Pose:
    """Where the camera looks in one frame, in pixels of the photo from its middle."""

    x: float
    y: float
    zoom: float


def path(frames: int, room: tuple[float, float], phase: float = 0.0) -> list[Pose]:
    """Slow pans and zooms, a pose a frame. `room`: how far the middle may go to each side, across and down."""
    across, down, zoom = (
        [math.sin(2 * math.pi * (t / period + phase * (i + 1))) for t in range(frames)]
        for i, period in enumerate(PERIODS)
    )
    middle, swing = (1 + CLOSEST) / 2, (1 - CLOSEST) / 2
    return [Pose(room[0] * x, room[1] * y, middle + swing * z) for x, y, z in zip(across, down, zoom, strict=True)]


def prepare(photo_3HW: Tensor, size: tuple[int, int]) -> tuple[Tensor, tuple[float, float]]:
    """The photo (floats) shrunken to `ROOM` times a frame of `size` (height, width), and the room in it.

    A photo too small for that is enlarged. What is left over of the longer side gives more room.
    """
    height, width = photo_3HW.shape[1:]
    factor = ROOM * max(size[0] / height, size[1] / width)
    target = [math.ceil(height * factor), math.ceil(width * factor)]
    small = F.interpolate(photo_3HW[None], target, mode="bicubic", antialias=True)[0].clamp(0, 1)
    room = ((target[1] - size[1]) / 2 - 2, (target[0] - size[0]) / 2 - 2)  # two pixels for the interpolation
    return small, (max(0.0, room[0]), max(0.0, room[1]))


def view(photo_3HW: Tensor, pose: Pose, size: tuple[int, int]) -> Tensor:
    """What the camera sees: (3, height, width) of the frame, bicubic."""
    y_H, x_W = (torch.arange(side) - (side - 1) / 2 for side in size)
    return _sample(photo_3HW, pose.x + pose.zoom * x_W, pose.y + pose.zoom * y_H)


def carried(frame_3HW: Tensor, before: Pose, now: Pose) -> tuple[Tensor, Tensor]:
    """The frame before as it would look now, and where it shows at all: (3, H, W), bool (H, W)."""
    height, width = frame_3HW.shape[1:]
    y_H, x_W = (torch.arange(side) - (side - 1) / 2 for side in (height, width))
    x_W = (now.x - before.x + now.zoom * x_W) / before.zoom
    y_H = (now.y - before.y + now.zoom * y_H) / before.zoom
    seen = (y_H.abs() <= (height - 3) / 2)[:, None] & (x_W.abs() <= (width - 3) / 2)
    return _sample(frame_3HW, x_W, y_H), seen


def _sample(image_3HW: Tensor, x_W: Tensor, y_H: Tensor) -> Tensor:
    """The image at places counted from its middle."""
    height, width = image_3HW.shape[1:]
    grid_HW2 = torch.stack(torch.meshgrid(2 * x_W / width, 2 * y_H / height, indexing="xy"), dim=-1)
    return F.grid_sample(image_3HW[None], grid_HW2[None], "bicubic", "border", align_corners=False)[0].clamp(0, 1)


def as_rows(poses: Sequence[Pose]) -> list[list[float]]:
    """For JSON: [x, y, zoom] a frame."""
    return [[pose.x, pose.y, pose.zoom] for pose in poses]


def from_rows(rows: Sequence[Sequence[float]]) -> list[Pose]:
    """`as_rows` undone. Raises ValueError or TypeError for what is none."""
    return [Pose(*map(float, row)) for row in rows]
