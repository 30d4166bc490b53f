"""FLOPs and time against the side of the latent, beside the complexities of the paper's appendix C.

Appendix C: with a geometric pyramid of scales up to a final side n, next-scale prediction costs O(n^4); diffusion with
as many steps as there are scales, which is log n, costs O(n^4 log n). Both counts are of attention: everything else
grows with the number of tokens, n^2, and weighs more at the sizes of photographs. So both are shown.

The diffusion transformer is made of our own blocks, so that nothing but the schedule differs: K steps on all n^2
tokens, where ours takes one step on each of K token maps. Neither encoder nor decoder is in it; they grow with n^2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..acceleration import prepare
from ..models import RestoreVAR, RestoreVARConfig, ScaleSchedule
from ..models.config import PAPER_SIDES
from ..models.rope import rope_table
from ..models.transformer import Block
from .flops import META, Flops, count
from .timing import Timing, measure

#: Of the condition, per block of the transformer.
KeysValues = list[tuple[Tensor, Tensor]]
#: Sides of the final latent grid: windows of 128 to 2048 pixels where a cell is 16.
SIDES = (8, 16, 32, 64, 128)
#: Growth from one scale to the next: 1 to 32 in ten scales, as in the paper.
RATIO = PAPER_SIDES[-1] ** (1 / (len(PAPER_SIDES) - 1))
#: The largest sides show the exponent best: small ones are ruled by what does not grow.
FITTED = 3


@dataclass(frozen=True)
class Point:
    """One side. Seconds are None where they were not measured; those of diffusion are of one step, multiplied."""

    side: int
    window: int  #: pixels
    scales: int
    tokens: int  #: of all scales together
    ours: Flops
    diffusion: Flops
    ours_time: Timing | None = None
    diffusion_time: Timing | None = None


@dataclass(frozen=True)
class Scaling:
    """Exponents p of FLOPs ~ n^p, fitted to the largest sides; `per_step`: of diffusion's attention over K."""

    points: list[Point]
    exponents: dict[str, float]


def geometric_sides(side: int, ratio: float = RATIO) -> tuple[int, ...]:
    """1 to `side`, each `ratio` times the one before, rounded; fewer where roundings coincide."""
    count = max(2, round(math.log(side) / math.log(ratio)) + 1)
    return tuple(sorted({max(1, round(side ** (k / (count - 1)))) for k in range(count)}))


def measure_scaling(
    config: RestoreVARConfig,
    sides: Sequence[int] = SIDES,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    repeat: int = 3,
    longest: float = 10.0,
) -> Scaling:
    """FLOPs at every side; seconds too if a device is given, of what will not take more than `longest` by estimate."""
    points: list[Point] = []
    for side in sides:
        point = _count(config, side)
        if device is not None and _estimate(point, points) <= longest:
            point = _with_times(point, config, device, dtype, repeat)
        points.append(point)
    return Scaling(points, _exponents(points))


def _estimate(point: Point, before: Sequence[Point]) -> float:
    """Seconds of this point, from the rate at which the last one was computed; infinite once one was left out."""
    if not before:
        return 0.0
    last = before[-1]
    if last.ours_time is None:
        return math.inf
    return last.ours_time.median * point.ours.total / last.ours.total


def _with_times(point: Point, config: RestoreVARConfig, device: torch.device, dtype: torch.dtype, repeat: int) -> Point:
    ours = prepare(RestoreVAR(_config(config, point.side)), device, dtype)
    assert isinstance(ours, RestoreVAR)
    diffusion = DiffusionTransformer(config).eval().to(device)
    diffusion.blocks.to(dtype)
    latent = torch.randn(1, config.vqvae.latent_channels, point.side, point.side, device=device)
    with torch.inference_mode():
        ours_time = measure(lambda: ours.generate(latent), device, repeat)
        keys_values = diffusion.begin(latent)
        step_time = measure(lambda: diffusion(latent, keys_values), device, repeat)
    return replace(point, ours_time=ours_time, diffusion_time=step_time.times(point.scales))


def _config(config: RestoreVARConfig, side: int) -> RestoreVARConfig:
    """The same transformer on a geometric pyramid; the parts that are not measured as small as can be."""
    vqvae = replace(config.vqvae, widths=(32,) * len(config.vqvae.widths), blocks=1, attention=False)
    refiner = replace(config.refiner, kind="none", hidden=True)
    scales = ScaleSchedule(geometric_sides(side))
    return replace(config, scales=scales, vqvae=vqvae, refiner=refiner, fidelity=None)


class DiffusionTransformer(nn.Module):
    """Our blocks on all tokens, conditioned on the degraded latent by their cross-attention; one call is one step.

    As in ours, the condition's keys and values are computed once. The embedding of the time is left out: it costs
    nothing beside the rest.
    """

    def __init__(self, config: RestoreVARConfig):
        super().__init__()
        width, channels = config.transformer.width, config.vqvae.latent_channels
        self.config = config.transformer
        self.embed_condition = nn.Linear(channels, width)
        self.embed = nn.Linear(channels, width)
        self.blocks = nn.ModuleList(Block(config.transformer, 0.0) for _ in range(config.transformer.depth))
        self.head = nn.Linear(width, channels)

    def begin(self, condition_BCHW: Tensor) -> KeysValues:
        """Of the condition, per block."""
        condition_BMD = self._tokens(condition_BCHW, self.embed_condition)
        rope = self._rope(condition_BCHW)
        return [block.cross.keys_values(condition_BMD, rope) for block in self.blocks]  # type: ignore[union-attr, operator]

    def forward(self, noisy_BCHW: Tensor, keys_values: KeysValues) -> Tensor:
        """The predicted noise of each token, (B, M, C)."""
        x_BMD, rope = self._tokens(noisy_BCHW, self.embed), self._rope(noisy_BCHW)
        for block, condition in zip(self.blocks, keys_values, strict=True):
            x_BMD = block(x_BMD, rope, condition)
        return self.head(x_BMD.float())

    def _tokens(self, latent_BCHW: Tensor, embed: nn.Linear) -> Tensor:
        return embed(latent_BCHW.flatten(2).transpose(1, 2)).to(next(self.blocks.parameters()).dtype)

    def _rope(self, latent_BCHW: Tensor) -> Tensor:
        grid = (latent_BCHW.shape[-2], latent_BCHW.shape[-1])
        return rope_table((grid,), grid, self.config.head_width, self.config.rope_base, latent_BCHW.device)


# --------------------------------------------------------------------------------------------------- counting


def _count(config: RestoreVARConfig, side: int) -> Point:
    scales = ScaleSchedule(geometric_sides(side))
    return Point(
        side=side,
        window=side * config.downsample,
        scales=len(scales),
        tokens=scales.length(),
        ours=_of_depth(config, lambda shallow: _ours_flops(shallow, side)),
        diffusion=_of_depth(config, lambda shallow: _diffusion_flops(shallow, side, len(scales))),
    )


def _of_depth(config: RestoreVARConfig, counted: Callable[[RestoreVARConfig], Flops]) -> Flops:
    """Exact, and quicker than counting all: each block costs what the second one adds to the first."""
    one, two = (counted(replace(config, transformer=replace(config.transformer, depth=d))) for d in (1, 2))
    return one + (two - one).times(config.transformer.depth - 1)


def _ours_flops(config: RestoreVARConfig, side: int) -> Flops:
    with META:
        model = RestoreVAR(_config(config, side)).eval()
        latent = torch.empty(1, config.vqvae.latent_channels, side, side)
    return count(lambda: model.generate(latent))


def _diffusion_flops(config: RestoreVARConfig, side: int, steps: int) -> Flops:
    with META:
        network = DiffusionTransformer(config).eval()
        latent = torch.empty(1, config.vqvae.latent_channels, side, side)
        keys_values = network.begin(latent)
    return count(lambda: network.begin(latent)) + count(lambda: network(latent, keys_values)).times(steps)


def _exponents(points: Sequence[Point]) -> dict[str, float]:
    last = points[-FITTED:]
    sides = [point.side for point in last]
    series: dict[str, Sequence[float]] = {
        "ours": [p.ours.total for p in last],
        "ours, attention": [p.ours.attention for p in last],
        "diffusion": [p.diffusion.total for p in last],
        "diffusion, attention": [p.diffusion.attention for p in last],
        "diffusion, attention per step": [p.diffusion.attention / p.scales for p in last],
    }
    return {name: fit_exponent(sides, values) for name, values in series.items()}


def fit_exponent(sides: Sequence[float], values: Sequence[float]) -> float:
    """p of the least-squares fit of values ~ sides^p, in logarithms; NaN for fewer than two points."""
    x, y = [math.log(s) for s in sides], [math.log(v) for v in values]
    if len(x) < 2:
        return math.nan
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - mean_x) ** 2 for a in x)
