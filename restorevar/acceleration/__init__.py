"""How fast a result comes, not what it is: device, precision, layout, and faster twins of the slowest methods.

The models' own code stays the reference; tests/test_acceleration.py holds the twins against it.
"""

from .choice import DTYPES, computes_bf16, device_name, pick_device, pick_dtype, synchronize
from .prepare import prepare, release

__all__ = ["DTYPES", "computes_bf16", "device_name", "pick_device", "pick_dtype", "prepare", "release", "synchronize"]
