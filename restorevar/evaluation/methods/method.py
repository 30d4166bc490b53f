"""The interface of everything that is scored, and the simplest thing behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from ..pairs import Pair


class Method(Protocol):
    """A way to restore an image.

    name       as it stands in rows and tables
    sha256     of its weights, or of its outputs; "" if there is nothing to hash
    settings   what results depend on besides; plain JSON types, the same from start to end of a run
    """

    @property
    def name(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    @property
    def settings(self) -> Mapping[str, Any]: ...

    def restore(self, pair: Pair, image: np.ndarray) -> np.ndarray:
        """The restored [H, W, 3]: float32 in [0, 1], or uint8 where there were 8 bits already.

        `image` is the degraded image of the pair as the protocol wants it restored, uint8 [H, W, 3]; the result has
        its height and width. Raises UserError where it cannot be had.
        """
        ...


class Identity:
    """The degraded image itself: what doing nothing scores."""

    name = "input"
    sha256 = ""
    settings: Mapping[str, Any] = {}

    def restore(self, pair: Pair, image: np.ndarray) -> np.ndarray:
        return image
