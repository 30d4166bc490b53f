"""Rotary positions in two dimensions, over a pyramid of scales (paper section 3.3)."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from .config import Grid


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # a table first asked for during inference must serve training too
def rope_table(grids: tuple[Grid, ...], final: Grid, head_width: int, base: float, device: torch.device) -> Tensor:
    """Angles of every token of `grids`, one after another, as (cos, sin): shape (2, L, head_width / 2), float32.

    Half of a head turns with the row, half with the column. Coordinates are in cells of the `final` grid, so a
    token of a coarse map turns like the top left cell of the region that it covers.
    """
    frequencies = base ** (-torch.arange(0, head_width, 4, dtype=torch.float32) / head_width)
    angles = []
    for h, w in grids:
        rows = torch.arange(h, dtype=torch.float32) / h * final[0]
        columns = torch.arange(w, dtype=torch.float32) / w * final[1]
        row, column = torch.meshgrid(rows, columns, indexing="ij")
        angles.append(
            torch.cat([torch.outer(row.flatten(), frequencies), torch.outer(column.flatten(), frequencies)], 1)
        )
    table = torch.cat(angles)
    return torch.stack([table.cos(), table.sin()]).to(device)


def apply_rope(x_BNlK: Tensor, table_2lk: Tensor | None) -> Tensor:
    """Turn neighbouring pairs (0, 1), (2, 3), ... of the last axis; computed in float32, returned in x's dtype.

    None turns nothing: the positions are in the tokens already.
    """
    if table_2lk is None:
        return x_BNlK
    cos, sin = table_2lk
    even, odd = x_BNlK.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    return turned.flatten(-2).to(x_BNlK.dtype)
