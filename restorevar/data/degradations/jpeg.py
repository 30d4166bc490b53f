"""JPEG, there and back: what most photographs went through."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def jpeg(image_B3HW: Tensor, quality_B: Tensor) -> Tensor:
    """Encode and decode each sample as JPEG at its own quality (1 to 100)."""
    return torch.stack([_jpeg_one(image, int(q)) for image, q in zip(image_B3HW, quality_B, strict=True)])


def _jpeg_one(image_3HW: Tensor, quality: int) -> Tensor:
    pixels = (image_3HW.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality)
    decoded = np.array(Image.open(buffer).convert("RGB"))
    return torch.from_numpy(decoded).permute(2, 0, 1).float() / 255
