"""What a reduced precision costs: its results beside those of float32, photo by photo and scale by scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from ..data.photos import find_photos
from ..errors import UserError
from ..evaluation.analysis.views import psnr
from ..images import read_photo, to_tensor
from ..models import RestoreVAR, ScaleEvent
from ..pipeline import Restorer
from .subject import Subject

Item = TypeVar("Item")

#: Decibels between both results that count as the same picture.
SAME = 40.0


@dataclass(frozen=True)
class PhotoPrecision:
    """`psnr`: between the two results, before rounding; `tokens`: share of equal tokens of each scale."""

    photo: str
    psnr: float
    tokens: list[float]


def measure_precision(
    subject: Subject, device: torch.device, dtype: str, photos: Path, size: int | None, limit: int = 12
) -> list[PhotoPrecision]:
    """The middles of up to `limit` photos below a folder, `size` pixels or a window large. Raises UserError."""
    if dtype == "fp32":
        raise UserError("--precision compares another --dtype with fp32, and here it is fp32")
    exact, reduced = (Restorer(subject.build(), device=str(device), dtype=name) for name in ("fp32", dtype))
    if not isinstance(exact.model, RestoreVAR):
        raise UserError("--precision is about next-scale prediction; this model has no tokens to compare")
    picked = evenly(find_photos(photos), limit)
    return [_compare(path, exact, reduced, size or subject.config.window) for path in picked]


def _compare(path: Path, exact: Restorer, reduced: Restorer, size: int) -> PhotoPrecision:
    image = middle(path, size).to(exact.device)
    (image_exact, tokens_exact), (image_reduced, tokens_reduced) = (_restored(r, image) for r in (exact, reduced))
    agreement = [float((a == b).float().mean()) for a, b in zip(tokens_exact, tokens_reduced, strict=True)]
    return PhotoPrecision(path.name, psnr(image_reduced, image_exact), agreement)


def _restored(restorer: Restorer, image: Tensor) -> tuple[Tensor, list[Tensor]]:
    tokens: list[Tensor] = []

    def note(event: ScaleEvent) -> None:
        tokens.append(event.tokens_Bl)

    assert isinstance(restorer.model, RestoreVAR)
    watch: Callable[[ScaleEvent], None] = note
    return restorer.model.restore(image, restorer.fidelity, watch), tokens


def evenly(found: Sequence[Item], limit: int) -> list[Item]:
    """At most `limit` of them, from all along."""
    count = min(limit, len(found))
    return [found[i * len(found) // count] for i in range(count)]


def middle(path: Path, size: int) -> Tensor:
    """The middle of a photo, (1, 3, size, size) in [-1, 1]. Raises UserError for a smaller photo."""
    rgb = read_photo(path).rgb
    height, width = rgb.shape[:2]
    if min(height, width) < size:
        raise UserError(f"{path}: smaller than a window of {size}x{size} pixels")
    top, left = (height - size) // 2, (width - size) // 2
    return to_tensor(rgb[top : top + size, left : left + size])[None]
