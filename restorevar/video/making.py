"""Test clips from photos: a camera moves over a photo, and each frame is degraded on its own.

Weather has one kind and one strength for the whole clip; what falls is drawn anew for each frame. Haze hangs in the
scene and moves with it. Each frame has a little noise of its own, as those of any sensor.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor

from ..data.degradations import DEGRADATIONS, low_light, rain, snow
from ..errors import UserError
from .camera import Pose, path, prepare, view

#: Of the noise of each frame, in levels of 255: a clean one's.
NOISE = 1.0
#: Differ from frame to frame: (image, strength, what stays, what is of the moment).
_OF_THE_MOMENT: dict[str, Callable[[Tensor, Tensor, Generator, Generator], Tensor]] = {
    "rain": rain,
    "snow": snow,
    "lowlight": low_light,
}
#: Belong to the scene: the photo is degraded before the camera moves.
_OF_THE_SCENE = ("haze",)
TASKS = ("haze", "rain", "snow", "lowlight", "clean")


@dataclass(frozen=True)
class Clip:
    """Degraded and clean frames of one camera path; each is made when it is asked for."""

    degraded_scene_3HW: Tensor
    clean_scene_3HW: Tensor
    poses: Sequence[Pose]
    size: tuple[int, int]  # height, width
    task: str
    strength: float
    seed: int

    def frames(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(degraded, clean), both (3, H, W) uint8, from the first to the last."""
        moment = Generator().manual_seed(self.seed + 1)
        for pose in self.poses:
            degraded = view(self.degraded_scene_3HW, pose, self.size)
            if self.task in _OF_THE_MOMENT:
                weather = Generator().manual_seed(self.seed)  # the same for every frame
                strength_B = torch.tensor([self.strength])
                degraded = _OF_THE_MOMENT[self.task](degraded[None], strength_B, weather, moment)[0]
            degraded = degraded + NOISE / 255 * torch.randn(degraded.shape, generator=moment)
            yield _eight_bit(degraded), _eight_bit(view(self.clean_scene_3HW, pose, self.size))


def make_clip(
    photo_3HW: Tensor, task: str, name: str, frames: int, size: tuple[int, int], strength: float = 0.6, seed: int = 0
) -> Clip:
    """A clip of `frames` frames of `size` (height, width) over a photo (3, H, W) of uint8.

    `name` enters the seed, so that each photo has its own path and weather. Raises UserError for an unknown task.
    """
    if task not in TASKS:
        raise UserError(f"unknown degradation '{task}' of a clip; choose from {', '.join(TASKS)}")
    if not 0 <= strength <= 1:
        raise UserError(f"strengths lie between 0 and 1, not {strength}")
    seed = zlib.crc32(f"{seed}/{task}/{name}".encode())
    scene, room = prepare(photo_3HW.float() / 255, size)
    degraded = scene
    if task in _OF_THE_SCENE:
        degraded = DEGRADATIONS[task](scene[None], torch.tensor([strength]), Generator().manual_seed(seed))[0]
    poses = path(frames, room, phase=zlib.crc32(name.encode()) / 2**32)
    return Clip(degraded, scene, poses, size, task, strength, seed)


def _eight_bit(frame_3HW: Tensor) -> Tensor:
    return frame_3HW.mul(255).round_().clamp_(0, 255).to(torch.uint8)


def clip_name(photo: Path, task: str) -> str:
    """The stem of a clip's files."""
    return f"{photo.stem}_{task}"
