"""Controls (paper figures 14 and 24): how much is restored without the restored latent?"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..models import RestoreVAR
from ..models.restorevar import OnScale
from ..pipeline import Restorer

#: What stands where the restored latent would: nothing, or the latent of the degraded image itself.
Latent = Literal["zeros", "degraded"]


class LatentControl(nn.Module):
    """The model with its transformer and refiner taken out. What it still restores, decoder and branch do alone."""

    def __init__(self, model: RestoreVAR, latent: Latent):
        """Raises UserError for another word than "zeros" or "degraded", and for models without a latent."""
        super().__init__()
        if latent not in ("zeros", "degraded"):
            raise UserError(f"the control latent is zeros or degraded, not {latent!r}")
        if not isinstance(model, RestoreVAR):
            raise UserError("this model has no latent to replace")
        self.model, self.latent, self.config = model, latent, model.config

    @torch.inference_mode()
    def restore(self, degraded_B3HW: Tensor, fidelity: float | None = None, on_scale: OnScale | None = None) -> Tensor:
        """As `RestoreVAR.restore`; there are no scales to tell of."""
        latent = self.model.vqvae.encode(degraded_B3HW)
        if self.latent == "zeros":
            latent = torch.zeros_like(latent)
        return self.model.decode(latent, degraded_B3HW, fidelity)


def control(restorer: Restorer, latent: str) -> None:
    """Put the control in place of the restorer's model; its name tells. Raises UserError as `LatentControl`."""
    restorer.model = LatentControl(restorer.model, latent)  # type: ignore[assignment, arg-type]
    restorer.name = f"{restorer.name}, latent: {latent}"
