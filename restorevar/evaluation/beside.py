"""Other methods beside the model that `restorevar results` is about: who they are, and for which pairs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..checkpoints.finding import SHIPPED
from ..errors import UserError
from ..models.kinds import kind_of
from ..pipeline import Restorer
from .methods import CLASSICS, Method, ModelMethod, shown_name
from .pairs import Pair

#: What the others are scored under: what a user gets.
PROTOCOL = "saved-8bit"
#: Of the metrics asked for, those that the others are scored by.
METRICS = ("psnr", "ssim", "gmsd", "ciede2000", "sharpness", "sharpness-error")

_KINDS = {
    "restorevar": "restores by next-scale prediction",
    "regression": "regresses the clean photo directly, without next-scale prediction",
}


@dataclass(frozen=True)
class Beside:
    """Another method.

    told    as --beside says it, without the place that it has on this machine
    about   what it is, in words that may follow its name
    tasks   that it takes; None: all
    """

    method: Method
    told: str
    about: str
    tasks: Sequence[str] | None = None

    def pairs(self, pairs: Iterable[Pair]) -> list[Pair]:
        """Those with a truth, of its tasks."""
        return [p for p in pairs if p.target is not None and (self.tasks is None or p.task in self.tasks)]


def find_beside(name: str, device: str = "auto", dtype: str = "auto") -> Beside:
    """A classic by its name, or a model by name, folder or Hub id. Raises UserError if it is none of them."""
    if (classic := CLASSICS.get(name)) is not None:
        return Beside(classic, name, classic.about, classic.tasks)
    if name not in SHIPPED and "/" not in name and not Path(name).exists():
        raise UserError(f"--beside {name}: neither one of {', '.join(CLASSICS)} nor a model")
    restorer = Restorer.from_pretrained(name, device, dtype)
    kind = kind_of(restorer.model.config)
    restorer.name = shown_name(name)
    method = ModelMethod(restorer)
    about = f"a model of the kind {kind} ({_KINDS.get(kind, 'of ours')}), sha256 {method.sha256[:12]}"
    return Beside(method, Path(name).absolute().name if Path(name).is_dir() else name, about)
