"""Restore photographs from haze, rain, snow, low light and blur by next-scale visual autoregression.

from restorevar import Restorer

restorer = Restorer.from_pretrained("compact")
restorer("photo.jpg").save("restored.jpg")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.4.0"
__all__ = ["RestoreVAR", "Restorer", "__version__", "available_models"]

if TYPE_CHECKING:
    from .checkpoints.finding import available_models as available_models
    from .checkpoints.pretrained import RestoreVAR as RestoreVAR
    from .pipeline import Restorer as Restorer

_HOMES = {"RestoreVAR": ".checkpoints.pretrained", "Restorer": ".pipeline", "available_models": ".checkpoints.finding"}


def __getattr__(name: str) -> Any:
    """Import on first use: `restorevar --help` must not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name], __name__), name)
