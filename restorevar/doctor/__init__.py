"""Is this machine ready to restore, and how fast? `examine` looks at one thing after another and never gives up.

Nothing heavy is imported before it is asked about: a torch that is broken is a finding, not a traceback.
"""

from .examining import examine
from .finding import Finding, Grade

__all__ = ["Finding", "Grade", "examine"]
