"""Metrics of pyiqa: LPIPS, MUSIQ, CLIP-IQA as in the paper, and by `pyiqa:NAME` whatever else it has.

pyiqa (IQA-PyTorch) is under the PolyForm Noncommercial licence, downloads weights when a metric is first used, and
needs torchvision: hence an extra of its own, imported only when one of its metrics is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import UserError
from .metric import Metric, Scorer, need

PREFIX = "pyiqa:"
_REMEDY = 'pip install "restorevar[iqa]" (pyiqa: its licence allows non-commercial use only)'


def _pyiqa() -> Any:
    return need("pyiqa", _REMEDY)


def _start(name: str) -> Callable[[str], Scorer]:
    def start(device: str) -> Scorer:
        import torch

        pyiqa = _pyiqa()
        try:
            metric = pyiqa.create_metric(name, device=torch.device(device), as_loss=False)
        except Exception as error:  # no weights, no network, no such metric: of any kind
            cause = " ".join(f"{error}".split()) or type(error).__name__
            raise UserError(
                f"pyiqa cannot start {name} ({cause}); its weights are downloaded on first use: let it go online once,"
                " or copy its cache from where it did"
            ) from None

        def score(image: np.ndarray, reference: np.ndarray | None) -> float:
            pictures = [image] if reference is None else [image, reference]
            tensors = [torch.from_numpy(np.ascontiguousarray(p, np.float32)).permute(2, 0, 1)[None] for p in pictures]
            with torch.inference_mode():
                return float(metric(*(t.to(device) for t in tensors)))

        return score

    return start


def pyiqa_metric(name: str) -> Metric:
    """The Metric of `pyiqa:NAME`; which way it points and what it needs are asked of pyiqa. Raises UserError."""
    own = name.removeprefix(PREFIX)
    _pyiqa()
    known = need("pyiqa.default_model_configs", _REMEDY).DEFAULT_CONFIGS
    if own not in known:
        raise UserError(f"pyiqa has no metric {own}; it has {', '.join(known)}")
    config = known[own]
    reference = config.get("metric_mode") == "FR"
    return _metric(name, own, not config.get("lower_better", False), reference, "its default", own)


def _metric(name: str, title: str, higher: bool, reference: bool, how: str, own: str) -> Metric:
    return Metric(name, title, higher, reference, "pyiqa", f"{own}: {how}", _start(own), needs_colour=True)


METRICS = (
    _metric("lpips", "LPIPS", False, True, "AlexNet, v0.1, on [-1, 1]", "lpips"),
    _metric("musiq", "MUSIQ", True, False, "trained on KonIQ-10k", "musiq"),
    _metric("clipiqa", "CLIPIQA", True, False, "CLIP-IQA", "clipiqa"),
)
