"""Large jobs: many photos on many slots, each a model on a GPU or on some cores; on one machine or on a Ray cluster.

    listing.py, manifests.py -> shards.py -> processes.py | cluster.py -> slot.py -> reports.py

Photos are done at least once, and as often as that takes: an output is written whole or not at all, the same each time.
What a killed worker had in its hands is done by another; what fails is tried again if that may help, and else put on a
list of dead letters. A job that was ended goes on when it is started again: outputs that exist are skipped.
"""

from .listing import Source
from .reports import Reports
from .running import Plan, run_plan
from .slot import Settings, Slot

__all__ = ["Plan", "Reports", "Settings", "Slot", "Source", "run_plan"]
