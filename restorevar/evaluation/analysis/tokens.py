"""What the model chose, scale by scale, and how sure it was of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ...images import from_tensor
from ...models import RestoreVAR
from .drawing import Strip, Tile, code_colours, heat, sheet
from .pyramid import Prediction, Pyramid, predict, pyramid_of
from .scale_figure import token_tiles
from .views import View, decode_plain


@dataclass(frozen=True)
class TokenMaps:
    """Of one photo.

    photo       its own token maps
    predicted   those that the model chose, with confidence and entropy of each
    partial     the prediction decoded after each scale (decoder alone), (3, H, W) in [-1, 1]
    """

    photo: Pyramid
    predicted: Prediction
    partial: tuple[Tensor, ...]


@torch.inference_mode()
def token_maps(model: RestoreVAR, degraded: View) -> TokenMaps:
    predicted = predict(model, degraded.image_B3HW)
    latents = torch.stack(predicted.pyramid.parts).cumsum(0)
    partial = tuple(degraded.crop(decode_plain(model, latent)) for latent in latents)
    return TokenMaps(pyramid_of(model, degraded.image_B3HW), predicted, partial)


def per_scale(maps: TokenMaps) -> list[dict[str, Any]]:
    """Means of each scale; plain JSON types. Entropy in bits; `changed`: tokens that are not the photo's own."""
    rows = []
    for k, tokens in enumerate(maps.predicted.pyramid.tokens):
        height, width = tokens.shape[-2:]
        rows.append(
            {
                "scale": k + 1,
                "grid": [height, width],
                "confidence": float(maps.predicted.confidence[k].mean()),
                "entropy": float(maps.predicted.entropy[k].mean()),
                "changed": float((tokens != maps.photo.tokens[k]).float().mean()),
            }
        )
    return rows


def picture(model: RestoreVAR, degraded: View, maps: TokenMaps) -> Image.Image:
    """A column a scale: tokens of the photo, tokens chosen, confidence, entropy, decoded so far."""
    colours = code_colours(model.vqvae.quantizer.codebook.weight)
    rows = per_scale(maps)
    most = math.log2(model.config.vqvae.codebook_size)
    changed = [f"{100 * row['changed']:.0f} % changed" for row in rows]
    confidence = [
        Tile(heat(values[0], 0, 1), f"mean {100 * row['confidence']:.0f} %", blocks=True)
        for values, row in zip(maps.predicted.confidence, rows, strict=True)
    ]
    entropy = [
        Tile(heat(values[0], 0, most), f"mean {row['entropy']:.1f} bits", blocks=True)
        for values, row in zip(maps.predicted.entropy, rows, strict=True)
    ]
    partial = [Tile(from_tensor(image), f"after scale {k + 1}") for k, image in enumerate(maps.partial)]
    return sheet(
        [
            Strip("Photo", [Tile(from_tensor(degraded.photo_3HW))]),
            Strip("Its token maps: a colour a code, alike codes alike", token_tiles(maps.photo, colours)),
            Strip("Token maps that the model chose", token_tiles(maps.predicted.pyramid, colours, changed)),
            Strip("Confidence, the probability of the chosen token: dark 0, bright 1", confidence),
            Strip(f"Entropy of the prediction: dark 0, bright {most:.0f} bits", entropy),
            Strip("The prediction decoded so far, without refiner", partial),
        ],
        cell=128,
    )
