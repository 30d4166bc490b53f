"""InstructIR (Conde et al., ECCV 2024) through a loop of ours over its networks: it has no script for a folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from .command import Command
from .drivers import copy_driver
from .fitting import Fit
from .job import Job
from .peer import Facts, Peer, keys


class InstructIR(Peer):
    """The instruction decides the result, so there is one, in our words, for each task; --set prompt= for another.

    Its evaluation draws instructions at random and crops to multiples of 16; this does neither. The networks pad with
    zeros where sides are no multiples of 16, so we pad by reflection before.
    """

    name = "instructir"
    facts = Facts(
        title="InstructIR",
        source="https://github.com/mv-lab/InstructIR",
        commit="3c0299ff6dc32cdd218ec02abbb92febab6fcfb2",
        licence="MIT",
        weights="im_instructir-7d.pt and lm_instructir-7d.pt from the Hugging Face Hub, marcosv/InstructIR, in one "
        "folder; the language model TaylorAI/bge-micro-v2 comes from the Hub at the first run",
        needs="Python 3.9, torch, transformers, PyYAML; runs on CPU too",
        notes=(
            "knows no snow: neither does its row in table 1",
            "public weights are of 7 tasks; which instructions the paper gave it is not told",
        ),
    )
    files = ("models/instructir.py", "text/models.py", "configs/eval5d.yml")
    texts: ClassVar[Mapping[str, str] | None] = {
        "haze": "please clear the haze and fog in this photo",
        "rain": "please take the rain out of this photo",
        "lowlight": "this photo is too dark, please brighten it",
        "blur": "this photo is blurry, please make it sharp",
        "noise": "please remove the noise in this photo",
    }
    fit = Fit(multiple=16)
    resumes = True
    options: ClassVar[Mapping[str, Any]] = {"prompt": "", "device": "auto"}
    weights = "models"

    def weight_files(self, job: Job) -> tuple[str, ...]:
        return "im_instructir-7d.pt", "lm_instructir-7d.pt"

    def write(self, job: Job) -> None:
        copy_driver("instructir.py", job)
        self.write_list(job)

    def commands(self, job: Job) -> list[Command]:
        arguments = ("{python}", "{job}/driver/instructir.py", "--checkout", "{checkout}", "--weights", "{weights}")
        places = ("--list", "{job}/list.json", "--out", "{job}/out", "--device", str(job.options["device"]))
        return [Command((*arguments, *places), keys(job.items))]
