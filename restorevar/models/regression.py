"""The yardstick: a network that regresses the clean image directly, of the size of `compact`.

NAFNet (nafnet.py). What next-scale prediction is worth shows beside it, trained on the same pairs for as long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .nafnet import NAFUNet, counts_for


@dataclass(frozen=True)
class RegressionConfig:
    """A U-Net of NAFBlocks. `width` channels at the finest level, twice as many at each coarser one.

    `encoder` and `decoder` count the blocks per level, finest first; the decoder's last number also serves the levels
    after it. `middle` counts those at the coarsest resolution, below the levels. `patch` folds a patch x patch square
    of pixels into channels before the first level, as in the VQVAE.
    The defaults are NAFNet's for SIDD (width 32: 2, 2, 4, 8 blocks, 12, 2, 2, 2, 2) from its second level on, with two
    blocks less in the middle: the size of `compact`.
    """

    width: int = 64
    encoder: tuple[int, ...] = (2, 4, 8)
    middle: int = 11
    decoder: tuple[int, ...] = (2,)
    patch: int = 2

    def __post_init__(self) -> None:
        if self.width < 1 or self.patch < 1 or self.middle < 0:
            raise ValueError("a regression network needs a width and a patch of 1 or more, and no negative counts")
        if not 1 <= len(self.decoder) <= len(self.encoder):
            raise ValueError(f"the decoder has no more levels than the encoder, not {self.decoder} for {self.encoder}")
        if min(*self.encoder, *self.decoder) < 0:
            raise ValueError(f"no negative counts of blocks, not {self.encoder} and {self.decoder}")

    @property
    def downsample(self) -> int:
        """Window sides are multiples of this many pixels."""
        return self.patch * 2 ** len(self.encoder)

    @property
    def window(self) -> int:
        """Side in pixels; there is no native window, this is the one of the models to be compared with."""
        return 512

    @property
    def any_window(self) -> bool:
        """Convolutions have no table of positions."""
        return True

    @property
    def has_tone(self) -> bool:
        """One network does all."""
        return False

    @property
    def features_per_pixel(self) -> float:
        """Numbers per pixel in one feature map of the finest level: what memory is estimated from."""
        return self.width / self.patch**2

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, the inverse of `from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RegressionConfig:
        """Raises ValueError with a sentence for unknown fields and impossible values."""
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        try:
            return cls(**fields)
        except TypeError as error:
            raise ValueError(f"{cls.__name__}: {error}") from None


class RegressionNet(NAFUNet):
    """Degraded image -> clean image in one pass. Takes the place of `RestoreVAR` wherever photos are restored.

    Images are (B, 3, Hpx, Wpx) in [-1, 1]; sides are multiples of `config.downsample`. An untrained network gives its
    input back.
    """

    def __init__(self, config: RegressionConfig):
        decoder = counts_for(len(config.encoder), config.decoder)
        super().__init__(config.width, config.encoder, config.middle, decoder, config.patch)
        self.config = config
        self.conv_out = nn.Conv2d(config.width, 3 * config.patch**2, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    @torch.inference_mode()
    def restore(self, degraded_B3HW: Tensor, fidelity: float | None = None) -> Tensor:
        """Restored image, same shape, in [-1, 1], float32.

        Raises ValueError for shapes that the model cannot take and for a fidelity other than 0.
        """
        self.check(degraded_B3HW)
        self.fidelity_weight(fidelity)
        return self(degraded_B3HW).clamp(-1, 1)

    def forward(self, degraded_B3HW: Tensor) -> Tensor:
        """As `restore`, with a gradient and not clamped: for training."""
        residual = F.pixel_shuffle(self.conv_out(self.features(degraded_B3HW)[0]), self.config.patch)
        return degraded_B3HW.float() + residual.float()

    def fidelity_weight(self, fidelity: float | None) -> float:
        """0; raises ValueError for any other: everything here comes from the input, there is nothing to weigh."""
        if fidelity:
            raise ValueError("this model has no fidelity branch; leave fidelity out or set it to 0")
        return 0.0

    def check(self, degraded_B3HW: Tensor) -> None:
        """Raises ValueError for shapes that this model cannot take."""
        if degraded_B3HW.ndim != 4 or degraded_B3HW.shape[1] != 3:
            raise ValueError(f"expected images of shape (B, 3, H, W), not {tuple(degraded_B3HW.shape)}")
        height, width = degraded_B3HW.shape[-2:]
        unit = self.config.downsample
        if height % unit or width % unit or not height or not width:
            raise ValueError(f"window sides must be multiples of {unit} pixels, not {height}x{width}")

    def count_parameters(self) -> dict[str, int]:
        """Parameters per part."""
        return {name: sum(p.numel() for p in part.parameters()) for name, part in self.named_children()}
