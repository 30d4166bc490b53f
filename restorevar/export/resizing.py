"""Resizing as matrix products: ONNX has no average over cells that do not divide the image."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode


class ResizingByMatrices(TorchFunctionMode):
    """Within it, `F.interpolate` to a fixed size by "area" or "bicubic" is two products with constant matrices.

    Both are linear and separable: a matrix for the rows, one for the columns, made by torch's own function. The sums
    are those of torch in another order.
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is F.interpolate and kwargs.get("mode") in ("area", "bicubic"):
            (image,), (height, width) = args, kwargs["size"]
            rows = _matrix(int(image.shape[-2]), int(height), kwargs["mode"])
            columns = _matrix(int(image.shape[-1]), int(width), kwargs["mode"])
            return rows @ image @ columns.T
        return function(*args, **kwargs)


@lru_cache(maxsize=256)
def _matrix(length: int, size: int, mode: str) -> torch.Tensor:
    """(size, length): what torch makes of each unit vector."""
    units = torch.eye(length)[None, :, :, None]
    return F.interpolate(units, size=(size, 1), mode=mode)[0, :, :, 0].T.contiguous()
