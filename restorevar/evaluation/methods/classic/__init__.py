"""Ways to mend photos from before networks, as yardsticks: what a user could do without any model. One file each.

They need the extra `eval` and are scored only; nothing that restores imports them.
"""

from .clahe import CLAHE
from .dark_channel import DARK_CHANNEL
from .lime import LIME
from .method import Classic

CLASSICS: dict[str, Classic] = {classic.name: classic for classic in (DARK_CHANNEL, CLAHE, LIME)}

__all__ = ["CLASSICS", "Classic"]
