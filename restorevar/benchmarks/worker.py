"""`python -m restorevar.benchmarks.worker FOLDER`: the other process of foreign.py."""

import sys
from pathlib import Path

from .foreign import serve

serve(Path(sys.argv[1]))
