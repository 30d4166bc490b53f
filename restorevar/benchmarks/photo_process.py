"""`python -m restorevar.benchmarks.photo_process REPORT restore ...`: the command, then its peak memory as JSON."""

import json
import runpy
import sys
from pathlib import Path

report = Path(sys.argv.pop(1))
try:
    runpy.run_module("restorevar", run_name="__main__", alter_sys=True)
finally:
    import torch

    from .timing import high_water

    device = torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else None
    report.write_text(json.dumps({"resident_bytes": high_water(), "device_bytes": device}))
