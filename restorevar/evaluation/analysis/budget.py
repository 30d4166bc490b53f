"""The error budget: how many dB each stage of the model costs, from the autoencoder's ceiling to the finished photo.

Stages follow each other, so that each one's cost is what is lost from the stage before to it; what is gained is a
negative cost. All but the last two are decoded by the decoder alone (W = 0).

    input         the degraded photo, for comparison
    autoencoder   the clean photo's continuous latent: what the decoder can give at best
    quantized     its token maps
    forced        every scale predicted from the true scales before it (teacher forcing)
    rollout       every scale predicted from those predicted before it
    refined       the same, refined: the paper's path
    branch        with the fidelity branch at its weight: what a user gets of a small photo
    windows       the same in windows of half the photo's side, as of a large photo
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...images import from_tensor
from ...models import RestoreVAR
from ...pipeline import MIN_SIDE, Restorer
from ..metrics import find_metric
from .pyramid import pyramid_of_latent
from .views import View, decode_plain, latent_model, psnr

#: In the order in which they cost.
STAGES: Mapping[str, str] = {
    "autoencoder": "the clean photo's continuous latent, decoded: the ceiling",
    "quantized": "its token maps: quantization",
    "forced": "tokens predicted from true scales: wrong tokens",
    "rollout": "tokens predicted from predicted scales: their mistakes carried on",
    "refined": "refiner: the paper's path, W = 0",
    "branch": "decoder with the fidelity branch at its weight",
    "windows": "in windows of half the photo's side",
}
#: Beside the chain: what else could be, with the branch.
ASIDE: Mapping[str, str] = {
    "true tokens refined": "the refiner on the true tokens, W = 0",
    "full branch": "the rollout refined, W = 1",
    "true latent": "the clean photo's continuous latent with the fidelity branch at its weight",
}


@dataclass(frozen=True)
class Score:
    """dB to the clean photo, before rounding, and GMSD of luma."""

    psnr: float
    gmsd: float


@dataclass(frozen=True)
class Budget:
    """Of one pair.

    scores      of "input", STAGES and ASIDE; a model without branch, refiner or windows of any size lacks theirs
    prefixes    PSNR of the unrefined rollout by how many of the coarsest scales are the true ones, from none to all
    right       share of the tokens that are the true ones, by scale: predicted from true scales, and from its own
    restored    (3, H, W) in [-1, 1], what a user gets
    """

    scores: Mapping[str, Score]
    prefixes: Sequence[float]
    right: Mapping[str, Sequence[float]]
    restored: Tensor


@torch.inference_mode()
def account(restorer: Restorer, clean: View, degraded: View) -> Budget:
    """All stages of one pair, at the restorer's weight of the fidelity branch."""
    model, image = latent_model(restorer), degraded.image_B3HW
    photo, gmsd = clean.photo_3HW, find_metric("gmsd").start("cpu")
    target, condition = model.vqvae.encode(clean.image_B3HW).float(), model.condition(image)
    truth = pyramid_of_latent(model, target)
    true_tokens, partial = [t.flatten(1) for t in truth.tokens], torch.stack(truth.parts).cumsum(0)
    rollouts = [Rollout(model, condition, partial[:n]) for n in range(len(truth))]
    forced, forced_tokens, forced_hidden = _teacher_forced(model, condition, true_tokens, partial)
    rollout, *others = rollouts
    refined = model.refine(rollout.latent, rollout.hidden)
    latents = {"autoencoder": target, "quantized": truth.latent, "forced": forced, "rollout": rollout.latent}
    if model.config.refiner.kind != "none":
        latents |= {"refined": refined, "true tokens refined": model.refine(truth.latent, forced_hidden)}
    images = {"input": degraded.photo_3HW}
    images |= {name: clean.crop(decode_plain(model, latent)) for name, latent in latents.items()}
    restored = images["refined" if "refined" in images else "rollout"]
    if restorer.fidelity:
        restored = images["branch"] = clean.crop(model.decode(refined, image, restorer.fidelity))
        images["true latent"] = clean.crop(model.decode(target, image, restorer.fidelity))
        full = restorer.fidelity == 1
        images["full branch"] = restored if full else clean.crop(model.decode(refined, image, 1.0))
    if model.config.any_window:
        images["windows"] = _in_windows(restorer, degraded)
    scores = {name: Score(psnr(found, photo), gmsd(_floats(found), _floats(photo))) for name, found in images.items()}
    between = [psnr(clean.crop(decode_plain(model, other.latent)), photo) for other in others]
    right = {
        name: [float((a == b).float().mean()) for a, b in zip(tokens, true_tokens, strict=True)]
        for name, tokens in {"forced": forced_tokens, "rollout": rollout.tokens}.items()
    }
    return Budget(scores, [scores["rollout"].psnr, *between, scores["quantized"].psnr], right, restored)


class Rollout:
    """`RestoreVAR.generate` with the first scales given: their partial latents, each (1, C, H, W)."""

    def __init__(self, model: RestoreVAR, condition_BCHW: Tensor, given: Sequence[Tensor] | Tensor):
        quantizer, steps = model.vqvae.quantizer, model.transformer.begin(condition_BCHW)
        latent = quantizer.zeros(1, steps.grid)
        self.tokens: list[Tensor] = []
        hidden = []
        for k in range(len(model.config.scales)):
            input_BlC = None if k == 0 else quantizer.next_input(k, latent)
            logits_BlV, hidden_BlD = model.transformer.step(k, input_BlC, steps)
            latent = given[k] if k < len(given) else latent + _predicted(model, k, logits_BlV, latent)
            self.tokens.append(logits_BlV.argmax(-1))
            hidden.append(hidden_BlD)
        self.latent, self.hidden = latent, torch.cat(hidden, 1)


def _predicted(model: RestoreVAR, k: int, logits_BlV: Tensor, latent_BCHW: Tensor) -> Tensor:
    """What scale k adds to the latent by the model's own rule: the most probable codes, or the mean ones."""
    quantizer = model.vqvae.quantizer
    expected = model.config.rollout == "expected"
    codes = quantizer.expected_codes(logits_BlV) if expected else quantizer.codebook(logits_BlV.argmax(-1))
    return quantizer.contribution(k, codes, (latent_BCHW.shape[-2], latent_BCHW.shape[-1]))


def _teacher_forced(
    model: RestoreVAR, condition_BCHW: Tensor, tokens: Sequence[Tensor], partial: Tensor
) -> tuple[Tensor, list[Tensor], Tensor]:
    """(latent, tokens, hidden): every scale predicted from the true ones before it; they are added up."""
    grid = (condition_BCHW.shape[-2], condition_BCHW.shape[-1])
    teacher = model.vqvae.quantizer.teacher_forcing_input(tokens, grid)
    logits_BLV, hidden_BLD = model.transformer(teacher, condition_BCHW)
    scales = [logits_BLV[:, begin:end] for begin, end in model.config.scales.bounds(grid)]
    parts = [_predicted(model, k, logits, partial[0]) for k, logits in enumerate(scales)]
    return torch.stack(parts).sum(0), [logits.argmax(-1) for logits in scales], hidden_BLD


def _in_windows(restorer: Restorer, degraded: View) -> Tensor:
    """The photo restored as a large one is, in windows of half its longer side; (3, H, W) in [-1, 1]."""
    small = copy.copy(restorer)
    half = -(-max(degraded.height, degraded.width) // 2)
    small.tile = -(-max(half, MIN_SIDE) // restorer.unit) * restorer.unit
    pixels = small.restore_floats(from_tensor(degraded.photo_3HW))
    return torch.from_numpy(pixels).permute(2, 0, 1) * 2 - 1


def _floats(image_3HW: Tensor) -> np.ndarray:
    return ((image_3HW.clamp(-1, 1) + 1) / 2).permute(1, 2, 0).double().numpy()
