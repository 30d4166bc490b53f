"""Maps of a large photo from maps of its parts, where these overlap the mean of all. Pure functions.

What a network says of a window, judging by that alone, is often a little wrong, and otherwise so than what it says of
the next. Asked of parts that overlap by half, each place is judged four times, and windows that share it are told the
same: what errs apart is averaged away, and no window differs from its neighbour (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .models.filtering import between_cells
from .tiling import plan

#: Of places in the photo, rows and columns, the maps (C, h, w), all of one size.
Look = Callable[[Sequence[tuple[slice, slice]]], Sequence[Tensor]]


class Mosaic:
    """Parts of a photo of (height, width), no larger than `window`, are looked at with `margin` pixels around them.

    `padded` is the height and width of what `look` then shows of each. It is asked for a row of parts when the first
    window needs them.
    """

    def __init__(
        self, size: tuple[int, int], window: tuple[int, int], margin: int, padded: tuple[int, int], look: Look
    ):
        self.parts = plan(*size, window, overlap=max(window) // 2)
        self.margin, self.padded = margin, padded
        self._look = look
        self._places = list(self.parts.places())
        self._rows: dict[int, Sequence[Tensor]] = {}

    def at(self, rows: slice, columns: slice, cell: int) -> Tensor:
        """Maps (C, height / cell, width / cell) of a window of the photo, with its margin and padded as the parts."""
        down, across = (self._shares(axis, part.start, cell) for axis, part in enumerate((rows, columns)))
        found = []
        for i, (weight_down, rows_at) in down.items():
            for j, (weight_across, columns_at) in across.items():
                maps = self._row(i)[j]
                high, wide = maps.shape[-2:]
                by_row = weight_down[:, None] * between_cells(rows_at, high)
                by_column = weight_across[:, None] * between_cells(columns_at, wide)
                found.append(by_row @ maps @ by_column.T)
        return torch.stack(found).sum(0)

    def _shares(self, axis: int, start: int, cell: int) -> dict[int, tuple[Tensor, Tensor]]:
        """Of the parts along an axis, those with a share in a window that starts there.

        What each counts at the window's cells, and where these lie in the part as it was shown, 0 to 1 of its side.
        """
        size = (self.parts.height, self.parts.width)[axis]
        starts = (self.parts.tops, self.parts.lefts)[axis]
        places = (torch.arange(self.padded[axis] // cell) + 0.5) * cell + start - self.margin
        shares = {}
        for i, (first, weights) in enumerate(zip(starts, self.parts.weights[axis], strict=True)):
            # What lies around the photo is judged by those that see its end.
            within = places.clamp(0, size - 1) - first
            counts = (within >= 0) & (within < len(weights))
            if counts.any():
                weight = weights[within.long().clamp(0, len(weights) - 1)] * counts
                shares[i] = weight, (places - first + self.margin) / self.padded[axis]
        return shares

    def _row(self, i: int) -> Sequence[Tensor]:
        if i not in self._rows:
            count = len(self.parts.lefts)
            self._rows[i] = self._look(self._places[i * count : (i + 1) * count])
        return self._rows[i]
