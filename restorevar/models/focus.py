"""Focus last: how soft a photo is, and which way, decided from its spectrum.

The power of sharp photographs falls off with frequency in much the same way in all directions; blur takes from the high
ones, motion from those across it, and where it takes all of them it leaves dark bands. So a few hundred numbers tell,
and what they ask for is as many again: how much stronger the waves of each frequency and angle are to be. U-Nets that
must see every pixel learned in hours to leave each blurred photo as it is (docs/log.md); this learns from thousands of
photos in minutes.

What it undoes reaches sixteen pixels. In the photo shrunken to a half and to a quarter long smears are short ones, so
it looks at these as well, and of what is coarse in the change the size that sees more to do has the say.
"""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .filtering import convolve
from .spectrum import ANGLES, FREQUENCIES, TILE, spectrum

#: How far the sharpening reaches, pixels: what motion has smeared over sixteen swings on that far.
REACH = 23
#: How often the photo is halved and looked at again.
HALVINGS = 2
#: Squared powers of changes that cannot be seen: a thousandth of a step of 8 bits has 4e-21.
LITTLE = 1e-20


class FocusNet(nn.Module):
    """Spectrum of a photo -> how much of the waves of each frequency and angle to add; nothing at the start.

    Convolutions over the angle, which has no ends, with frequencies as channels: motion is the same whichever way it
    goes. They are told how slanting each angle is, for people build upright.
    """

    def __init__(self, hidden: int = 128, layers: int = 3):
        super().__init__()
        self.first = _over_angles(len(FREQUENCIES) + 1, hidden)
        self.rest = nn.ModuleList(_over_angles(2 * hidden, hidden) for _ in range(layers - 1))
        self.gains = nn.Conv1d(hidden, len(FREQUENCIES), 1)
        nn.init.zeros_(self.gains.weight)
        nn.init.zeros_(self.gains.bias)  # type: ignore[arg-type]

    def forward(self, seen_BFA: Tensor) -> Tensor:
        """`spectrum` -> gains (B, 24, 24), float32."""
        angle_A = torch.arange(ANGLES, device=seen_BFA.device) * (math.pi / ANGLES)
        slanting_B1A = (4 * angle_A).cos().expand(len(seen_BFA), 1, -1)
        h = torch.cat([seen_BFA, slanting_B1A], dim=1).to(self.first.weight.dtype)
        h = F.gelu(self.first(h))
        for layer in self.rest:
            with_all = torch.cat([h, h.mean(2, keepdim=True).expand_as(h)], dim=1)
            h = h + F.gelu(layer(with_all))
        return self.gains(h).float()

    def look(self, image_B3HW: Tensor) -> Tensor:
        """Gains (B, 24, 24) for whole images in [-1, 1]."""
        return self(spectrum(luma(image_B3HW)))

    def change(self, picture_B3HW: Tensor, toned_B3HW: Tensor, halvings: int = HALVINGS) -> Tensor:
        """What to add to the picture for the focus that the toned photo asks for, sides multiples of 2^halvings.

        Of what is coarse a share is that of the halved photo, by the squares of the powers: of a short smear the half
        sees little and would leave too much of it, of a long one the whole photo sees nothing.
        """
        change_B3HW = passed(picture_B3HW, self.look(toned_B3HW))
        height, width = (int(side) for side in picture_B3HW.shape[-2:])
        if not halvings or min(height, width) < 2 * TILE:  # from less than a tile nothing can be told
            return change_B3HW
        picture_B3hw, toned_B3hw, own_B3hw = (
            F.avg_pool2d(x, 2) for x in (picture_B3HW.float(), toned_B3HW.float(), change_B3HW)
        )
        coarse_B3hw = self.change(picture_B3hw, toned_B3hw, halvings - 1)
        own_B111, other_B111 = (x.square().mean((1, 2, 3), keepdim=True).square() for x in (own_B3hw, coarse_B3hw))
        share_B111 = other_B111 / (own_B111 + other_B111 + LITTLE)
        size = (height, width)
        return change_B3HW + share_B111 * F.interpolate(coarse_B3hw - own_B3hw, size, mode="bilinear")


def _over_angles(width: int, width_out: int) -> nn.Conv1d:
    """The last angle is beside the first: half a turn on, waves are the same."""
    return nn.Conv1d(width, width_out, 3, padding=1, padding_mode="circular")


def luma(image_B3HW: Tensor) -> Tensor:
    """BHW brightness of an image in [-1, 1], black and white one apart, float32."""
    weights = image_B3HW.new_tensor((0.299, 0.587, 0.114)).float()
    return (image_B3HW.float() * weights[:, None, None]).sum(1) / 2


def passed(image_B3HW: Tensor, gains_BFA: Tensor) -> Tensor:
    """So much of the image's waves of each frequency and angle as the gains say, float32; of what is flat nothing."""
    side = 2 * REACH + 1
    with torch.autocast("cpu" if gains_BFA.is_meta else gains_BFA.device.type, enabled=False):
        kernels_BN = gains_BFA.flatten(1) @ _kernels(gains_BFA.device)
        return convolve(image_B3HW.float(), kernels_BN.view(-1, side, side))


# Made on the CPU whatever device is the default, alike for all, and kept: copied to a device once.


@cache
def _kernels(device: torch.device) -> Tensor:
    """(576, 47 * 47): for each frequency and angle the kernel that passes waves about it, of sum 0, in a window."""
    with torch.inference_mode(False), torch.device("cpu"):
        whole = torch.fft.irfft2(_passing().to(torch.complex64), s=(TILE, TILE))
        place = torch.arange(-REACH, REACH + 1)
        window = (place * (math.pi / 2 / (REACH + 1))).cos()
        window = window[:, None] * window
        kernels = whole[:, place[:, None] % TILE, place % TILE] * window
        kernels = kernels - kernels.sum((1, 2), keepdim=True) * window / window.sum()
        return kernels.flatten(1).contiguous().to(device)


@cache
def responses() -> Tensor:
    """(576, 64 * 33): what each kernel of `passed` does to the waves of a tile, as rfft2 orders them; real."""
    with torch.inference_mode(False), torch.device("cpu"):
        side, place = 2 * REACH + 1, torch.arange(-REACH, REACH + 1) % TILE
        kernels = _kernels(torch.device("cpu")).view(-1, side, side)
        whole = torch.zeros(len(kernels), TILE, TILE)
        whole[:, place[:, None], place] = kernels
        return torch.fft.rfft2(whole).real.flatten(1)


def _passing() -> Tensor:
    """(576, 64, 33): shares of each wave of a tile about each frequency and angle, tents that add up to one.

    Between the lowest frequency and none they fall to nothing, beyond the highest they stay.
    """
    down, across = torch.fft.fftfreq(TILE)[:, None], torch.fft.rfftfreq(TILE)
    # In steps of the two grids, seen from each of their points.
    frequency = (torch.hypot(down, across) / FREQUENCIES[0]).clamp(max=len(FREQUENCIES))
    angle = torch.atan2(*torch.broadcast_tensors(down, across)) * (ANGLES / math.pi)
    steps_F11 = torch.arange(1, len(FREQUENCIES) + 1)[:, None, None]
    turns_A11 = torch.arange(ANGLES)[:, None, None]
    by_frequency = (1 - (frequency - steps_F11).abs()).clamp(min=0)
    by_angle = (1 - (torch.remainder(angle - turns_A11 + ANGLES / 2, ANGLES) - ANGLES / 2).abs()).clamp(min=0)
    return (by_frequency[:, None] * by_angle).flatten(0, 1)
