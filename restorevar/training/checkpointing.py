"""Checkpoints of a running stage: written whole or not at all, checked when read, the last ones and the best kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..checkpoints import file_sha256
from ..errors import UserError, first_line

STATE = "state.json"
Tensors = dict[str, Tensor]


@dataclass
class Checkpoint:
    """Where a stage stands. `weights` are safetensors files by name; `optimizer` is loaded with weights_only."""

    step: int
    elapsed: float
    weights: dict[str, Tensors]
    optimizer: dict[str, Any]
    about: dict[str, Any] = field(default_factory=dict)  #: model config, data fingerprint, seed, best score


class Checkpoints:
    """`folder/<stage>-<step>/`: *.safetensors, optimizer.pt, state.json with the sha256 of each."""

    def __init__(self, folder: Path, stage: str, keep: int = 2):
        self.folder, self.stage, self.keep = folder, stage, keep

    def save(self, checkpoint: Checkpoint) -> Path:
        """Appears under its name only when complete; older ones than the last `keep` then go.

        Raises UserError where the disk is full or the folder cannot be written: what was there before is untouched.
        """
        final = self.folder / f"{self.stage}-{checkpoint.step:08d}"
        part = self.folder / f".{final.name}.part"
        try:
            self._drop(self.unfinished())
            part.mkdir(parents=True)
            for name, tensors in checkpoint.weights.items():
                save_file({k: v.detach().contiguous().cpu() for k, v in tensors.items()}, part / f"{name}.safetensors")
            torch.save(checkpoint.optimizer, part / "optimizer.pt")
            digests = {file.name: file_sha256(file) for file in sorted(part.iterdir())}
            state = {"format": 1, "stage": self.stage, "step": checkpoint.step, "elapsed": checkpoint.elapsed}
            (part / STATE).write_text(json.dumps(state | {"sha256": digests} | checkpoint.about, indent=1) + "\n")
            shutil.rmtree(final, ignore_errors=True)
            part.rename(final)
        except (OSError, RuntimeError) as error:  # torch.save tells of a full disk by a RuntimeError
            shutil.rmtree(part, ignore_errors=True)
            cause = getattr(error, "strerror", None) or first_line(error)
            raise UserError(f"{final}: the checkpoint could not be written ({cause}); the one before is kept") from None
        self._drop(self.all()[: -self.keep])
        return final

    def all(self) -> list[Path]:
        """Oldest first."""
        return sorted(p for p in self.folder.glob(f"{self.stage}-*") if p.is_dir())

    def unfinished(self) -> list[Path]:
        """What a process that was killed while it wrote left behind."""
        return list(self.folder.glob(f".{self.stage}-*.part"))

    def load_newest(self, warn: Callable[[str], None]) -> Checkpoint | None:
        """The newest that is whole; `warn` is told of each damaged one passed over. None where there is none."""
        for folder in reversed(self.all()):
            try:
                return _load(folder)
            except Exception as error:  # whatever a damaged file may cause
                warn(f"{folder}: damaged checkpoint passed over ({first_line(error)})")
        return None

    def clear(self) -> None:
        """Of a stage that is done. A checkpoint is several times the size of the model, and nothing will read it again;
        and a stage that is trained anew, its `.done` removed, must not resume at its end."""
        self._drop([*self.all(), *self.unfinished()])

    @staticmethod
    def _drop(folders: Sequence[Path]) -> None:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def _load(folder: Path) -> Checkpoint:
    state = json.loads((folder / STATE).read_text())
    for name, digest in state["sha256"].items():
        if file_sha256(folder / name) != digest:
            raise ValueError(f"{name} is not what was written")
    weights = {path.stem: load_file(path) for path in sorted(folder.glob("*.safetensors"))}
    optimizer = torch.load(folder / "optimizer.pt", weights_only=True, map_location="cpu")
    return Checkpoint(state["step"], state["elapsed"], weights, optimizer, state)
