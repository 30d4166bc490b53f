"""Pages of one file: style, script and pictures inside, nothing fetched from anywhere, whoever opens them."""

from .document import SHARED, Page
from .pictures import Picture, embed, open_picture, picture_of

__all__ = ["SHARED", "Page", "Picture", "embed", "open_picture", "picture_of"]
