"""The scale study of one pair (paper 3.2, figures 2, 9 and 13): whose scales bring the degradation back?

Into the token maps of the clean photo, or of the model's output, go those of the degraded photo, once its coarsest,
once its finest, ever more of them. Each mixture is decoded by the decoder alone, without refiner and fidelity branch,
both of which would restore again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ...models import RestoreVAR
from .pyramid import Pyramid, coarsest, finest, predict, pyramid_of, swapped
from .views import View, decode_plain, psnr

#: Whose token maps are swapped: those of the clean photo, or those that the model predicted.
Base = Literal["truth", "outputs"]
#: Which end of the pyramid is the degraded photo's.
End = Literal["coarse", "fine"]


@dataclass(frozen=True)
class Point:
    """One mixture.

    swapped    how many scales are the degraded photo's
    latent     RMS distance to the clean photo's quantized latent; that of the degraded photo's is 1
    psnr       dB of the decoded mixture to the clean photo
    returned   how much of the degradation is back in the decoded mixture: 0 as the base decoded, 1 as the degraded
               photo decoded; in between the share of the way from one to the other, measured along it (projection).
               Where the way is short this is noise: weigh it by the way
    """

    swapped: int
    latent: float
    psnr: float
    returned: float


@dataclass(frozen=True)
class Curve:
    """Points by growing number of swapped scales, from none to all, and the decoded mixtures if they were kept."""

    points: tuple[Point, ...]
    images: tuple[Tensor, ...] = ()

    def at(self, swapped: int) -> Point:
        return next(point for point in self.points if point.swapped == swapped)


@dataclass(frozen=True)
class Swaps:
    """All of one pair.

    counts    tokens of each scale
    changed   share of the tokens in which clean and degraded photo differ, by scale
    kept      how much of the degradation survives tokens and decoder: the difference of the two decoded images along
              that of the two photos
    ways      RMS length, in levels of 255, of the way from the decoded base to the degraded photo decoded
    curves    by base and end
    """

    clean: Pyramid
    degraded: Pyramid
    changed: tuple[float, ...]
    kept: float
    ways: dict[Base, float]
    curves: dict[Base, dict[End, Curve]]

    @property
    def counts(self) -> list[int]:
        return self.clean.counts


def swap_scales(
    model: RestoreVAR,
    clean: View,
    degraded: View,
    splits: Sequence[int] | None = None,
    outputs: bool = True,
    keep: bool = False,
) -> Swaps:
    """Swap the `splits` coarsest and finest scales (all numbers, if None), of the truth and of the model's outputs.

    None and all of the scales always come with them. `keep` also keeps the decoded mixtures, (3, H, W) each.
    Raises ValueError if the pair does not differ at all, for then there is nothing to bring back.
    """
    truth, other = pyramid_of(model, clean.image_B3HW), pyramid_of(model, degraded.image_B3HW)
    if torch.equal(truth.latent, other.latent):
        raise ValueError("the degraded photo has the token maps of the clean one")
    bases: dict[Base, Pyramid] = {"truth": truth}
    if outputs:
        bases["outputs"] = predict(model, degraded.image_B3HW).pyramid
    wanted = sorted({0, len(truth), *(range(1, len(truth)) if splits is None else splits)})
    photo = clean.photo_3HW
    far = clean.crop(decode_plain(model, other.latent))
    studies = {name: _Study(model, clean, photo, truth, other, base, far) for name, base in bases.items()}
    curves: dict[Base, dict[End, Curve]] = {
        name: {"coarse": study.curve("coarse", wanted, keep), "fine": study.curve("fine", wanted, keep)}
        for name, study in studies.items()
    }
    kept = along(studies["truth"].way, degraded.photo_3HW - photo)
    changed = tuple(float((a != b).float().mean()) for a, b in zip(truth.tokens, other.tokens, strict=True))
    ways = {name: 127.5 * rms(study.way) for name, study in studies.items()}
    return Swaps(truth, other, changed, kept, ways, curves)


class _Study:
    """One base with the degraded photo's scales swapped in."""

    def __init__(
        self,
        model: RestoreVAR,
        view: View,
        photo_3HW: Tensor,
        truth: Pyramid,
        other: Pyramid,
        base: Pyramid,
        far_3HW: Tensor,
    ):
        self.model, self.view, self.photo = model, view, photo_3HW
        self.truth, self.other, self.base = truth, other, base
        self.near, self.far = view.crop(decode_plain(model, base.latent)), far_3HW
        self.way = self.far - self.near
        self.unit = rms(other.latent - truth.latent)

    def curve(self, end: End, counts: Sequence[int], keep: bool) -> Curve:
        points, images = [], []
        for n in counts:
            scales = coarsest(self.base, n) if end == "coarse" else finest(self.base, n)
            latent = swapped(self.base, self.other, scales)
            image = self._decode(n, latent)
            points.append(self._point(n, latent, image))
            if keep:
                images.append(image)
        return Curve(tuple(points), tuple(images))

    def _decode(self, n: int, latent_BCHW: Tensor) -> Tensor:
        if n in (0, len(self.base)):  # both ends of both curves, decoded once
            return self.near if n == 0 else self.far
        return self.view.crop(decode_plain(self.model, latent_BCHW))

    def _point(self, n: int, latent_BCHW: Tensor, image_3HW: Tensor) -> Point:
        returned = along(image_3HW - self.near, self.way)
        distance = rms(latent_BCHW - self.truth.latent) / self.unit
        return Point(n, distance, psnr(image_3HW, self.photo), returned)


def along(change: Tensor, way: Tensor) -> float:
    """How far `change` goes along `way`: 1 is all of it, 0 is none or aside."""
    change, way = change.double(), way.double()
    return float((change * way).sum() / way.square().sum().clamp_min(1e-12))


def rms(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt())
