"""What the service does under load: asked as strangers would ask, every answer checked to be the asker's own."""

from .run import LoadOptions, load_test

__all__ = ["LoadOptions", "load_test"]
