"""Metric: one number of one image, and what is needed to compute it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal

import numpy as np

from ...errors import UserError

#: (image, reference) -> number. Both are float [H, W, 3] or, of protocols that look at luma alone, [H, W], in [0, 1]
#: and of one size; the reference is None for metrics that need none. Raises UserError for images it cannot judge.
Scorer = Callable[[np.ndarray, "np.ndarray | None"], float]


#: Which values of a metric are.
Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Metric:
    """A metric by name. It costs nothing until `start`.

    title              for tables
    library            the distribution whose version belongs to the numbers; `how` it is asked
    start              device -> Scorer; imports and loads. UserError with the remedy where something is missing
    needs_reference    it compares with the truth
    needs_colour       it cannot judge luma alone
    digits             after the point, in tables
    """

    name: str
    title: str
    higher_is_better: bool
    needs_reference: bool
    library: str
    how: str
    start: Callable[[str], Scorer]
    needs_colour: bool = False
    digits: int = 3

    @property
    def better(self) -> Better:
        return "higher" if self.higher_is_better else "lower"

    @property
    def implementation(self) -> str:
        """Library, version, and how it is asked."""
        return f"{self.library} {version_of(self.library)}, {self.how}"


def version_of(distribution: str) -> str:
    """Of an installed distribution; "missing" if it is not."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "missing"


def need(module: str, remedy: str) -> Any:
    """The module, imported. Raises UserError naming its distribution and the remedy."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = (error.name or module).split(".")[0]
        raise UserError(f"needs {name}, which is not installed: {remedy}") from None


def need_eval(module: str) -> Any:
    """A module that the extra `eval` brings."""
    return need(module, 'pip install "restorevar[eval]"')


def luma(image: np.ndarray) -> np.ndarray:
    """[H, W] gray of an image, full range, Rec. 601 (MATLAB's rgb2gray); luma stays as it is."""
    return image if image.ndim == 2 else image @ np.array([0.299, 0.587, 0.114], image.dtype)
