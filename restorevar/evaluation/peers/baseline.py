"""The regression baseline of this repository, in a process of its own like the others."""

from __future__ import annotations

import json
from pathlib import Path

from ...errors import UserError
from .command import Command
from .job import Job
from .peer import Facts, Peer, keys


class Regression(Peer):
    """`restorevar restore` with the folder of a model from `restorevar train --recipe regression`."""

    name = "regression"
    facts = Facts(
        title="regression",
        source="this package",
        commit="",
        licence="MIT",
        weights="none is shipped: train one (restorevar train --recipe regression), and give its folder with --weights",
        needs="this package; --python is the interpreter that has it",
        notes=("the same data and time as the model that it is compared with, by its training",),
    )

    def weight_files(self, job: Job) -> tuple[str, ...]:
        return "model.safetensors", "config.json"

    def check_weights(self, job: Job, weights: Path) -> None:
        config = weights / "config.json"
        try:
            kind = json.loads(config.read_text(encoding="utf-8")).get("kind")
        except (OSError, ValueError, AttributeError):
            kind = None
        if kind != "regression":
            raise UserError(f"{config}: not the config of a regression network; other models go with --model")

    def commands(self, job: Job) -> list[Command]:
        arguments = ("{python}", "-m", "restorevar", "restore", "input", "--out", "out", "--model", "{weights}")
        return [Command((*arguments, "--overwrite", "--quiet"), keys(job.items))]

    def key_of(self, job: Job, path: str) -> str | None:
        return super().key_of(job, path.rpartition("/")[2])
