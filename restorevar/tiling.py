"""Large photos in overlapping windows: where they lie, how they agree in tone and blend. Pure functions.

    plan -> windows of the photo -> (restore each) -> Tone.match -> merge_bands -> rows, top to bottom

Blending is separable: the weights of the windows along one axis sum to one at every pixel. So no buffer of
summed weights is needed, and rows are final as soon as the next row of windows starts.

Tone is needed because haze and darkness belong to the whole photo, while each window sees its own part only
and guesses. A restored, shrunken copy of the whole photo says how much the tone changes at each place; each
window keeps its detail and takes its low frequencies from there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

# ------------------------------------------------------------------------------------------------------ where


@dataclass(frozen=True)
class Plan:
    """Where the windows of a photo lie, in pixels. All have the same size and none sticks out."""

    height: int
    width: int
    window: tuple[int, int]  # height, width
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    def places(self) -> Iterator[tuple[slice, slice]]:
        """Rows and columns of each window, row of windows by row of windows: the order of `merge_bands`."""
        high, wide = self.window
        for top in self.tops:
            for left in self.lefts:
                yield slice(top, top + high), slice(left, left + wide)

    @cached_property
    def weights(self) -> tuple[list[Tensor], list[Tensor]]:
        """What each row of windows weighs down its height, and each column of windows across its width."""
        high, wide = self.window
        return feathers(self.tops, high), feathers(self.lefts, wide)


def plan(height: int, width: int, window: tuple[int, int], overlap: int) -> Plan:
    """As few windows as cover the photo with at least `overlap` pixels in common between neighbours.

    Sides of `window` (height, width) above those of the photo are cut to it. ValueError for impossible sizes.
    """
    high, wide = min(window[0], height), min(window[1], width)
    return Plan(height, width, (high, wide), _starts(height, high, overlap), _starts(width, wide, overlap))


def _starts(length: int, window: int, overlap: int) -> tuple[int, ...]:
    """Evenly spread, the first at 0, the last ending at `length`."""
    if window < 1:
        raise ValueError(f"a side of {length} pixels cannot be covered by windows of {window}")
    if window == length:
        return (0,)
    if not 0 <= overlap < window:
        raise ValueError(f"windows of {window} pixels cannot overlap by {overlap}")
    steps = math.ceil((length - window) / (window - overlap))
    return tuple(i * (length - window) // steps for i in range(steps + 1))


# --------------------------------------------------------------------------------------------------- blending


def feathers(starts: Sequence[int], window: int) -> list[Tensor]:
    """Weights [window] of each window along one axis: raised cosines over the overlaps, sums of one."""
    length = starts[-1] + window
    total = torch.zeros(length, dtype=torch.float64)
    raw = []
    for i, start in enumerate(starts):
        weight = torch.ones(window, dtype=torch.float64)
        if i > 0:
            weight *= _rise(starts[i - 1] + window - start, window)
        if i + 1 < len(starts):
            weight *= _rise(start + window - starts[i + 1], window).flip(0)
        total[start : start + window] += weight
        raw.append(weight)
    return [(w / total[s : s + window]).float() for s, w in zip(starts, raw, strict=True)]


def _rise(overlap: int, window: int) -> Tensor:
    """From almost 0 to almost 1 over `overlap` pixels, then 1. Never 0, so that the sum never is."""
    phase = (torch.arange(window, dtype=torch.float64) + 0.5) / max(overlap, 1)
    return torch.sin(phase.clamp(max=1) * (math.pi / 2)) ** 2


def split(image_CHW: Tensor, plan: Plan) -> Iterator[Tensor]:
    """The windows of an image, as views, in the order of `plan.places`."""
    return (image_CHW[..., rows, columns] for rows, columns in plan.places())


def merge(windows: Iterable[Tensor], plan: Plan) -> Tensor:
    """The image (C, H, W) blended from its windows. `merge(split(x, plan), plan) == x` but for rounding."""
    return torch.cat([rows for _, rows in merge_bands(windows, plan)], dim=-2)


def merge_bands(windows: Iterable[Tensor], plan: Plan) -> Iterator[tuple[int, Tensor]]:
    """Blends windows (C, h, w) as they come; yields (top, rows (C, n, W)), finished rows, downwards.

    Only one row of windows is held, in float32. ValueError if there are fewer windows than planned.
    """
    source = iter(windows)
    ends = (*plan.tops[1:], plan.height)
    kept: Tensor | None = None  # rows that the windows above share with the next ones
    for down, top, end in zip(plan.weights[0], plan.tops, ends, strict=True):
        band = _blend_row(source, plan, down)
        if kept is not None:
            band[:, : kept.shape[1]] += kept
        yield top, band[:, : end - top]
        kept = band[:, end - top :].clone()


def _blend_row(source: Iterator[Tensor], plan: Plan, down: Tensor) -> Tensor:
    """The weighted sum (C, h, W) of the next row of windows."""
    high, wide = plan.window
    band: Tensor | None = None
    for left, across in zip(plan.lefts, plan.weights[1], strict=True):
        window = next(source, None)
        if window is None:
            raise ValueError(f"fewer windows than the {len(plan)} planned")
        if band is None:
            band = torch.zeros(window.shape[0], high, plan.width)
        band[:, :, left : left + wide] += window * (down[:, None] * across)
    assert band is not None
    return band


# ---------------------------------------------------------------------------------------------------- padding


def surroundings(photo_HW3: np.ndarray, rows: slice, columns: slice, margin: int) -> np.ndarray:
    """A window of the photo with `margin` pixels more on each side, reflected where the photo ends."""
    indices = (
        np.pad(np.arange(length), margin, "reflect")[part.start : part.stop + 2 * margin]
        for part, length in zip((rows, columns), photo_HW3.shape[:2], strict=True)
    )
    return photo_HW3[np.ix_(*indices)]


def pad_to(image_CHW: Tensor, height: int, width: int, margin: int = 0) -> Tensor:
    """The image (.., H, W) made larger by reflection: `margin` pixels above and to the left, the rest opposite.

    Reflected again and again where the image is smaller than the padding; a single pixel is repeated.
    """
    for axis, size in ((-2, height), (-1, width)):
        length = image_CHW.shape[axis]
        if size > length:
            index = np.pad(np.arange(length), (margin, size - length - margin), "reflect")
            image_CHW = image_CHW.index_select(axis, torch.from_numpy(index).to(image_CHW.device))
    return image_CHW


@dataclass(frozen=True)
class Place:
    """Where an image lies in what `pad_to` made of it: `margin` pixels from the top and from the left."""

    height: int
    width: int
    margin: int = 0

    def cut(self, padded_CHW: Tensor) -> Tensor:
        """(.., H, W) -> (.., height, width)."""
        rows, columns = (slice(self.margin, self.margin + side) for side in (self.height, self.width))
        return padded_CHW[..., rows, columns]

    def covered(self, padded: tuple[int, int], grid: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of a coarser `grid` over the `padded` image that have a part in this one."""
        rows, columns = (
            slice(self.margin * cells // length, -(-(self.margin + side) * cells // length))
            for side, length, cells in zip((self.height, self.width), padded, grid, strict=True)
        )
        return rows, columns


# ------------------------------------------------------------------------------------------------------- tone


@dataclass(frozen=True)
class Tone:
    """How the tone of a photo changes from place to place when it is restored, told from a shrunken copy.

    `reach` is the scale, in pixels of the photo, above which windows follow it: the standard deviation of the
    Gaussian that separates tone from detail.
    """

    change_Chw: Tensor  # restored less degraded, of the shrunken photo
    scale: tuple[float, float]  # pixels of the photo per pixel of `change`, down and across
    reach: float

    def match(self, degraded_CHW: Tensor, restored_CHW: Tensor, top: int, left: int) -> Tensor:
        """The restored window at (top, left) with its own change of tone replaced by the photo's.

        Changes are compared, not tones: so a copy too coarse to show what is in the window does no harm.
        Both are averaged over the same cells, and their difference is fitted by planes, within the window
        alone: so there is no bias at its borders.
        """
        whole, own, spread = [], [], []
        for axis, start in ((-2, top), (-1, left)):
            side = degraded_CHW.shape[axis]
            edges = _cell_edges(side, self.reach)
            whole.append(_cell_means((start + edges) / self.scale[axis], self.change_Chw.shape[axis]))
            own.append(_cell_means(edges, side))
            spread.append(_spread(edges, side, self.reach))
        error = _apply(whole, self.change_Chw) - _apply(own, restored_CHW - degraded_CHW)
        return restored_CHW + _apply(spread, error)


def shrink(pixels: np.ndarray, size: int) -> tuple[Tensor, tuple[float, float]]:
    """A photo [H, W, C] of uint8 or uint16 with a side above `size`: shrunken, its longer side is `size`.

    Returns (C, h, w) in [-1, 1] and the pixels of the photo per pixel of it, down and across. It is read in
    bands; no float copy of it is made.
    """
    factor = max(pixels.shape[:2]) / size
    step = max(1, int(factor))
    blocks = _block_means(pixels, step)
    matrices, scale = [], []
    for side, length in zip(blocks.shape[1:], pixels.shape[:2], strict=True):
        cells = max(1, round(length / factor))
        matrices.append(_cell_means(torch.linspace(0, side, cells + 1, dtype=torch.float64), side))
        scale.append(step * side / cells)
    small = _apply(matrices, blocks)
    return small.div_(np.iinfo(pixels.dtype).max / 2).sub_(1), (scale[0], scale[1])


def _block_means(pixels: np.ndarray, step: int) -> Tensor:
    """Means (C, ceil(H / step), ceil(W / step)) of blocks of step x step pixels; the last may be smaller."""
    height, width = pixels.shape[:2]
    starts = np.arange(0, width, step)
    widths = np.diff(starts, append=width)[:, None]
    means = []
    for top in range(0, height, step):
        columns = pixels[top : top + step].sum(axis=0, dtype=np.uint64)
        area = widths * min(step, height - top)
        means.append((np.add.reduceat(columns, starts, axis=0) / area).astype(np.float32))
    return torch.from_numpy(np.stack(means)).permute(2, 0, 1).contiguous()


def _apply(matrices: Sequence[Tensor], image_CHW: Tensor) -> Tensor:
    """A separable linear map: one matrix for the rows, one for the columns."""
    down, across = matrices
    return down @ image_CHW @ across.T


def _cell_edges(side: int, reach: float) -> Tensor:
    """Borders [n + 1] of equal cells along a side, of about half the reach: fine enough for the tone."""
    return torch.linspace(0, side, max(1, round(2 * side / reach)) + 1, dtype=torch.float64)


def _cell_means(edges: Tensor, size: int) -> Tensor:
    """Matrix [n, size]: the means, from edge to edge, of the line drawn through samples at 0.5, 1.5, ..."""
    centers = torch.arange(size, dtype=torch.float64) + 0.5
    area = _hat_integral(edges[:, None] - centers)
    weights = area[1:] - area[:-1]
    return (weights / weights.sum(1, keepdim=True)).float()


def _hat_integral(x: Tensor) -> Tensor:
    """Integral from minus infinity to x of the hat function, 1 at 0 and 0 beyond -1 and 1."""
    x = x.clamp(-1, 1)
    return torch.where(x < 0, (x + 1) ** 2 / 2, 1 - (1 - x) ** 2 / 2)


def _spread(edges: Tensor, side: int, reach: float) -> Tensor:
    """Matrix [side, n]: from cells to pixels, by a line fitted around each under a Gaussian of width `reach`.

    Lines rather than means, for means lag behind a slope wherever the Gaussian is cut off by the border.
    """
    centers = (edges[1:] + edges[:-1]) / 2
    if len(centers) == 1:
        return torch.ones(side, 1)
    offset = (centers - (torch.arange(side, dtype=torch.float64)[:, None] + 0.5)) / reach
    weight = torch.exp(-(offset**2) / 2)
    s0, s1, s2 = (sum_.sum(1, keepdim=True) for sum_ in (weight, weight * offset, weight * offset**2))
    return (weight * (s2 - s1 * offset) / (s0 * s2 - s1**2)).float()
