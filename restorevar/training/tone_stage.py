"""Tone stage, ours: light and veil of whole photos, from small views of many of them (models/tone.py)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..data.pairs import Pairs, seeded, to_model
from ..models import RestoreVAR
from ..models.tone import RANKS, SIDES, ToneNet, apply_tone, darkest
from ..models.veil import lift_veil
from .image_loss import ImageLoss
from .losses import mean_gain
from .replay import Make, Replay, Sample, Shapes, die_below
from .trainer import Schedule, Setting
from .validation import JudgedByGain, Restore

#: The smallest part of a view, per side, that a step may look at.
LEAST_PART = 0.7


@dataclass
class ToneStage(JudgedByGain[RestoreVAR]):
    """The tone alone. Windows are degraded at their size, or rain would be no rain, and shrunken for good then.

    Every step looks at another part of the views, in another size, mirrored or not: a few hundred photographs are soon
    known by heart (docs/log.md).
    """

    schedule: Schedule
    share: float = 1.0
    shapes: Shapes = field(default_factory=lambda: {(256, 256): 0.8, (384, 384): 0.2})
    reuse: int = 4
    loss: ImageLoss = field(default_factory=lambda: ImageLoss(l1=0.5, psnr=0.01, psnr_start=300))
    name: str = "tone"

    def trainable(self, model: RestoreVAR) -> list[nn.Module | nn.Parameter]:
        return [_tone(model)]

    def setup(self, model: RestoreVAR, setting: Setting) -> None:
        self.source, self.device = setting.source, setting.device
        self.judge = self.loss.build(model, setting)
        self.critic = self.judge.critic
        make = _views(_tone(model), self.device)
        self.replay: Replay = setting.replay(self, model, make, self.shapes, size=4096, reuse=self.reuse)

    def losses(self, model: RestoreVAR, step: int, turn: int) -> dict[str, Tensor]:
        batch = self.replay.batch(step, turn)
        views = [batch[name].to(self.device).float() for name in ("clean", "degraded", "lifted")]
        tone = _tone(model)
        dice_5 = torch.rand(5, generator=seeded(self.source.seed, self.name, "glimpse", step, turn))
        clean, degraded, lifted = glimpses(tone, views, dice_5)
        ends = with_others(batch["darkest"].to(self.device), batch["dice"].to(self.device))
        toned = apply_tone(degraded, lifted, tone(degraded, lifted, ends))
        judged = self.judge(toned, clean, tone.maps.weight, step)
        return {"loss": judged.pop("image"), "gain": mean_gain(toned, degraded, clean), **judged}

    def critic_loss(self, step: int) -> Tensor:
        return self.judge.critic_loss(step)

    def restore_by(self, model: RestoreVAR) -> Restore:
        assert model.fidelity is not None
        set_tone = model.fidelity.set_tone
        return lambda degraded: set_tone(degraded).clamp(-1, 1)


def glimpses(tone: ToneNet, views: list[Tensor], dice_5: Tensor) -> list[Tensor]:
    """The same part of each of the views (B, C, h, w), in one of the sizes of SIDES, mirrored or not; by five dice."""
    height, width = views[0].shape[-2:]
    size, share, down, right, mirror = dice_5.tolist()
    longest = SIDES[die_below(size, len(SIDES))]
    least = max(LEAST_PART, longest / max(SIDES))  # or the part would be smaller than the size drawn
    high, wide = (round(side * (least + (1 - least) * share)) for side in (height, width))
    top, left = die_below(down, height - high + 1), die_below(right, width - wide + 1)
    found = [tone.view(view[..., top : top + high, left : left + wide], longest) for view in views]
    return [view.flip(-1) for view in found] if mirror < 0.5 else found


def with_others(darkest_BE: Tensor, dice_B4: Tensor) -> Tensor:
    """The darkest cells (B, 5), by dice (B, 4) in a fourth of the photos as if something black were near.

    In the fog that is made for training all things are in the fog; in real fog a car may be before it.
    """
    few = torch.arange(len(RANKS), device=darkest_BE.device) < len(RANKS) // 2 + 1
    return torch.where(few & (dice_B4[:, :1] < 0.25), (darkest_BE + 1) * dice_B4[:, 1:2] - 1, darkest_BE)


def _tone(model: RestoreVAR) -> ToneNet:
    assert model.fidelity is not None and model.fidelity.tone is not None, "this model sets no tone"
    return model.fidelity.tone


def _views(tone: ToneNet, device: torch.device) -> Make:
    """Pairs -> small views of the clean and the degraded image and of that without veil; the darkest cells."""

    def make(pairs: Pairs) -> Sample:
        clean, degraded = (to_model(images).to(device) for images in (pairs.clean, pairs.degraded))
        views = {"clean": clean, "degraded": degraded, "lifted": lift_veil(degraded)}
        small = {name: tone.view(image, max(SIDES)).half() for name, image in views.items()}
        return small | {"darkest": darkest(degraded)}

    return make
