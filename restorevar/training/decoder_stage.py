"""Decoder stage: the decoder learns continuous latents: L1 + SSIM + perceptual + PatchGAN (paper section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..data.pairs import seeded, to_model
from ..models import RestoreVAR
from .image_loss import ImageLoss
from .replay import Make, Replay, Sample, Shapes, die_below, stacked, unstacked
from .rollouts import restoring, rollout_samples
from .trainer import Schedule, Setting
from .validation import JudgedByGain, Restore


@dataclass
class OnRollouts(JudgedByGain[RestoreVAR]):
    """What this stage and the fidelity stage share: a pool of images with their rollouts, and cutting parts of them.

    Rollouts want windows that show a scene; the decoder works locally. So samples of `shapes` are rolled out whole, and
    each time one is used, another part of it is cut: many cheap steps from few rollouts. The side of the parts is one
    of `crop`, drawn for each step, or that of the window; of larger parts than the first there are fewer, with as many
    pixels together.
    """

    schedule: Schedule
    share: float = 1.0
    shapes: Shapes = field(default_factory=lambda: {(256, 256): 1.0})
    reuse: int = 3
    crop: tuple[int, ...] = ()  #: pixels; none: whole windows
    loss: ImageLoss = field(default_factory=lambda: ImageLoss(ssim=0.2))

    judged_at: ClassVar[float] = 0.0  #: the W of validation and previews

    def setup(self, model: RestoreVAR, setting: Setting) -> None:
        self.source, self.device = setting.source, setting.device
        self.judge = self.loss.build(model, setting)
        self.critic = self.judge.critic
        self.replay: Replay = setting.replay(self, model, self.samples(model), self.shapes, size=600, reuse=self.reuse)

    def samples(self, model: RestoreVAR) -> Make:
        """What the pool holds: images and latents."""
        return rollout_samples(model, self.device, images=True)

    def critic_loss(self, step: int) -> Tensor:
        return self.judge.critic_loss(step)

    def restore_by(self, model: RestoreVAR) -> Restore:
        return restoring(model, self.judged_at)

    def _batch(self, step: int, turn: int) -> Sample:
        """Whole windows: clean and degraded in [-1, 1], the rollout, the clean image's latent."""
        return self._on_device(self.replay.batch(step, turn))

    def _on_device(self, batch: Sample) -> Sample:
        batch = {name: values.to(self.device) for name, values in batch.items()}
        return batch | {name: to_model(batch[name]) for name in ("clean", "degraded")}

    def _cut(self, batch: Sample, refined_BCHW: Tensor, unit: int, step: int) -> Sample:
        """Parts of a batch of whole windows, as `_cut_rows` makes them."""
        whole = batch | {"refined": refined_BCHW}
        return self._cut_rows(unstacked(whole), unit, step) if self.crop else whole

    def _cut_rows(self, rows: list[Sample], unit: int, step: int) -> Sample:
        """The same random part of images and "refined" latent, another for each sample, on the grid of the latent."""
        names = [name for name in ("clean", "degraded", "toned", "lifted", "refined") if name in rows[0]]
        if not self.crop:
            return stacked([{name: row[name] for name in names} for row in rows])
        height, width = rows[0]["refined"].shape[-2:]
        side = self._side(step) // unit
        high, wide = min(side, height), min(side, width)
        count = max(1, round(len(rows) * (self.crop[0] // unit) ** 2 / (high * wide)))
        parts: list[Sample] = []
        for row in rows[:count]:
            _, down, across, _ = row["dice"].tolist()
            top, left = die_below(down, height - high + 1), die_below(across, width - wide + 1)
            part: Sample = {}
            for name in names:
                scale = 1 if name == "refined" else unit
                lines, columns = (slice(at * scale, (at + n) * scale) for at, n in ((top, high), (left, wide)))
                part[name] = row[name][:, lines, columns]
            parts.append(part)
        return stacked(parts)

    def _side(self, step: int) -> int:
        return self.crop[int(torch.randint(len(self.crop), (), generator=seeded(self.name, "crop", step)))]


@dataclass
class DecoderStage(OnRollouts):
    """On (clean image, its continuous latent) and, for a share, on refined rollouts. Encoder, quantizer frozen."""

    rollouts: float = 0.5  #: share of the samples decoded from refined rollouts rather than from true latents
    name: str = "decoder"

    def trainable(self, model: RestoreVAR) -> list[nn.Module | nn.Parameter]:
        return [model.vqvae.decoder, model.vqvae.post_quant_conv]

    def losses(self, model: RestoreVAR, step: int, turn: int) -> dict[str, Tensor]:
        batch = self._batch(step, turn)
        with torch.no_grad():
            refined = model.refine(batch["f_hat"], batch["hidden"])
            rolled_B = batch["dice"][:, 0] < self.rollouts
            latent = torch.where(rolled_B[:, None, None, None], refined, batch["target"])
        parts = self._cut(batch, latent, model.config.vqvae.downsample, step)
        output = model.vqvae.decode_unclamped(parts["refined"])
        judged = self.judge(output, parts["clean"], model.vqvae.decoder.conv_out.weight, step)
        return {"loss": judged.pop("image"), **judged}
