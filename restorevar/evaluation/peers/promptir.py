"""PromptIR (Potlapalli et al., NeurIPS 2023) through its demo.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from .command import Command
from .fitting import Fit
from .job import Job, slug
from .peer import Facts, Peer, keys


class PromptIR(Peer):
    """Its demo crops to multiples of 16, joins folder and file name without a slash, and takes any --tile for yes.

    It looks for weights below ckpt/ of the folder it runs in: there is a link to them in the job.
    """

    name = "promptir"
    facts = Facts(
        title="PromptIR",
        source="https://github.com/va1shn9v/PromptIR",
        commit="106159ab809101f2e25b6714195cd6fa9a938d36",
        licence="academic, non-commercial (LICENSE.md)",
        weights="model.ckpt from the releases or the Drive folder of its README, at ckpt/model.ckpt",
        needs="Python 3.8, PyTorch 1.8.1, lightning 2.0.1; runs on CPU too",
        notes=(
            "public weights know noise, rain and haze; the paper's rows are of weights retrained by its authors, "
            "not released: tables 1 and 2 cannot be reproduced",
            "outputs are truncated to 8 bits, not rounded",
        ),
    )
    files = ("demo.py", "net/model.py", "utils/dataset_utils.py")
    fit = Fit(multiple=16)
    options: ClassVar[Mapping[str, Any]] = {"tile": 0, "overlap": 32}
    weights = "ckpt/model.ckpt"
    hints: ClassVar[Mapping[str, str]] = {
        "load_from_checkpoint": "newer Lightning wants PromptIRModel.load_from_checkpoint(...) on the class: edit "
        "demo.py, or take lightning 2.0.1",
    }

    def commands(self, job: Job) -> list[Command]:
        commands = []
        for task, items in job.by_task().items():
            arguments = ["{python}", "{checkout}/demo.py", "--ckpt_name", "model.ckpt"]
            arguments += ["--test_path", f"{{job}}/input/{slug(task)}/", "--output_path", "{job}/out/"]
            if job.options["tile"]:  # no --tile False: it reads any text as yes
                tile = job.options["tile"] // 8 * 8
                arguments += ["--tile", "True", "--tile_size", str(tile)]
                arguments += ["--tile_overlap", str(job.options["overlap"])]
            links = {"{job}/ckpt/model.ckpt": "{weights}"}
            commands.append(Command(tuple(arguments), keys(items), links=links, folders=("{job}/ckpt",)))
        return commands
