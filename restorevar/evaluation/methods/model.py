"""ModelMethod: one of our models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...pipeline import Restorer
from ..controls import control
from ..pairs import Pair


def shown_name(name: str) -> str:
    """Of a model in a folder the last two parts of its path: where it lies on this machine is nobody's business."""
    return "/".join(Path(name).absolute().parts[-2:]) if Path(name).is_dir() else name


class ModelMethod:
    """A Restorer as it is, at another weight, or with a control in place of its latent (controls.py).

    Settings are those of the start: a Restorer that runs out of memory takes smaller windows from then on, and rows of
    one run are to belong together. Left out are the number of windows at once, for nothing depends on it, and a
    strength of 1.
    Raises UserError for a weight or a control that the model cannot have.
    """

    def __init__(self, restorer: Restorer, fidelity: float | None = None, latent: str | None = None):
        restorer = restorer.at(fidelity=fidelity)
        if latent is not None:
            control(restorer, latent)
        self.restorer = restorer
        self.name, self.sha256 = restorer.name, restorer.sha256
        settings = restorer.settings
        del settings["batch"]
        if restorer.strength == 1:
            del settings["strength"]
        self.settings: Mapping[str, Any] = settings | ({} if latent is None else {"latent": latent})

    def restore(self, pair: Pair, image: np.ndarray) -> np.ndarray:
        """float32, before rounding. An image that the protocol squashed to the model's window runs whole."""
        return self.restorer.restore_floats(image)
