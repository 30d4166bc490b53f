"""Results -> the paper's tables, ours beside them, as Markdown, LaTeX or one HTML file."""

from .write import FORMATS, Options, report

__all__ = ["FORMATS", "Options", "report"]
