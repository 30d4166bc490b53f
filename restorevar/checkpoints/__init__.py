"""Model folders: weights as safetensors, a config with their sha256, a card. Save, find, load, share.

Imported on first use: what is here, its sizes and its figures are told without waiting for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .card import Card as Card
    from .finding import available_models as available_models
    from .finding import resolve_model as resolve_model
    from .folders import CONFIG as CONFIG
    from .folders import WEIGHTS as WEIGHTS
    from .folders import file_sha256 as file_sha256
    from .loading import LoadedModel as LoadedModel
    from .loading import load_model as load_model
    from .saving import save_model as save_model

_HOMES = {
    "CONFIG": ".folders",
    "WEIGHTS": ".folders",
    "file_sha256": ".folders",
    "Card": ".card",
    "available_models": ".finding",
    "resolve_model": ".finding",
    "LoadedModel": ".loading",
    "load_model": ".loading",
    "save_model": ".saving",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name], __name__), name)
