"""Transformer stage: teacher forcing, cross-entropy over the tokens of all scales (paper section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.mixes import CLEAN
from ..data.pairs import Pairs, to_model
from ..models import RestoreVAR
from .losses import psnr, ssim
from .replay import Replay, Sample, Shapes
from .rollouts import restoring, rollout
from .trainer import Preview, Schedule, Setting, Stage
from .validation import preview, validation_images


@dataclass
class TransformerStage(Stage):
    """Predicts the clean image's tokens; the frozen VQVAE turns pairs into (condition, latent) in a pool.

    `scale_balance` a weighs a token of a scale of l tokens by l^-a. 0 is published: all tokens alike, so that the
    coarse scales, which decide the tone, are a hundredth of the loss. 1 gives every scale the same share.

    Against exposure bias (the model reads its own errors in a rollout, but never in training):
    `token_noise`   share of the teacher-forced tokens replaced at random;
    `self_rollout`  share of the samples for which the model reads its own rollout instead of the truth. Their loss,
                    times `correction`, is how far f_hat, with the mean code of the predicted distribution added, is
                    then from the true latent, at every scale alike: later scales learn to correct earlier ones.
                    Cross-entropy against the codes of what is missing was tried first, and diverged (docs/log.md).
    """

    schedule: Schedule
    share: float = 1.0
    shapes: Shapes = field(default_factory=lambda: {(256, 256): 1.0})
    scale_balance: float = 0.0
    label_smoothing: float = 0.0
    token_noise: float = 0.0
    self_rollout: float = 0.0
    correction: float = 4.0
    reuse: int = 4
    name: str = "transformer"

    def trainable(self, model: RestoreVAR) -> list[nn.Module | nn.Parameter]:
        return [model.transformer]

    def setup(self, model: RestoreVAR, setting: Setting) -> None:
        self.source, self.device = setting.source, setting.device
        model.transformer.checkpointing = setting.checkpointing

        def make(pairs: Pairs) -> Sample:
            condition = model.condition(to_model(pairs.degraded).to(self.device))
            latent = model.vqvae.encode(to_model(pairs.clean).to(self.device))
            return {"condition": condition.float(), "latent": latent.float()}

        self.replay: Replay = setting.replay(self, model, make, self.shapes, size=2048, reuse=self.reuse)

    def start(self, model: RestoreVAR) -> None:
        """A transformer that was never trained starts as the identity, where its architecture has the way for it."""
        if model.config.transformer.aligned_condition and not model.transformer.start_gain.any():
            model.start_as_identity()

    def losses(self, model: RestoreVAR, step: int, turn: int) -> dict[str, Tensor]:
        batch = {name: value.to(self.device) for name, value in self.replay.batch(step, turn).items()}
        condition, latent = batch["condition"], batch["latent"]
        bounds = model.config.scales.bounds((condition.shape[-2], condition.shape[-1]))
        own_B = batch["dice"][:, 0] < self.self_rollout
        read_BLC, target_BL = self._teacher(model, latent)
        f_hats: list[Tensor] = []
        if own_B.any():
            read_BLC[own_B], f_hats = self._own_rollout(model, condition[own_B], latent[own_B])
        logits_BLV, _ = model.transformer(read_BLC, condition)
        right_BL = (logits_BLV.argmax(-1) == target_BL).float()[~own_B]
        coarse, fine = bounds[(len(bounds) - 1) // 2][1], bounds[-1]
        loss_BL = self._cross_entropy(logits_BLV[~own_B], target_BL[~own_B])
        # Sums over the samples divided by all of them: the mean over processes is then that of one process.
        share = len(loss_BL) / len(own_B)
        cross_entropy = (loss_BL * self._token_weights(bounds).to(loss_BL)).mean() if share else logits_BLV.sum() * 0
        left = self._left_over(model, logits_BLV[own_B], latent[own_B], f_hats) if f_hats else logits_BLV.sum() * 0
        figures = {"accuracy_coarse": right_BL[:, :coarse].mean(), "accuracy_last": right_BL[:, fine[0] :].mean()}
        return {
            "loss": share * cross_entropy + (1 - share) * self.correction * left,
            "cross_entropy": cross_entropy,
            "left_over": left,
        } | (figures if share else {})

    def validate(self, model: RestoreVAR) -> dict[str, float]:
        """Free-running, not teacher-forced: high token accuracy can hide a bad rollout. Accuracy stands beside."""
        shape = next(iter(self.shapes))
        figures: dict[str, float] = {}
        psnrs, ssims, errors, right = [], [], [], []
        for task in self.source.validation_tasks():
            clean, degraded = validation_images(self.source, shape, task, 12, self.device)
            f_hat, _ = rollout(model, degraded)
            target = model.vqvae.encode(clean).float()
            restored = model.vqvae.decode(f_hat)
            figures[f"psnr_{task}"] = float(psnr(restored, clean).mean())
            errors.append(float((f_hat - target).square().mean() / target.var()))
            figures[f"latent_error_{task}"] = errors[-1]
            psnrs.append(figures[f"psnr_{task}"])
            ssims.append(float(ssim(restored, clean)))
            if task != CLEAN:
                right.append(self._accuracy(model, target, model.condition(degraded).float()))
        accuracy = torch.stack(right).mean(0)
        figures |= {f"accuracy_scale_{k + 1}": float(a) for k, a in enumerate(accuracy)}
        means = {"psnr": psnrs, "ssim": ssims, "latent_error": errors}
        return figures | {name: sum(values) / len(values) for name, values in means.items()}

    def score(self, figures: dict[str, float]) -> float:
        return -figures["latent_error"]

    def preview(self, model: RestoreVAR) -> Preview:
        return preview([restoring(model, 0.0)], self.source, next(iter(self.shapes)), self.device)

    def _teacher(self, model: RestoreVAR, latent_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """What the transformer reads and what it is to predict, from the truth: (B, L - l_0, C), (B, L)."""
        grid = (latent_BCHW.shape[-2], latent_BCHW.shape[-1])
        with torch.no_grad(), torch.autocast(latent_BCHW.device.type, enabled=False):
            quantizer = model.vqvae.quantizer
            tokens = quantizer.tokenize(latent_BCHW)
            seen = [self._noisy(t, model.config.vqvae.codebook_size) for t in tokens]
            return quantizer.teacher_forcing_input(seen, grid), torch.cat(tokens, 1)

    def _own_rollout(self, model: RestoreVAR, condition: Tensor, latent: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What the transformer reads in its own rollout, (B, L - l_0, C), and f_hat before each scale."""
        quantizer = model.vqvae.quantizer
        f_hats = [quantizer.zeros(len(latent), (latent.shape[-2], latent.shape[-1]))]
        training = model.transformer.training
        model.transformer.eval()
        with torch.no_grad():
            model.generate(condition, lambda event: f_hats.append(event.f_hat_BCHW.float()))
            with torch.autocast(latent.device.type, enabled=False):
                read = [quantizer.next_input(k, f_hat) for k, f_hat in enumerate(f_hats[:-1]) if k > 0]
        model.transformer.train(training)
        return torch.cat(read, 1), f_hats[:-1]

    def _left_over(self, model: RestoreVAR, logits_BLV: Tensor, latent: Tensor, f_hats: list[Tensor]) -> Tensor:
        """Squared distance of f_hat from the truth after each scale, mean over scales, as a share of the variance."""
        quantizer = model.vqvae.quantizer
        bounds = model.config.scales.bounds((latent.shape[-2], latent.shape[-1]))
        with torch.autocast(latent.device.type, enabled=False):
            codes_BLC = quantizer.expected_codes(logits_BLV)
            left_KB = torch.stack(
                [
                    (quantizer.accumulate_codes(k, f_hats[k], codes_BLC[:, a:b]) - latent).square().mean((1, 2, 3))
                    for k, (a, b) in enumerate(bounds)
                ]
            )
            return (left_KB / latent.var((1, 2, 3))).mean()

    def _cross_entropy(self, logits_BLV: Tensor, target_BL: Tensor) -> Tensor:
        """(B, L)."""
        return F.cross_entropy(
            logits_BLV.flatten(0, 1), target_BL.flatten(), reduction="none", label_smoothing=self.label_smoothing
        ).view(target_BL.shape)

    def _token_weights(self, bounds: list[tuple[int, int]]) -> Tensor:
        """(L,), of mean 1."""
        weights_L = torch.cat([torch.full((b - a,), float(b - a) ** -self.scale_balance) for a, b in bounds])
        return weights_L / weights_L.mean()

    def _accuracy(self, model: RestoreVAR, latent: Tensor, condition: Tensor) -> Tensor:
        """Teacher-forced accuracy per scale, (K,)."""
        grid = (latent.shape[-2], latent.shape[-1])
        with torch.autocast(latent.device.type, enabled=False):
            tokens = model.vqvae.quantizer.tokenize(latent)
            read = model.vqvae.quantizer.teacher_forcing_input(tokens, grid)
        logits_BLV, _ = model.transformer(read, condition)
        right_BL = (logits_BLV.argmax(-1) == torch.cat(tokens, 1)).float()
        return torch.stack([right_BL[:, a:b].mean() for a, b in model.config.scales.bounds(grid)])

    def _noisy(self, tokens_Bl: Tensor, codes: int) -> Tensor:
        if self.token_noise == 0:
            return tokens_Bl
        replace = torch.rand(tokens_Bl.shape, device=tokens_Bl.device) < self.token_noise
        return torch.where(replace, torch.randint_like(tokens_Bl, codes), tokens_Bl)
