"""Focus stage, ours: how much whole photos are sharpened (models/focus.py).

What sharpening with given shares leaves of the error is a quadratic form in the shares. So of each photo a few dozen
numbers are kept and no pixels, and a step looks at more than a hundred photos in milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from ..data.mixes import MIXES
from ..data.pairs import Pairs, to_model
from ..models import RestoreVAR
from ..models.fidelity import FidelityBranch
from ..models.focus import ANGLES, DETAILS, DIRECTIONS, SHARES, FocusNet, sharpeners, statistics
from .replay import Make, Replay, Sample, Shapes
from .trainer import Schedule, Setting
from .validation import JudgedByGain, Restore

#: An error below that of 44 dB, images in [-1, 1], counts as none.
NO_ERROR = 4 * 10**-4.4
#: A dB lost counts as so many gained.
HARM = 2.0


@dataclass
class FocusStage(JudgedByGain[RestoreVAR]):
    """The focus alone. Photos that are not blurred are to stay as their tone has left them.

    Whatever else is wrong with them: more contrast in every detail would bring a hazy photo nearer to its truth, too,
    and sharpen those that are not hazy.
    """

    schedule: Schedule
    share: float = 1.0
    shapes: Shapes = field(default_factory=lambda: {(256, 256): 0.6, (384, 384): 0.4})
    reuse: int = 400  #: steps are nearly free, photos are not; each is seen in four ways
    name: str = "focus"

    def trainable(self, model: RestoreVAR) -> list[nn.Module | nn.Parameter]:
        return [_focus(model)]

    def setup(self, model: RestoreVAR, setting: Setting) -> None:
        assert model.fidelity is not None
        self.source, self.device = setting.source.drawn_by(MIXES["focus"]), setting.device
        make = problems(model.fidelity, self.device)
        setting = replace(setting, source=self.source)
        self.replay: Replay = setting.replay(self, model, make, self.shapes, size=1 << 16, reuse=self.reuse)

    def losses(self, model: RestoreVAR, step: int, turn: int) -> dict[str, Tensor]:
        batch = {name: values.to(self.device) for name, values in self.replay.batch(step, turn).items()}
        batch = turned(batch, mirror_B=batch["dice"][:, 0] < 0.5, transpose_B=batch["dice"][:, 1] < 0.5)
        gain_B = gained(batch, _focus(model)(batch["seen"]))
        blurred_B = batch["wrong"] > 0
        loss = -(gain_B.clamp(min=0) + HARM * gain_B.clamp(max=0)).mean() / 10
        return {"loss": loss, "gain": gain_B.mean(), "harm": (gain_B * ~blurred_B).sum() / len(gain_B)}

    def restore_by(self, model: RestoreVAR) -> Restore:
        assert model.fidelity is not None
        branch = model.fidelity

        def restore(degraded_B3HW: Tensor) -> Tensor:
            toned = branch.set_tone(degraded_B3HW)
            return branch.sharpened(toned, toned).clamp(-1, 1)

        return restore


def turned(problem: Sample, mirror_B: Tensor, transpose_B: Tensor) -> Sample:
    """The same problem for the mirrored and then transposed photo, without its pixels."""
    device = mirror_B.device
    seen, square, cross = problem["seen"], problem["square"], problem["cross"]
    mixed_K = torch.arange(SHARES, device=device) % DIRECTIONS == 2
    sign_BK = torch.where(mirror_B[:, None] & mixed_K, -1.0, 1.0)
    square, cross = square * sign_BK[:, :, None] * sign_BK[:, None], cross * sign_BK
    order_BK = torch.where(transpose_B[:, None], _swapped(SHARES, device), torch.arange(SHARES, device=device))
    square = square.gather(1, order_BK[:, :, None].expand_as(square)).gather(2, order_BK[:, None].expand_as(square))
    details, waves = seen[:, :DETAILS], seen[:, DETAILS:].unflatten(1, (-1, ANGLES))
    details = torch.where(transpose_B[:, None], details[:, _swapped(DETAILS, device)], details)
    angle_A = torch.arange(ANGLES, device=device)
    waves = torch.where(mirror_B[:, None, None], waves[:, :, -angle_A % ANGLES], waves)
    waves = torch.where(transpose_B[:, None, None], waves[:, :, (ANGLES // 2 - angle_A) % ANGLES], waves)
    seen = torch.cat([details, waves.flatten(1)], dim=1)
    return problem | {"seen": seen, "square": square, "cross": cross.gather(1, order_BK)}


def _swapped(count: int, device: torch.device) -> Tensor:
    """Numbers below `count`, across and down exchanged in each triple of directions."""
    return torch.arange(count, device=device).view(-1, DIRECTIONS)[:, [1, 0, 2]].flatten()


def gained(problem: Sample, shares_BK: Tensor) -> Tensor:
    """dB (B) that sharpening with the shares brings."""
    square_B = (shares_BK[:, :, None] * problem["square"] * shares_BK[:, None]).sum((1, 2))
    left_B = square_B - 2 * (shares_BK * problem["cross"]).sum(1) + problem["wrong"]
    return 10 * ((problem["wrong"] + NO_ERROR) / (left_B.clamp(min=0) + NO_ERROR)).log10()


def _focus(model: RestoreVAR) -> FocusNet:
    assert model.fidelity is not None and model.fidelity.focus is not None, "this model sets no focus"
    return model.fidelity.focus


def problems(branch: FidelityBranch, device: torch.device) -> Make:
    """Pairs -> what the network sees of each, and the parts of the error as a quadratic form in the shares."""

    def make(pairs: Pairs) -> Sample:
        clean, degraded = (to_model(images).to(device) for images in (pairs.clean, pairs.degraded))
        toned = branch.set_tone(degraded)
        blurred_B = torch.tensor(["blur" in task.split("+") for task in pairs.tasks], device=device)
        wanted = torch.where(blurred_B[:, None, None, None], clean, toned)
        bands = torch.stack(list(sharpeners(toned)), dim=1).flatten(2)
        missing = (wanted - toned).flatten(1)
        pixels = missing.shape[1]
        with torch.autocast(device.type, enabled=False):
            square, cross = bands @ bands.mT / pixels, (bands @ missing[..., None])[..., 0] / pixels
        return {"seen": statistics(toned), "square": square, "cross": cross, "wrong": missing.square().mean(1)}

    return make
