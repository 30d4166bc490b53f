"""What is scored: our model, a folder of outputs, a peer, or nothing at all. One file each."""

from .method import Identity, Method

__all__ = ["Identity", "Method"]
