"""VQVAE: image <-> latent <-> token maps."""

from __future__ import annotations

from torch import Tensor, nn

from .autoencoder import Decoder, Encoder, Inject
from .config import ScaleSchedule, VQVAEConfig
from .quantizer import MultiScaleQuantizer


class VQVAE(nn.Module):
    """Images are (B, 3, H*s, W*s) in [-1, 1]; latents (B, C, H, W) float32; s = config.downsample.

    Encoder and decoder compute in the dtype of their weights; the quantizer's arithmetic stays in float32.
    """

    def __init__(self, config: VQVAEConfig, scales: ScaleSchedule):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(config.latent_channels, config.latent_channels, 3, padding=1)
        self.post_quant_conv = nn.Conv2d(config.latent_channels, config.latent_channels, 3, padding=1)
        self.quantizer = MultiScaleQuantizer(config, scales)

    def encode_condition(self, image_B3HW: Tensor) -> Tensor:
        """The latent before `quant_conv`: what the transformer is conditioned on."""
        return self.encoder(image_B3HW.to(self.encoder.conv_in.weight.dtype)).float()

    def encode(self, image_B3HW: Tensor) -> Tensor:
        """The continuous latent that the quantizer and the refiner work with."""
        return self.quant_conv(self.encode_condition(image_B3HW))

    def tokenize(self, image_B3HW: Tensor) -> list[Tensor]:
        """Image -> one (B, l) int64 token map per scale."""
        return self.quantizer.tokenize(self.encode(image_B3HW))

    def decode(self, latent_BCHW: Tensor, inject: Inject | None = None) -> Tensor:
        """Latent -> image, clamped to [-1, 1]."""
        return self.decode_unclamped(latent_BCHW, inject).clamp(-1, 1)

    def decode_unclamped(self, latent_BCHW: Tensor, inject: Inject | None = None) -> Tensor:
        """As `decode`, with a gradient everywhere: for training."""
        h = self.post_quant_conv(latent_BCHW.to(self.post_quant_conv.weight.dtype))
        return self.decoder(h.to(self.decoder.conv_in.weight.dtype), inject).float()
