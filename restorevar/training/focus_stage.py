"""Focus stage, ours: how much whole photos are sharpened (models/focus.py).

What sharpening leaves of the error is told by the spectrum of the photo and by what it has in common with that of what
is missing. So of each photo a few thousand numbers are kept and no pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor, nn

from ..data.pairs import Pairs, to_model
from ..models import RestoreVAR
from ..models.fidelity import FidelityBranch
from ..models.focus import FocusNet, luma, responses
from ..models.spectrum import ANGLES, TILE, spectrum, tiles
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
    reuse: int = 200  #: steps are cheap, photos are not; each is seen in four ways
    name: str = "focus"

    def trainable(self, model: RestoreVAR) -> list[nn.Module | nn.Parameter]:
        return [_focus(model)]

    def setup(self, model: RestoreVAR, setting: Setting) -> None:
        assert model.fidelity is not None
        setting = setting.drawn_by(self.name, "focus")
        self.source, self.device = setting.source, setting.device
        make = problems(model.fidelity, self.device)
        self.replay: Replay = setting.replay(self, model, make, self.shapes, size=1 << 14, reuse=self.reuse)

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
    seen_BFA, found = problem["seen"], {}
    angle_A = torch.arange(ANGLES, device=device)
    seen_BFA = torch.where(mirror_B[:, None, None], seen_BFA[..., -angle_A % ANGLES], seen_BFA)
    seen_BFA = torch.where(transpose_B[:, None, None], seen_BFA[..., (ANGLES // 2 - angle_A) % ANGLES], seen_BFA)
    for name in ("power", "common"):
        waves_BN = problem[name].flatten(1)
        for wanted_B, order_N in zip((mirror_B, transpose_B), _orders(), strict=True):
            waves_BN = torch.where(wanted_B[:, None], waves_BN[:, order_N.to(device)], waves_BN)
        found[name] = waves_BN.view_as(problem[name])
    return problem | found | {"seen": seen_BFA}


@cache
def _orders() -> tuple[Tensor, Tensor]:
    """Where the waves (64 * 33) of the mirrored and of the transposed tile come from."""
    stored = TILE // 2 + 1

    def at(down: Tensor, across: Tensor) -> Tensor:
        """A wave and its mirror image by both axes are one; only those with few cycles across are stored."""
        other = across >= stored
        down, across = torch.where(other, -down % TILE, down), torch.where(other, -across % TILE, across)
        return (down * stored + across).flatten()

    with torch.device("cpu"):
        down, across = torch.meshgrid(torch.arange(TILE), torch.arange(stored), indexing="ij")
        return at(-down % TILE, across), at(across, down)


def gained(problem: Sample, gains_BFA: Tensor) -> Tensor:
    """dB (B) that sharpening with the gains brings."""
    passed_BN = gains_BFA.flatten(1) @ responses().to(gains_BFA.device)
    power_BN, common_BN = problem["power"].flatten(1), problem["common"].flatten(1)
    left_BN = passed_BN.square() * power_BN - 2 * passed_BN * common_BN
    # Of two waves that are each other's mirror image one is stored; those with 0 or 32 cycles across both are.
    counted_W = torch.full((TILE // 2 + 1,), 2.0, device=gains_BFA.device)
    counted_W[[0, -1]] = 1.0
    left_B = problem["wrong"] + (left_BN.unflatten(1, (TILE, -1)) * counted_W).sum((1, 2))
    return 10 * ((problem["wrong"] + NO_ERROR) / (left_B.clamp(min=0) + NO_ERROR)).log10()


def _focus(model: RestoreVAR) -> FocusNet:
    assert model.fidelity is not None and model.fidelity.focus is not None, "this model sets no focus"
    return model.fidelity.focus


def problems(branch: FidelityBranch, device: torch.device) -> Make:
    """Pairs -> what the network sees of each, and what sharpening would leave of the error."""

    def make(pairs: Pairs) -> Sample:
        clean, degraded = (to_model(images).to(device) for images in (pairs.clean, pairs.degraded))
        toned = branch.set_tone(degraded)
        blurred_B = torch.tensor(["blur" in task.split("+") for task in pairs.tasks], device=device)
        missing = torch.where(blurred_B[:, None, None, None], clean, toned) - toned
        has, lacks = (_waves(image) for image in (toned, missing))
        return {
            "seen": spectrum(luma(toned)),
            "power": _shares(has.real.square() + has.imag.square()),
            "common": _shares(has.real * lacks.real + has.imag * lacks.imag),
            "wrong": missing.square().flatten(1).mean(1),
        }

    return make


def _waves(image_B3HW: Tensor) -> Tensor:
    """(B, colours and tiles, 64, 33), complex: transforms of the tiles of each image."""
    tiles_NTSS = tiles(image_B3HW.float().flatten(0, 1))
    return torch.fft.rfft2(tiles_NTSS).unflatten(0, (len(image_B3HW), -1)).flatten(1, 2)


def _shares(products_BNSW: Tensor) -> Tensor:
    """(B, 64, 33): of each wave its part of the mean over the pixels."""
    return products_BNSW.mean(1) / TILE**2
