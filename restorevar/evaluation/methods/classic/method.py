"""Classic: a method without weights, which knows what it is for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...pairs import Pair


@dataclass
class Classic:
    """A Method that is a function and its numbers.

    tasks      what it is for (pairs.TASKS); told a photo of another task it would spoil it
    about      what it is, with its source, in words that may follow its name
    function   (image, **settings) -> image, both [H, W, 3] floats in [0, 1]; the result may leave that range.
               Raises UserError where a library is missing
    settings   the function's numbers, all of them
    """

    name: str
    tasks: tuple[str, ...]
    about: str
    function: Callable[..., np.ndarray]
    settings: Mapping[str, Any]
    sha256: str = ""

    def takes(self, task: str) -> bool:
        return task in self.tasks

    def restore(self, pair: Pair, image: np.ndarray) -> np.ndarray:
        """float32 [H, W, 3] in [0, 1] of uint8 [H, W, 3]. Raises UserError where the extra `eval` is missing."""
        restored = self.function(image / 255, **self.settings)
        return np.clip(restored, 0, 1).astype(np.float32)
