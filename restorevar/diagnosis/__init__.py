"""Which of the five degradations a photo shows, and how strongly; photos that need nothing are told so.

    photo -> view (shrunken) -> measures (of blocks and of the whole) -> network -> Diagnosis

Trained on synthetic degradations of clean photographs (examples.py, training.py); independent of the restoring model,
so that the one can be replaced without the other.
"""

from .diagnose import diagnose
from .report import NAMES, Diagnosis

__all__ = ["NAMES", "Diagnosis", "diagnose"]
