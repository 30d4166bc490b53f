"""RestoreVAR: the parts put together. Reads like the paper's figure 3, top to bottom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .config import RestoreVARConfig
from .fidelity import FidelityBranch
from .refiner import Refiner, build_refiner
from .transformer import NextScaleTransformer
from .vqvae import VQVAE


@dataclass(frozen=True)
class ScaleEvent:
    """What `generate` reports after each scale; enough for previews, studies and validation."""

    scale: int
    scales: int
    tokens_Bl: Tensor
    logits_BlV: Tensor
    f_hat_BCHW: Tensor


OnScale = Callable[[ScaleEvent], None]


class RestoreVAR(nn.Module):
    """Restores a degraded image by predicting the token maps of the clean one.

    Images are (B, 3, Hpx, Wpx) in [-1, 1]; sides are multiples of `downsample`, and equal to `config.window` for
    models with learned positions (the published one).
    """

    def __init__(self, config: RestoreVARConfig):
        super().__init__()
        self.config = config
        channels = config.vqvae.latent_channels
        self.vqvae = VQVAE(config.vqvae, config.scales)
        self.transformer = NextScaleTransformer(config.transformer, config.scales, channels, config.vqvae.codebook_size)
        self.refiner: Refiner = build_refiner(config.refiner, config.scales, channels, config.transformer.width)
        self.fidelity = None if config.fidelity is None else FidelityBranch(config.fidelity, config.vqvae)

    @torch.inference_mode()
    def restore(
        self,
        degraded_B3HW: Tensor,
        fidelity: float | None = None,
        on_scale: OnScale | None = None,
        scales: int | None = None,
        maps_B10hw: Tensor | None = None,
    ) -> Tensor:
        """Restored image, same shape, in [-1, 1], float32.

        `fidelity` in [0, 1] weighs the fidelity branch; None takes the model's default; 0 is the paper's path.
        `scales` ends the rollout after so many, coarsest first, and leaves the rest to the refiner; None is all.
        `maps_B10hw` is the tone of parts of photos, of which more was seen (`look`); None: it is looked for in them.
        Raises ValueError for shapes that the model cannot take, and for a fidelity or scales that it does not have.
        """
        self.check(degraded_B3HW)
        condition = self.condition(degraded_B3HW)
        f_hat, hidden = self.generate(condition, on_scale, scales)
        refined = self.refine(f_hat, hidden)
        return self.decode(refined, degraded_B3HW, fidelity, maps_B10hw)

    @torch.inference_mode()
    def look(self, degraded_B3HW: Tensor) -> Tensor:
        """Maps (B, 10, h, w) of the tone that parts of photos are to have, in cells of any size, float32.

        Of a place the mean is to be taken of what is said by all parts that show it (mosaic.py). Raises ValueError for
        shapes that the model cannot take, and for a model without tone (`config.has_tone`).
        """
        self.check(degraded_B3HW)
        if self.fidelity is None or not self.config.has_tone:
            raise ValueError("this model has no tone, and no maps of it")
        return self.fidelity.look(degraded_B3HW)

    def condition(self, degraded_B3HW: Tensor) -> Tensor:
        """What the transformer is shown of the degraded image: (B, C, H, W), float32.

        The encoder's output, as published; or, with `config.condition` "discrete", the quantized latent.
        """
        if self.config.condition == "continuous":
            return self.vqvae.encode_condition(degraded_B3HW)
        latent_BCHW = self.vqvae.encode(degraded_B3HW).float()
        grid = (latent_BCHW.shape[-2], latent_BCHW.shape[-1])
        with torch.autocast(latent_BCHW.device.type, enabled=False):  # rounded distances choose other tokens
            return self.vqvae.quantizer.decode(self.vqvae.quantizer.tokenize(latent_BCHW), grid)

    def start_as_identity(self) -> None:
        """Let the untrained transformer repeat the tokens of its input (see `NextScaleTransformer`)."""
        quant_conv = self.vqvae.quant_conv if self.config.condition == "continuous" else None
        self.transformer.start_as_identity(quant_conv, self.vqvae.quantizer.codebook.weight)

    def generate(
        self, condition_BCHW: Tensor, on_scale: OnScale | None = None, scales: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Rollout, scale after scale. Returns the discrete latent (B, C, H, W) and hidden (B, L, D) of `scales`.

        Each scale adds its most probable codes, as published; or, with `config.rollout` "expected", the mean code
        under the predicted distribution.
        """
        count = self.scale_count(scales)
        quantizer = self.vqvae.quantizer
        rollout = self.transformer.begin(condition_BCHW)
        f_hat = quantizer.zeros(condition_BCHW.shape[0], rollout.grid)
        hidden = []
        for k in range(count):
            input_BlC = None if k == 0 else quantizer.next_input(k, f_hat)
            logits_BlV, hidden_BlD = self.transformer.step(k, input_BlC, rollout)
            tokens_Bl = logits_BlV.argmax(-1)
            if self.config.rollout == "expected":
                f_hat = quantizer.accumulate_codes(k, f_hat, quantizer.expected_codes(logits_BlV))
            else:
                f_hat = quantizer.accumulate(k, f_hat, tokens_Bl)
            hidden.append(hidden_BlD)
            if on_scale is not None:
                on_scale(ScaleEvent(k, count, tokens_Bl, logits_BlV, f_hat))
        return f_hat, torch.cat(hidden, dim=1)

    def refine(self, f_hat_BCHW: Tensor, hidden_BLD: Tensor) -> Tensor:
        """Discrete latent -> estimate of the clean image's continuous latent."""
        return self.refiner(f_hat_BCHW, hidden_BLD)

    def decode(
        self,
        latent_BCHW: Tensor,
        degraded_B3HW: Tensor,
        fidelity: float | None = None,
        maps_B10hw: Tensor | None = None,
    ) -> Tensor:
        """Latent -> image in [-1, 1], with the degraded image's detail where the model has a fidelity branch."""
        return self.decode_unclamped(latent_BCHW, degraded_B3HW, fidelity, maps_B10hw).clamp(-1, 1)

    def decode_unclamped(
        self,
        latent_BCHW: Tensor,
        degraded_B3HW: Tensor,
        fidelity: float | None = None,
        maps_B10hw: Tensor | None = None,
    ) -> Tensor:
        """As `decode`, with a gradient everywhere: for training."""
        weight = self.fidelity_weight(fidelity)
        if self.fidelity is None or weight == 0:
            return self.vqvae.decode_unclamped(latent_BCHW)
        return self.fidelity.restore(degraded_B3HW, latent_BCHW, weight, self.vqvae.decode_unclamped, maps_B10hw)

    @property
    def skips_decoder(self) -> bool:
        """Whether at the default W the fidelity branch makes the picture by itself."""
        return self.fidelity is not None and self.fidelity.needs_no_decoder(self.fidelity_weight(None))

    def fidelity_weight(self, fidelity: float | None) -> float:
        """The weight to use; raises ValueError for one outside [0, 1] or on a model without the branch."""
        if fidelity is None:
            return 0.0 if self.config.fidelity is None else self.config.fidelity.default_weight
        if not 0 <= fidelity <= 1:
            raise ValueError(f"fidelity is between 0 and 1, not {fidelity}")
        if fidelity > 0 and self.fidelity is None:
            raise ValueError("this model has no fidelity branch; leave fidelity out or set it to 0")
        return fidelity

    def scale_count(self, scales: int | None) -> int:
        """How many scales to generate; raises ValueError for fewer than one or more than there are."""
        most = len(self.config.scales)
        if scales is None:
            return most
        if not 1 <= scales <= most:
            raise ValueError(f"this model has 1 to {most} scales, not {scales}")
        if scales < most and self.config.refiner.kind == "diffusion":
            raise ValueError("a diffusion refiner reads the last scale; the rollout cannot end before it")
        return scales

    def check(self, degraded_B3HW: Tensor) -> None:
        """Raises ValueError for shapes that this model cannot take."""
        if degraded_B3HW.ndim != 4 or degraded_B3HW.shape[1] != 3:
            raise ValueError(f"expected images of shape (B, 3, H, W), not {tuple(degraded_B3HW.shape)}")
        height, width = degraded_B3HW.shape[-2:]
        unit, window = self.config.vqvae.downsample, self.config.window
        if not self.config.any_window and (height, width) != (window, window):
            raise ValueError(f"this model takes windows of {window}x{window} pixels, not {height}x{width}")
        if height % unit or width % unit or not height or not width:
            raise ValueError(f"window sides must be multiples of {unit} pixels, not {height}x{width}")

    def count_parameters(self) -> dict[str, int]:
        """Parameters per part."""
        return {name: sum(p.numel() for p in part.parameters()) for name, part in self.named_children()}
