"""All peers by name, in the order of the paper's table 1."""

from __future__ import annotations

import re

from ...errors import UserError
from .autodir import AutoDIR
from .awracle import AWRaCLe
from .baseline import Regression
from .dcpt import DCPT
from .dfpir import DFPIR
from .diff_plugin import DiffPlugin
from .instructir import InstructIR
from .no_op import NoOp
from .peer import Peer
from .pixwizard import PixWizard
from .promptir import PromptIR
from .published import PublishedRestoreVAR

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        PromptIR(),
        InstructIR(),
        AWRaCLe(),
        DCPT(),
        DFPIR(),
        DiffPlugin(),
        AutoDIR(),
        PixWizard(),
        PublishedRestoreVAR(),
        Regression(),
        NoOp(),
    )
}


def available_peers() -> list[str]:
    return list(PEERS)


def find_peer(name: str) -> Peer:
    """By name or by the name in the paper's tables, however it is spelled. Raises UserError with the known ones."""
    for peer in PEERS.values():
        if plain(name) in (plain(peer.name), plain(peer.title)):
            return peer
    raise UserError(f"no peer {name}; there are {', '.join(PEERS)}")


def plain(name: str) -> str:
    """What two spellings of a method or data set have in common."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
