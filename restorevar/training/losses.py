"""Losses of the stages; images are (B, 3, H, W) in [-1, 1]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Pixels; what is coarser is tone, finer is detail.
AROUND = 8


def psnr(a_B3HW: Tensor, b_B3HW: Tensor, most: float | None = None) -> Tensor:
    """PSNR in dB per image, (B,), of images in [-1, 1].

    It comes smoothly near `most` where that is given: as a loss, what is nearly perfect is left alone.
    """
    error = (a_B3HW.float() - b_B3HW.float()).square().flatten(1).mean(1)
    if most is not None:
        return 10 * torch.log10(4 / (error + 4 * 10 ** (-most / 10)))
    return 10 * torch.log10(4 / error.clamp_min(1e-10))


def detail_psnr(a_B3HW: Tensor, b_B3HW: Tensor, most: float | None = None) -> Tensor:
    """As `psnr`, but of what differs from its surroundings of `AROUND` pixels only: tone may be wrong, grain may not.

    In a dark photo grown bright nearly all of the error is tone, so that to any other loss noise is next to nothing.
    """
    error = a_B3HW.float() - b_B3HW.float()
    around = F.avg_pool2d(error, AROUND, ceil_mode=True)
    detail = error - F.interpolate(around, size=error.shape[-2:], mode="bilinear", align_corners=False)
    return psnr(detail, torch.zeros_like(detail), most)


def mean_gain(restored_B3HW: Tensor, degraded_B3HW: Tensor, clean_B3HW: Tensor) -> Tensor:
    """dB gained, on the mean of the batch, without a gradient; clean samples count as if their input had 50 dB."""
    before = psnr(degraded_B3HW, clean_B3HW).clamp_max(50)  # else they are all one sees
    return (psnr(restored_B3HW.detach(), clean_B3HW) - before).mean()


def ssim(a_B3HW: Tensor, b_B3HW: Tensor, window: int = 7) -> Tensor:
    """Mean SSIM with a uniform window (Wang et al. 2004), differentiable; a scalar, 1 for equal images."""
    a, b = (a_B3HW.float() + 1) / 2, (b_B3HW.float() + 1) / 2
    c1, c2 = 0.01**2, 0.03**2

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, window, stride=1)

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    numerator = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return (numerator / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean()


def gradient_l1(a_B3HW: Tensor, b_B3HW: Tensor) -> Tensor:
    """L1 between horizontal and vertical differences: edges count, flat tone does not."""
    pairs = zip(differences(a_B3HW.float()), differences(b_B3HW.float()), strict=True)
    return sum((F.l1_loss(x, y) for x, y in pairs), start=torch.zeros((), device=a_B3HW.device))


def differences(image_B3HW: Tensor) -> tuple[Tensor, Tensor]:
    """Of horizontal and of vertical neighbours: (B, 3, H, W - 1) and (B, 3, H - 1, W)."""
    across = image_B3HW[..., 1:] - image_B3HW[..., :-1]
    return across, image_B3HW[..., 1:, :] - image_B3HW[..., :-1, :]
