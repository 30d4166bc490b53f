"""Frozen rollouts: what the later stages learn from."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from ..data.pairs import Pairs, seeded, to_model
from ..models import RestoreVAR
from .replay import Make, Sample
from .validation import Restore

#: Of the photos shown to the branch, the share whose tone is weaker or stronger than it was made, from LEAST_SHARE to
#: MOST_SHARE of it (never nothing, or no photo would be clean for sure); and the share of those that get a random one
#: besides: spreads of factor, curve and offset per colour and of the veil lifted, and of the factor in common.
DOUBTED, LEAST_SHARE, MOST_SHARE = 0.3, 0.5, 1.2
MISTAKEN = 0.08
MISTAKES = (*3 * (0.07,), *3 * (0.2,), *3 * (0.05,), 0.3)
MISTAKES_OF_LIGHT = 0.35


def rollout(model: RestoreVAR, degraded_B3HW: Tensor, scales: int | None = None) -> tuple[Tensor, Tensor]:
    """Frozen rollout from degraded images: (f_hat, hidden), as `restore` makes it, without stochastic depth."""
    training = model.transformer.training
    model.transformer.eval()
    with torch.no_grad():
        f_hat, hidden = model.generate(model.condition(degraded_B3HW), scales=scales)
    model.transformer.train(training)
    return f_hat, hidden


def rollout_samples(model: RestoreVAR, device: torch.device, images: bool) -> Make:
    """Pairs -> f_hat, hidden, the clean image's latent ("target"); with `images`, also the pairs themselves."""

    def make(pairs: Pairs) -> Sample:
        f_hat, hidden = rollout(model, to_model(pairs.degraded).to(device))
        target = model.vqvae.encode(to_model(pairs.clean).to(device))
        sample = {"f_hat": f_hat.float(), "hidden": hidden.bfloat16(), "target": target.float()}
        return sample | ({"clean": pairs.clean, "degraded": pairs.degraded} if images else {})

    return make


def refined_samples(model: RestoreVAR, device: torch.device, scales: int | None = None) -> Make:
    """Pairs -> the pairs themselves and what the fidelity branch is shown of whole photos, which parts do not tell.

    That is the refined latent of the degraded image after so many scales ("refined"), the image in its tone ("toned"),
    and that without veil ("lifted") where the branch looks at it.
    """

    branch = model.fidelity
    assert branch is not None, "this model has no fidelity branch"

    def make(pairs: Pairs) -> Sample:
        degraded = to_model(pairs.degraded).to(device)
        with torch.no_grad():
            refined = model.refine(*rollout(model, degraded, scales))
            shown = branch.show(degraded, partial(doubted, degraded_u8=pairs.degraded))
        sample = {"refined": refined.float(), "clean": pairs.clean, "degraded": pairs.degraded}
        sample["toned"] = shown.toned_B3HW.half()
        return sample if shown.lifted_B4HW is None else sample | {"lifted": shown.lifted_B4HW.half()}

    return make


def doubted(maps_B10hw: Tensor, degraded_u8: Tensor) -> Tensor:
    """The tone's maps as it makes them of photos that it was not trained on; which changes, the photo decides.

    It knows its training photos, and a U-Net that sees it right on all of them follows it in its every mistake, and
    forgets what it knew of haze itself (docs/log.md). So some are too weak or too strong, some quite wrong.
    """
    if degraded_u8.is_meta:  # costs are forecast: there is no photo to decide
        return maps_B10hw
    changed = maps_B10hw.clone()
    for maps_10hw, image in zip(changed, degraded_u8, strict=True):
        generator = seeded("doubt", int(image.sum()))
        kind, share = torch.rand(2, generator=generator).tolist()
        if kind < DOUBTED:
            maps_10hw.mul_(LEAST_SHARE + (MOST_SHARE - LEAST_SHARE) * share)
        if kind < MISTAKEN:
            wrong_10 = torch.randn(10, generator=generator) * torch.tensor(MISTAKES)
            wrong_10[:3] += MISTAKES_OF_LIGHT * torch.randn(1, generator=generator)
            maps_10hw.add_(wrong_10.to(maps_10hw.device)[:, None, None])
    return changed


def restoring(model: RestoreVAR, fidelity: float | None) -> Restore:
    """The whole path of the model in training, as a function of the degraded images."""

    def restore(degraded_B3HW: Tensor) -> Tensor:
        return model.decode(model.refine(*rollout(model, degraded_B3HW)), degraded_B3HW, fidelity)

    return restore
