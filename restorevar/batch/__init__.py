"""Many files: which ones, where to, one after the other. A bad file costs a line, not the rest."""

from .jobs import Job, Writing, count_pixels, find_inputs, is_done, plan_jobs
from .records import Record, append_record
from .running import run

__all__ = ["Job", "Record", "Writing", "append_record", "count_pixels", "find_inputs", "is_done", "plan_jobs", "run"]
