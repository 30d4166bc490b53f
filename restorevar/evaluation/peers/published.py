"""RestoreVAR as published by its authors (Rajagopalan et al., ICLR 2026) through their infer.py."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from ...data.manifest import write_json
from .command import Command
from .fitting import Fit
from .job import Item, Job
from .peer import Facts, Peer, keys

#: It stops after 5,001 images of a list.
_AT_ONCE = 5000
#: Neither GoPro nor REVIDE (whose names it changes), CDD nor LOLBlur (which it writes as JPEG).
_SET = "images"


class PublishedRestoreVAR(Peer):
    """It squashes every image to 512x512 and writes input, result and truth in one strip; a truth has to exist, so the
    input stands in for it. The degradation in its list is not used by the model.

    The same weights run in this package, in any size: `restorevar convert`, then --model.
    """

    name = "restorevar-published"
    facts = Facts(
        title="RestoreVAR",
        source="https://github.com/sudraj2002/RestoreVAR",
        commit="d452d5a5163541ab720c2db1e8ccc6187532a3c5",
        licence="none",
        weights="vae_restorevar.ckpt and restorevar.pth from the SharePoint link of its README, in ckpts/",
        needs="Python 3.9, PyTorch 2.2.1, torchmetrics 1.7.1; without a GPU it takes the CPU",
        notes=(
            "scores of table 1 are computed before saving; what it saves is truncated to 8 bits",
            "results are 512x512 and stretched back",
        ),
    )
    files = ("infer.py", "all_args.py", "models/var.py")
    fit = Fit(square=512)
    weights = "ckpts"

    def weight_files(self, job: Job) -> tuple[str, ...]:
        return "vae_restorevar.ckpt", "restorevar.pth"

    def write(self, job: Job) -> None:
        for number, items in enumerate(_chunks(job.items)):
            rows = [
                {"image_path": item.place, "target_path": item.place, "degradation": "Mixed", "dataset": _SET}
                for item in items
            ]
            write_json(rows, job.folder / f"list-{number}.json")

    def commands(self, job: Job) -> list[Command]:
        commands = []
        for number, items in enumerate(_chunks(job.items)):
            arguments = ["{python}", "{checkout}/infer.py", "--model_depth", "16", "--result_dir", "{job}/out/"]
            arguments += ["--vae_ckpt", "{weights}/vae_restorevar.ckpt", "--var_ckpt", "{weights}/restorevar.pth"]
            arguments += ["--patch_nums", *map(str, (1, 2, 3, 4, 6, 9, 13, 18, 24, 32))]
            arguments += ["--json_path", f"{{job}}/list-{number}.json"]
            commands.append(Command(tuple(arguments), keys(items)))
        return commands

    def key_of(self, job: Job, path: str) -> str | None:
        match = re.fullmatch(rf"{_SET}/(\d{{6}})\.png", path)
        return match[1] if match else None

    def given_size(self, fed: tuple[int, int], size: tuple[int, int]) -> tuple[int, int] | None:
        return 3 * fed[0], fed[1]

    def extract(self, output: np.ndarray, fed: tuple[int, int]) -> np.ndarray:
        return output[:, fed[0] : 2 * fed[0]]


def _chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), _AT_ONCE):
        yield items[start : start + _AT_ONCE]
