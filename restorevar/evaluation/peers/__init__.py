"""The compared methods, each in its own environment: one small file each.

    peer = find_peer("promptir")
    method = run_peer(peer, pairs, Setup(checkout, python, weights), out)    # a FolderMethod, to be scored

peer.py      what an adapter says: its command, the sizes it takes, where it leaves which output
preparing.py -> running.py (or the user, by hand) -> collecting.py, with a Job (job.py) between them
places.py    where the user has it; process.py: one command there
checks.py    what outputs are refused for

No code and no weights of a peer are in this package.
"""

from .catalogue import available_peers, find_peer
from .peer import Peer, Setup
from .steps import run_peer

__all__ = ["Peer", "Setup", "available_peers", "find_peer", "run_peer"]
