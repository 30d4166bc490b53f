"""The blind study: people rate the outputs of several methods without knowing whose they are.

make.py builds the page and its key, ratings.py reads what comes back, analyse.py makes the figures of the paper's
tables 3 and 7.
"""

from .analyse import UNITS, Analysis, analyse
from .key import CRITERIA, Criterion, Key, Question
from .make import Options, make
from .ratings import Ratings, read_ratings

__all__ = [
    "CRITERIA",
    "UNITS",
    "Analysis",
    "Criterion",
    "Key",
    "Options",
    "Question",
    "Ratings",
    "analyse",
    "make",
    "read_ratings",
]
