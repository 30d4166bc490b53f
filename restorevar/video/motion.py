"""Where the pixels of a frame were in the frame before: dense flow, coarse to fine (Lucas and Kanade, 1981).

All on images (C, H, W) in [0, 1]; a flow (2, H, W) is in pixels, across and down: `before` at x + flow(x) is what is
`now` at x.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: The longer side at which flow is sought; finer images are shrunken to it: motion is smooth, and this quick enough.
FLOW_SIDE = 480
LEVELS = 4
ROUNDS = 3
#: Half of the window in which all pixels move alike, in pixels of each level.
REACH = 7
#: Differences above this are of other things than motion, of drops and flakes for example; they count less.
OUTLIER = 0.05
#: Where the image is flat the flow stays what it was.
FLAT = 1e-4
#: No level moves by more in one round, in pixels.
LONGEST_STEP = 2.0
_LUMA_311 = torch.tensor([0.299, 0.587, 0.114])[:, None, None]


def flow_between(before_3HW: Tensor, now_3HW: Tensor) -> Tensor:
    """The flow (2, H, W) from `now` back to `before`."""
    height, width = now_3HW.shape[1:]
    shrink = max(1.0, max(height, width) / FLOW_SIDE)
    size = (max(1, round(height / shrink)), max(1, round(width / shrink)))
    before_11hw, now_11hw = (_shrunk(_luma(image), size) for image in (before_3HW, now_3HW))
    return enlarged(_flow(before_11hw, now_11hw), (height, width))


def _flow(before_11HW: Tensor, now_11HW: Tensor) -> Tensor:
    pyramid = [(before_11HW, now_11HW)]
    while len(pyramid) < LEVELS and min(now_11HW.shape[-2:]) >= 4 * REACH:
        before_11HW, now_11HW = (_half(image) for image in pyramid[-1])
        pyramid.append((before_11HW, now_11HW))
    flow_2HW = torch.zeros(2, *now_11HW.shape[-2:], device=now_11HW.device)
    for before_11HW, now_11HW in reversed(pyramid):
        flow_2HW = enlarged(flow_2HW, now_11HW.shape[-2:])
        for _ in range(ROUNDS):
            flow_2HW = flow_2HW + _step(before_11HW, now_11HW, flow_2HW)
        flow_2HW = box(flow_2HW[None], REACH // 2)[0]
    return flow_2HW


def _step(before_11HW: Tensor, now_11HW: Tensor, flow_2HW: Tensor) -> Tensor:
    """What the flow lacks, by least squares in the window of each pixel, outliers weighed down."""
    carried_11HW = warped(before_11HW[0], flow_2HW)[None]
    x_11HW, y_11HW = _slopes((carried_11HW + now_11HW) / 2)
    change_11HW = carried_11HW - now_11HW
    weight_11HW = 1 / (1 + (change_11HW / OUTLIER) ** 2)
    products = (x_11HW * x_11HW, x_11HW * y_11HW, y_11HW * y_11HW, x_11HW * change_11HW, y_11HW * change_11HW)
    xx, xy, yy, xt, yt = box(torch.cat(products, dim=1) * weight_11HW, REACH)[0]
    xx, yy = xx + FLAT, yy + FLAT
    determinant = xx * yy - xy * xy
    step_2HW = torch.stack([xy * yt - yy * xt, xy * xt - xx * yt]) / determinant
    return step_2HW.clamp(-LONGEST_STEP, LONGEST_STEP)


def warped(image_CHW: Tensor, flow_2HW: Tensor, mode: str = "bilinear") -> Tensor:
    """The image before as it would look now; beyond its borders its rim goes on."""
    height, width = image_CHW.shape[-2:]
    y_H = torch.arange(height, device=image_CHW.device) + 0.5
    x_W = torch.arange(width, device=image_CHW.device) + 0.5
    across_HW = 2 * (x_W + flow_2HW[0]) / width - 1
    down_HW = 2 * (y_H[:, None] + flow_2HW[1]) / height - 1
    grid_1HW2 = torch.stack([across_HW, down_HW], dim=-1)[None]
    return F.grid_sample(image_CHW[None], grid_1HW2, mode, "border", align_corners=False)[0]


def enlarged(flow_2hw: Tensor, size: tuple[int, ...]) -> Tensor:
    """The flow for another size of the image."""
    height, width = flow_2hw.shape[-2:]
    if (height, width) == tuple(size):
        return flow_2hw
    scale_211 = torch.tensor([size[1] / width, size[0] / height], device=flow_2hw.device)[:, None, None]
    return F.interpolate(flow_2hw[None], tuple(size), mode="bilinear", align_corners=False)[0] * scale_211


def box(maps_BCHW: Tensor, radius: int) -> Tensor:
    """Means over a (2 radius + 1) square, counting only pixels inside the image."""
    return F.avg_pool2d(maps_BCHW, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)


def _luma(image_3HW: Tensor) -> Tensor:
    return (image_3HW * _LUMA_311.to(image_3HW.device)).sum(0)[None, None]


def _shrunk(image_11HW: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(image_11HW, size, mode="area")


def _half(image_11HW: Tensor) -> Tensor:
    """Smoothed with the binomial (1 4 6 4 1), every second pixel."""
    kernel_5 = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=image_11HW.device) / 16
    padded = F.pad(image_11HW, (2, 2, 2, 2), mode="replicate")
    columns = F.conv2d(padded, kernel_5[None, None, :, None])
    return F.conv2d(columns, kernel_5[None, None, None, :])[..., ::2, ::2]


def _slopes(image_11HW: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences, across and down."""
    padded = F.pad(image_11HW, (1, 1, 1, 1), mode="replicate")
    return (
        (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2,
        (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2,
    )
