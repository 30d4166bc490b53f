"""The networks of RestoreVAR and their configs. Imports torch and itself, nothing else of the package.

Tensor names end in their shape. The legend for this folder; lower case = current scale, upper case = whole:

    B batch   C latent channels   H W final latent grid   h w grid of the current scale   l = h*w
    L all scales together   M condition tokens   D model width   N heads   K head width   V codebook size
"""

from .config import FidelityConfig, RefinerConfig, RestoreVARConfig, ScaleSchedule, TransformerConfig, VQVAEConfig
from .kinds import Model, ModelConfig, build_model, kind_of
from .regression import RegressionConfig, RegressionNet
from .restorevar import OnScale, RestoreVAR, ScaleEvent

__all__ = [
    "FidelityConfig",
    "Model",
    "ModelConfig",
    "OnScale",
    "RefinerConfig",
    "RegressionConfig",
    "RegressionNet",
    "RestoreVAR",
    "RestoreVARConfig",
    "ScaleEvent",
    "ScaleSchedule",
    "TransformerConfig",
    "VQVAEConfig",
    "build_model",
    "kind_of",
]
