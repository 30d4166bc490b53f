"""Pages of one file: style, script and pictures inside, nothing fetched from anywhere, whoever opens them."""

from .document import Page
from .pictures import Picture, embed, open_picture

__all__ = ["Page", "Picture", "embed", "open_picture"]
