"""JPEG, there and back: what most photographs went through."""

from __future__ import annotations

import io

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Generator, Tensor

from .per_sample import chance, uniform

BLOCK = 8
#: The most that photos were larger, per side, when they were saved.
MOST_LARGER = 2.0


def jpeg(image_B3HW: Tensor, quality_B: Tensor) -> Tensor:
    """Encode and decode each sample as JPEG at its own quality (1 to 100)."""
    return torch.stack([_jpeg_one(image, int(q)) for image, q in zip(image_B3HW, quality_B, strict=True)])


def shifted_jpeg(image_B3HW: Tensor, quality_B: Tensor, generator: Generator) -> Tensor:
    """As `jpeg`, of photos as they are met: parts of larger ones, so that blocks begin anywhere; half of them shrunken.

    What has only seen whole blocks of 8 pixels from the corner on takes all others for something in the scene.
    """
    batch, _, height, width = image_B3HW.shape
    larger_B = uniform(batch, 1.0, MOST_LARGER, generator) ** chance(batch, 0.5, generator)
    begin_B2 = torch.randint(BLOCK, (batch, 2), generator=generator)
    result = torch.empty_like(image_B3HW)
    for i, (larger, (top, left)) in enumerate(zip(larger_B.tolist(), begin_B2.tolist(), strict=True)):
        size = (round(height * larger), round(width * larger))
        part = image_B3HW[i : i + 1]
        if larger > 1:
            part = F.interpolate(part, size=size, mode="bicubic", align_corners=False)
        part = F.pad(part, (left, 0, top, 0), mode="replicate")
        part = _jpeg_one(part[0], int(quality_B[i]))[None, :, top:, left:]
        if larger > 1:
            part = F.interpolate(part, size=(height, width), mode="bicubic", align_corners=False, antialias=True)
        result[i] = part[0].clamp(0, 1)
    return result


def _jpeg_one(image_3HW: Tensor, quality: int) -> Tensor:
    pixels = (image_3HW.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality)
    decoded = np.array(Image.open(buffer).convert("RGB"))
    return torch.from_numpy(decoded).permute(2, 0, 1).float() / 255
