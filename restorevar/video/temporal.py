"""Steadier frames: what the model adds is held over time, along the motion, until the scene changes.

Each frame is restored on its own, so two things flicker: the tone that the model guesses for the whole frame, and the
detail it makes of noise, drops and flakes. Both are averaged recursively with what came before, moved to where it is
now. Causal, and one frame of memory. What the frame before does not explain, for something else moved there, is
taken from the frame itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from ..images import from_tensor, to_tensor
from .motion import box, flow_between, warped

#: Tone is what is left of a frame this many cells long; as for the windows of a large photo (pipeline.TONE_REACH).
CELLS = 24
#: Share of a frame's own tone; the rest is held.
TONE = 0.5
#: The most that is taken from the frame before.
MOST = 0.8
#: Noise, in parts of full scale, at which half of that is taken: where nothing flickers, averaging would only blur.
CALM = 0.003
#: A difference that is this many times the noise (and `FLOOR`) is of another thing than the frame before shows.
TIMES_NOISE = 4.0
FLOOR = 0.012
#: Half the window over which frames are compared: well above the noise, below things that move.
WINDOW = 2
#: `strong`: half the window, the difference that counts as whole, and the shares of the window from which on less, and
#: nothing, is taken from the frame before. Drops and flakes are outvoted by what is around them.
WIDE, WHOLE, SOME, MANY = 6, 0.12, 0.45, 0.8
#: Frames that agree less than this in their coarse brightness belong to different scenes.
SAME_SCENE = 0.5
_COARSE = 32


@dataclass
class Held:
    """What is remembered of the frames so far."""

    output_3HW: Tensor  # the frame before as it was written, in [0, 1]
    tone_3hw: Tensor  # the change of tone that is held


class Steadier:
    """Frames in the order in which they are shown. `mode`: "steady" or "strong".

    "strong" also takes away what shows in a single frame only: rain and snow, but also small things that move fast.
    """

    def __init__(self, mode: str, device: torch.device | str = "cpu"):
        self.mode, self.device = mode, torch.device(device)
        self.held: Held | None = None
        self.cuts = 0

    @torch.inference_mode()
    def steady(self, degraded: np.ndarray, restored: np.ndarray) -> np.ndarray:
        """The next frame, steadied. Both [H, W, 3] of uint16; so is the result."""
        degraded_3HW, restored_3HW = self._tensor(degraded), self._tensor(restored)
        size = restored_3HW.shape[-2:]
        tone_3hw = _tone(restored_3HW - degraded_3HW)
        steady_3HW = restored_3HW
        if self.held is not None and self.held.output_3HW.shape[-2:] == size:
            flow_2HW = flow_between(self.held.output_3HW, restored_3HW)
            moved_3HW = warped(self.held.output_3HW, flow_2HW, "bicubic").clamp(0, 1)
            if same_scene(moved_3HW, restored_3HW):
                flow_2hw = F.interpolate(flow_2HW[None], tone_3hw.shape[-2:], mode="area")[0]
                scale = tone_3hw.shape[-1] / size[1], tone_3hw.shape[-2] / size[0]
                flow_2hw = flow_2hw * torch.tensor(scale, device=self.device)[:, None, None]
                own_3hw = tone_3hw
                tone_3hw = torch.lerp(warped(self.held.tone_3hw, flow_2hw), own_3hw, TONE)
                steady_3HW = restored_3HW + _enlarged(tone_3hw - own_3hw, size)
                change_3HW = moved_3HW - steady_3HW
                steady_3HW = steady_3HW + self._share(change_3HW) * change_3HW
            else:
                self.cuts += 1
        written = from_tensor(steady_3HW * 2 - 1, np.uint16)
        self.held = Held(self._tensor(written), tone_3hw)
        return written

    def _share(self, change_3HW: Tensor) -> Tensor:
        """(1, H, W) in [0, 1]: how much is taken from the frame before, by how well it explains this one."""
        detail_3HW = change_3HW - _enlarged(_tone(change_3HW), change_3HW.shape[-2:])
        noise = float(detail_3HW.abs().mean(0).median())
        most = MOST * noise / (noise + CALM)
        size_11HW = change_3HW.abs().mean(0)[None, None]
        if self.mode == "strong":
            off_1HW = box((size_11HW / WHOLE).clamp(max=1), WIDE)[0]
            return most * (1 - (off_1HW - SOME) / (MANY - SOME)).clamp(0, 1)
        return most * torch.exp(-((box(size_11HW, WINDOW)[0] / (TIMES_NOISE * noise + FLOOR)) ** 2))

    def state(self) -> dict[str, np.ndarray]:
        """What is remembered, exactly, to be kept with a segment."""
        if self.held is None:
            return {}
        output = from_tensor(self.held.output_3HW * 2 - 1, np.uint16)
        return {"output": output, "tone": self.held.tone_3hw.cpu().numpy()}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """`state` undone; an empty one forgets all. Raises UserError for what is none."""
        if not state:
            self.held = None
            return
        try:
            self.held = Held(self._tensor(state["output"]), torch.from_numpy(state["tone"]).to(self.device))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError("the state of an interrupted video is damaged; remove its folder to begin anew") from error

    def _tensor(self, pixels: np.ndarray) -> Tensor:
        return to_tensor(np.ascontiguousarray(pixels)).to(self.device).add_(1).div_(2)


def same_scene(before_3HW: Tensor, now_3HW: Tensor) -> bool:
    """Whether the coarse brightness of two frames goes together, however bright each is."""
    height, width = now_3HW.shape[-2:]
    shrink = max(1.0, max(height, width) / _COARSE)
    size = (max(2, round(height / shrink)), max(2, round(width / shrink)))
    coarse = [F.interpolate(x.mean(0)[None, None], size, mode="area").flatten() for x in (before_3HW, now_3HW)]
    before, now = (values - values.mean() for values in coarse)
    spread = before.norm() * now.norm()
    if float(spread) < 1e-6 * len(now):  # nothing to see in one of them
        return bool((coarse[0] - coarse[1]).abs().mean() < 0.1)
    return bool((before * now).sum() / spread >= SAME_SCENE)


def _tone(change_3HW: Tensor) -> Tensor:
    height, width = change_3HW.shape[-2:]
    cell = max(1, round(max(height, width) / CELLS))
    size = (max(1, round(height / cell)), max(1, round(width / cell)))
    return F.interpolate(change_3HW[None], size, mode="area")[0]


def _enlarged(tone_3hw: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(tone_3hw[None], tuple(size), mode="bilinear", align_corners=False)[0]
