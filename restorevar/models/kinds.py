"""The kinds of networks: what photos are restored with and training trains, by the name in a model folder."""

from __future__ import annotations

from .config import RestoreVARConfig
from .regression import RegressionConfig, RegressionNet
from .restorevar import RestoreVAR

#: They share `restore`, `check`, `fidelity_weight` and `config`, the configs what a caller needs to know of a window.
Model = RestoreVAR | RegressionNet
ModelConfig = RestoreVARConfig | RegressionConfig

CONFIGS: dict[str, type[ModelConfig]] = {"restorevar": RestoreVARConfig, "regression": RegressionConfig}


def kind_of(config: ModelConfig) -> str:
    return next(name for name, kind in CONFIGS.items() if isinstance(config, kind))


def build_model(config: ModelConfig) -> Model:
    """The network of a config, with fresh weights."""
    return RestoreVAR(config) if isinstance(config, RestoreVARConfig) else RegressionNet(config)
