"""InstructIR (Conde et al., ECCV 2024) through a loop of ours over its networks: it has no script for a folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from .drivers import DrivenPeer
from .job import Job
from .peer import Facts


class InstructIR(DrivenPeer):
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
    weights = "models"

    def weight_files(self, job: Job) -> tuple[str, ...]:
        return "im_instructir-7d.pt", "lm_instructir-7d.pt"
