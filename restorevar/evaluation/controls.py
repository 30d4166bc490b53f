"""Controls (paper figures 14 and 24): how much is restored without the restored latent?"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..models import RestoreVAR
from ..models.restorevar import OnScale
from ..pipeline import Restorer

#: What stands where the restored latent would: the degraded image's token maps through the refiner, which is given the
#: hidden states of the rollout (figure 14); nothing; or the latent of the degraded image itself.
Latent = Literal["degraded-refined", "zeros", "degraded"]


class LatentControl(nn.Module):
    """The model with its transformer and refiner taken out. What it still restores, decoder and branch do alone.

    With "degraded-refined" the refiner stays, and does it with them.
    """

    def __init__(self, model: RestoreVAR, latent: Latent):
        """Raises UserError for another word than those of `Latent`, and for models without a latent."""
        super().__init__()
        if latent not in get_args(Latent):
            raise UserError(f"the control latent is degraded-refined, zeros or degraded, not {latent!r}")
        if not isinstance(model, RestoreVAR):
            raise UserError("this model has no latent to replace")
        self.model, self.latent, self.config = model, latent, model.config

    @torch.inference_mode()
    def restore(
        self,
        degraded_B3HW: Tensor,
        fidelity: float | None = None,
        on_scale: OnScale | None = None,
        scales: int | None = None,
    ) -> Tensor:
        """As `RestoreVAR.restore`; there are no scales to tell of, and only the refiner's input depends on them."""
        if self.latent == "degraded-refined":
            latent = self._refined(degraded_B3HW, scales)
        else:
            latent = self.model.vqvae.encode(degraded_B3HW)
        if self.latent == "zeros":
            latent = torch.zeros_like(latent)
        return self.model.decode(latent, degraded_B3HW, fidelity)

    def _refined(self, degraded_B3HW: Tensor, scales: int | None) -> Tensor:
        _, hidden_BLD = self.model.generate(self.model.condition(degraded_B3HW), scales=scales)
        quantizer, latent = self.model.vqvae.quantizer, self.model.vqvae.encode(degraded_B3HW).float()
        grid = (latent.shape[-2], latent.shape[-1])
        return self.model.refine(quantizer.decode(quantizer.tokenize(latent), grid), hidden_BLD)


def control(restorer: Restorer, latent: str) -> None:
    """Put the control in place of the restorer's model; its name tells. Raises UserError as `LatentControl`."""
    restorer.model = LatentControl(restorer.model, latent)  # type: ignore[assignment, arg-type]
    restorer.name = f"{restorer.name}, latent: {latent}"
