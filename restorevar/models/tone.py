"""Tone first: how much light and how much veil, decided from a small view of the whole window.

Haze and darkness change whole photos, and what they cost is nearly all tone. A network that must see every pixel sees
few photos in an hour; this one looks at views of 40 to 96 pixels and sees many. As in the paper, the coarse decides
what the degradation is, the fine adds the scene's detail. It draws nothing: what it gives are smooth maps of what to do
with each pixel, so that edges and texture are the photo's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .filtering import between_cells
from .nafnet import NAFUNet, silent_conv
from .veil import dark_cells

#: Longest sides of the views, pixels, that training looks at.
SIDES = (40, 48, 56, 64, 72, 80, 96)
#: Those whose maps are averaged in use. They err apart, and where they do not agree a clean photo is about to be spoilt
#: (docs/log.md).
VIEWS = (40, 56, 72, 96)
#: Side of the parts that are looked at beside the whole, one in each corner. They err apart, too, and their mean is
#: nearer to the truth than what the whole says alone (docs/log.md); of smaller parts too little is seen.
PART = 7 / 8
#: Of the side of an image: how far from where a part ends it counts in full.
FADE = 1 / 4
#: Shares of a photo's cells that are darker than what `darkest` says.
RANKS = (0.002, 0.01, 0.05, 0.25, 0.5)
#: Logarithm of the largest factor on the light of a pixel.
MOST_GAIN = 3.0
#: What the next network is given stays in the range of images, [-1, 1], but for highlights that it may bring back.
MOST = 1.25
#: Of a photo's light, the least that is left. Taking veil away darkens, but what would turn day into night was no veil:
#: gray roads and walls in fog are as bright as it, and the photos of training have few of them (docs/log.md).
LEAST_LIGHT = 0.5


class ToneNet(NAFUNet):
    """A U-Net on the view, of its own and of the view without veil, in cells of 4 pixels; told the darkest cells, too.

    Per cell and colour a factor, a curve and an offset, per cell a share of what lifting the veil changes; all of them
    nothing at the start.
    """

    def __init__(self, width: int):
        # A view has few cells, and what is made of them is smooth anyway: every level may shuffle.
        super().__init__(width, encoder=(1, 2), middle=4, decoder=(1, 1), patch=4, shuffled=2)
        self.unit = self.patch * 2 ** len(self.encoder)
        self.from_lifted = silent_conv(4 * self.patch**2, width)
        self.told = nn.Linear(len(RANKS), width)
        self.from_darkest = silent_conv(width, width * 2 ** len(self.encoder), kernel=1)
        self.maps = silent_conv(width, 10)

    def view(self, image_BCHW: Tensor, longest: int) -> Tensor:
        """Shrunken so that the longer side is at most `longest`; sides are multiples of what the network takes."""
        height, width = int(image_BCHW.shape[-2]), int(image_BCHW.shape[-1])
        scale = min(1.0, longest / max(height, width))
        high, wide = (max(1, round(side * scale / self.unit)) * self.unit for side in (height, width))
        return F.interpolate(image_BCHW.float(), size=(high, wide), mode="area")

    def forward(self, view_B3hw: Tensor, lifted_B4hw: Tensor, darkest_BE: Tensor) -> Tensor:
        """Views of the image and of what `lift_veil` makes of it, darkest -> maps (B, 10, h / 4, w / 4), float32."""
        first = self.from_lifted(self._unshuffled(lifted_B4hw))
        told = F.gelu(self.told(darkest_BE.to(self.told.weight.dtype)))
        middle = self.from_darkest(told[:, :, None, None])
        return self.maps(self.features(view_B3hw, middle, first)[0]).float()

    def look(self, image_B3HW: Tensor, lifted_B4HW: Tensor) -> Tensor:
        """Maps (B, 10, h, w) of whole images, in cells of any size: what the whole and its parts agree upon."""
        image, lifted = (self._whole_and_parts(x) for x in (image_B3HW, lifted_B4HW))
        cells_B1hw = _light_of_cells(image_B3HW)
        high, wide = (round(int(side) * PART) for side in cells_B1hw.shape[-2:])
        seen = [cells_B1hw, *_corners(cells_B1hw, high, wide)]
        ends = torch.cat([_ranked(cells) for cells in seen])
        whole, *parts = self._agreed(image, lifted, ends).chunk(len(seen))
        return _joined(whole, parts)

    def look_once(self, image_B3HW: Tensor, lifted_B4HW: Tensor) -> Tensor:
        """As `look`, without parts: for images that are parts themselves, of which a mean is taken."""
        image, lifted = (self.view(x, max(VIEWS)) for x in (image_B3HW, lifted_B4HW))
        return self._agreed(image, lifted, darkest(image_B3HW))

    def _whole_and_parts(self, image_BCHW: Tensor) -> Tensor:
        """(5 B, C, h, w): the images, and what lies in their four corners, all of the size of the largest of VIEWS."""
        whole = self.view(image_BCHW, max(VIEWS))
        high, wide = int(whole.shape[-2]), int(whole.shape[-1])
        larger = F.interpolate(image_BCHW.float(), size=(round(high / PART), round(wide / PART)), mode="area")
        return torch.cat([whole, *_corners(larger, high, wide)])

    def _agreed(self, image_B3hw: Tensor, lifted_B4hw: Tensor, ends_BE: Tensor) -> Tensor:
        """The maps of images of the size of the largest of VIEWS, in their cells: what all sizes agree upon."""
        # Smaller views of the largest, as in training: the photo is shrunken once for all.
        found = [self(self.view(image_B3hw, side), self.view(lifted_B4hw, side), ends_BE) for side in VIEWS]
        size = found[-1].shape[-2:]
        at_size = torch.stack([F.interpolate(maps, size=size, mode="bilinear", align_corners=False) for maps in found])
        return _common(at_size, torch.full((len(found), 1, 1, 1, 1), 1 / len(found), device=at_size.device))


def _corners(image_BCHW: Tensor, height: int, width: int) -> list[Tensor]:
    """What lies in the corners of images, (B, C, height, width) each, row by row."""
    high, wide = int(image_BCHW.shape[-2]), int(image_BCHW.shape[-1])
    return [
        image_BCHW[..., top : top + height, left : left + width]
        for top, left in product((0, high - height), (0, wide - width))
    ]


def _joined(whole_B10hw: Tensor, parts: Sequence[Tensor]) -> Tensor:
    """What the maps of a whole and of the parts in its corners, row by row, agree upon, in the cells of the parts."""
    high, wide = (round(int(side) / PART) for side in whole_B10hw.shape[-2:])
    down, across = (_placed(int(side), whole_B10hw.device) for side in whole_B10hw.shape[-2:])
    maps = [F.interpolate(whole_B10hw, size=(high, wide), mode="bilinear", align_corners=False)]
    shares = [torch.full((high, wide), 1 / (1 + len(parts)), device=whole_B10hw.device)]
    for ((d, share_down), (a, share_across)), part in zip(product(down, across), parts, strict=True):
        maps.append(d @ part @ a.T)
        shares.append(share_down[:, None] * share_across * (len(parts) / (1 + len(parts))))
    return _common(torch.stack(maps), torch.stack(shares)[:, None, None])


def _common(maps_NB10hw: Tensor, share_N11hw: Tensor) -> Tensor:
    """The mean of several maps of the same images, by shares that add up to one, as far as they agree.

    It is shrunken as a Wiener filter would: by 1 - spread^2 / mean^2 of each image, and to nothing where they differ by
    more than what they have in common.
    """
    mean_B10hw = (maps_NB10hw * share_N11hw).sum(dim=0)
    spread_B111 = ((maps_NB10hw - mean_B10hw).square() * share_N11hw).sum(dim=0).mean(dim=(1, 2, 3), keepdim=True)
    power_B111 = mean_B10hw.square().mean(dim=(1, 2, 3), keepdim=True)
    return mean_B10hw * (1 - spread_B111 / power_B111.clamp(min=1e-6)).clamp(min=0)


def _placed(cells: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """For the parts at both ends of a side: matrix [cells / PART, cells], which puts their maps where they lie.

    And what they count there, [cells / PART]; the two add up to one everywhere.
    """
    count = round(cells / PART)
    place = (torch.arange(count, device=device) + 0.5) / count
    shares = torch.stack([PART - place, place - (1 - PART)]).div(FADE).clamp(0, 1)
    shares = shares / shares.sum(0)
    firsts = (0.0, 1 - PART)
    return [(between_cells((place - first) / PART, cells), share) for share, first in zip(shares, firsts, strict=True)]


def darkest(image_B3HW: Tensor) -> Tensor:
    """(B, 5), each about 0: how dark the darkest cells of an image in [-1, 1] are.

    Nearly every photo has something black in it; in haze nothing is. A room of pale things and a room in haze look
    alike in a small view, in which what is black has been averaged away, but not in this. It is the darkest colour of
    the darkest pixel, as in the dark channel prior.
    """
    return _ranked(_light_of_cells(image_B3HW))


def _light_of_cells(image_B3HW: Tensor) -> Tensor:
    """The darkest colour of the darkest pixel of each cell, in [0, 1]."""
    return dark_cells((image_B3HW.float().amin(1, keepdim=True) + 1) / 2)


def _ranked(light_B1hw: Tensor) -> Tensor:
    """`darkest` of the light of cells."""
    ordered_BN = light_B1hw.flatten(1).sort(dim=1).values.clamp(0, 1)
    last = int(ordered_BN.shape[1]) - 1
    # Differences near black tell more than those of grays.
    return torch.stack([ordered_BN[:, round(rank * last)] for rank in RANKS], dim=1).sqrt() * 4 - 1


def apply_tone(image_B3HW: Tensor, lifted_B4HW: Tensor, maps_B10hw: Tensor) -> Tensor:
    """The image in [-1, 1] with the tone that the maps say; not clamped."""
    height, width = int(image_B3HW.shape[-2]), int(image_B3HW.shape[-1])
    maps = F.interpolate(maps_B10hw, size=(height, width), mode="bilinear", align_corners=False)
    gain, curve, offset, lift = maps.split((3, 3, 3, 1), dim=1)
    light = (image_B3HW.float() + 1) / 2
    lifted = (lifted_B4HW[:, :3].float() + 1) / 2
    toned = light * gain.clamp(-MOST_GAIN, MOST_GAIN).exp() + curve * light * (1 - light) + offset
    return (toned + lift * (lifted - light)) * 2 - 1


def keep_light(image_B3HW: Tensor, toned_B3HW: Tensor) -> Tensor:
    """The toned image in [-1, 1]; on the way back to the image as far as `LEAST_LIGHT` of the mean light needs."""
    before, after = ((x.float().mean((1, 2, 3), keepdim=True) + 1) / 2 for x in (image_B3HW, toned_B3HW))
    lost, most = before - after, (1 - LEAST_LIGHT) * before
    share_B111 = torch.where(lost > most, most / lost.clamp(min=1e-6), 1.0)
    return torch.lerp(image_B3HW.float(), toned_B3HW, share_B111)
