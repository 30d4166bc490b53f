"""Many small things in the air: where they are, drawing them as points, the veil of those too far to see."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from .maps import smooth_noise
from .per_sample import spread, uniform


def scatter(
    per_megapixel_B: Tensor, margin: float, size: tuple[int, int], generator: Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Throw particles evenly on each image and a margin around it: their sample_P, y_P1 and x_P1.

    A fractional count is rounded up or down by chance, so that small crops are as dense as large ones.
    """
    area = (size[0] + 2 * margin) * (size[1] + 2 * margin) / 1e6
    count_B = (per_megapixel_B * area + torch.rand(len(per_megapixel_B), generator=generator)).long()
    sample_P = torch.repeat_interleave(torch.arange(len(count_B)), count_B)
    y_P1 = uniform(len(sample_P), -margin, size[0] + margin, generator)[:, None]
    x_P1 = uniform(len(sample_P), -margin, size[1] + margin, generator)[:, None]
    return sample_P, y_P1, x_P1


def sown(sparse_B: Tensor, height: int, width: int, generator: Generator) -> Tensor:
    """BHW: 1 at so large a share of the pixels, by chance, 0 elsewhere."""
    chance_BHW = torch.rand(len(sparse_B), height, width, generator=generator)
    return (chance_BHW < sparse_B[:, None, None]).float()


def splat(sample_P: Tensor, y_PK: Tensor, x_PK: Tensor, weight_PK: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Add weighted points at sub-pixel places to an empty BHW, each shared among its four neighbours.

    Row p belongs to image sample_P[p]. A rim around the canvas swallows what falls outside.
    """
    batch, height, width = size
    y_PK, x_PK = (y_PK + 1).clamp(0, height + 1), (x_PK + 1).clamp(0, width + 1)
    top_PK, left_PK = y_PK.long(), x_PK.long()
    down_PK, right_PK = y_PK - top_PK, x_PK - left_PK
    stride = width + 3
    index_PK = (sample_P[:, None] * (height + 3) + top_PK) * stride + left_PK
    canvas = torch.zeros(batch * (height + 3) * stride)
    corners = (
        (0, (1 - down_PK) * (1 - right_PK)),
        (1, (1 - down_PK) * right_PK),
        (stride, down_PK * (1 - right_PK)),
        (stride + 1, down_PK * right_PK),
    )
    for step, share_PK in corners:
        canvas.index_add_(0, (index_PK + step).flatten(), (weight_PK * share_PK).flatten())
    return canvas.view(batch, height + 3, stride)[:, 1 : height + 1, 1 : width + 1]


def veil(image_B3HW: Tensor, amount_B: Tensor, generator: Generator) -> Tensor:
    """Uneven thin mist: far drops and flakes too small to see add up to a veil, as haze does."""
    batch, _, height, width = image_B3HW.shape
    drift_BHW = 0.4 + 0.6 * smooth_noise(batch, height, width, generator, cells=2, octaves=2)
    amount_B1HW = spread(amount_B * uniform(batch, 0.0, 1.0, generator)) * drift_BHW[:, None]
    colour_B = uniform(batch, 0.65, 0.95, generator)
    return image_B3HW + amount_B1HW * (spread(colour_B) - image_B3HW)
