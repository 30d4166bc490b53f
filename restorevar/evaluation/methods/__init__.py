"""What is scored: one of our models, a folder of outputs, or nothing at all. One file each; peers/ builds on these."""

from .folder import FolderMethod
from .method import Identity, Method
from .model import ModelMethod

__all__ = ["FolderMethod", "Identity", "Method", "ModelMethod"]
