"""Frozen rollouts: what the later stages learn from."""

from __future__ import annotations

import torch
from torch import Tensor

from ..data.pairs import Pairs, to_model
from ..models import RestoreVAR
from .replay import Make, Sample
from .validation import Restore


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
            shown = branch.show(degraded)
        sample = {"refined": refined.float(), "clean": pairs.clean, "degraded": pairs.degraded}
        sample["toned"] = shown.toned_B3HW.half()
        return sample if shown.lifted_B4HW is None else sample | {"lifted": shown.lifted_B4HW.half()}

    return make


def restoring(model: RestoreVAR, fidelity: float | None) -> Restore:
    """The whole path of the model in training, as a function of the degraded images."""

    def restore(degraded_B3HW: Tensor) -> Tensor:
        return model.decode(model.refine(*rollout(model, degraded_B3HW)), degraded_B3HW, fidelity)

    return restore
