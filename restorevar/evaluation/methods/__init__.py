"""What is scored: one of our models, a folder of outputs, a classic, or nothing at all. peers/ builds on these."""

from .classic import CLASSICS, Classic
from .folder import FolderMethod
from .method import Identity, Method
from .model import ModelMethod, shown_name

__all__ = ["CLASSICS", "Classic", "FolderMethod", "Identity", "Method", "ModelMethod", "shown_name"]
