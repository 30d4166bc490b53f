"""AutoDIR (Jiang et al., ECCV 2024) through its eval_w_SCM.py, an image a run; without its correction module."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from ...errors import UserError
from .command import Command
from .fitting import Fit
from .job import Job
from .peer import Facts, Peer


class AutoDIR(Peer):
    """Of every step it writes a result of the diffusion alone, which is what the paper scores, and one with its
    structural correction module.

    The degradation is told, which makes it one step. Left to find out by itself (--set mode=auto) it takes up to seven,
    each from the corrected result of the one before: then only the first is without the correction; and where it finds
    nothing to do it writes no result at all. Its --need-resize crops at random and is not used.
    """

    name = "autodir"
    facts = Facts(
        title="AutoDIR",
        source="https://github.com/jiangyitong/AutoDIR",
        commit="e342544321af306e187bf8dfca7b8abf31306339",
        licence="none (parts: CreativeML OpenRAIL-M)",
        weights="autodir.ckpt from the Drive folder of its README, at checkpoints/autodir.ckpt",
        needs="Python 3.8, PyTorch 2.1.1, k-diffusion, transformers 4.28.1, its own NAFNet, consistencydecoder; a "
        "CUDA GPU",
        notes=(
            "knows no snow, though table 1 has a row: what the authors told it there is not said",
            "768x768 at most on a GPU of 24 GB, by its author",
        ),
    )
    files = ("eval_w_SCM.py", "configs/generate.yaml", "stable_diffusion")
    #: Word for word as it was trained.
    texts: ClassVar[Mapping[str, str] | None] = {
        task: f"A photo needs {artifact} artifact reduction"
        for task, artifact in {
            "haze": "haze",
            "rain": "rain",
            "lowlight": "underexposure",
            "blur": "blur",
            "noise": "noise",
        }.items()
    }
    fit = Fit(multiple=64)
    #: The steps of the paper's table 5, and of the script; its README has 200.
    options: ClassVar[Mapping[str, Any]] = {"steps": 100, "seed": 0, "prompt": "", "mode": "told"}
    weights = "checkpoints/autodir.ckpt"

    def check_options(self, options: Mapping[str, Any]) -> None:
        if options["mode"] not in ("told", "auto"):
            raise UserError(f"mode of autodir is told or auto, not {options['mode']!r}")

    def text(self, task: str, options: Mapping[str, Any]) -> str | None:
        return "" if options["mode"] == "auto" else super().text(task, options)

    def changes(self, job: Job) -> bool:
        return job.options["mode"] == "told"

    def commands(self, job: Job) -> list[Command]:
        options = job.options
        commands = []
        for item in job.items:
            arguments = ["{python}", "{checkout}/eval_w_SCM.py", "--input", f"{{job}}/{item.place}"]
            arguments += ["--output", "{job}/out", "--ckpt", "{weights}"]
            arguments += ["--config", "{checkout}/configs/generate.yaml", "--cfg-text", "1"]
            arguments += ["--steps", str(options["steps"]), "--seed", str(options["seed"])]
            if text := self.text(item.task, options):
                arguments += ["--customize", text]
            path = ("{checkout}", "{checkout}/stable_diffusion")
            commands.append(Command(tuple(arguments), (item.key,), "{checkout}", python=path))
        return commands

    def key_of(self, job: Job, path: str) -> str | None:
        match = re.fullmatch(r"(\d{6})_step_0_result\.png", path)
        return match[1] if match else None

    def claim(self, job: Job, paths: Iterable[str]) -> dict[str, list[str]]:
        paths = list(paths)
        found = super().claim(job, paths)
        if job.options["mode"] == "auto":  # where it finds nothing to do, its copy of the input is all there is
            for path in paths:
                match = re.fullmatch(r"(\d{6})_input\.png", path)
                if match and match[1] not in found:
                    found[match[1]] = [path]
        return found

    def is_aside(self, path: str) -> bool:
        return re.fullmatch(r"\d{6}(_step_\d)?_(input|result|result_w_SCM)\.png", path) is not None
