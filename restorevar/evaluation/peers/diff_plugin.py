"""Diff-Plugin (Liu et al., CVPR 2024) through its infer.py, an image a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from .command import Command
from .fitting import Fit
from .job import Job
from .peer import Facts, Peer

#: Tasks whose plugin starts from noise alone.
_FROM_NOISE = ("lowlight",)
#: Of every plugin.
_FILES = ("scb/config.json", "scb/diffusion_pytorch_model.bin", "tpb.pt")


class DiffPlugin(Peer):
    """Its output is input and result side by side, in temp_results/ of the folder it runs in whatever --save_root says.

    An image whose shorter side is below 512 it enlarges, and sides are rounded down to multiples of 8; so we enlarge
    and pad before. It reads all networks anew for every image: an interrupted run goes on where it was.
    """

    name = "diff-plugin"
    facts = Facts(
        title="Diff-Plugin",
        source="https://github.com/yuhaoliu7456/Diff-Plugin",
        commit="79e12bb46e01b498215fb385ce88099c75b2a7e5",
        licence="CC BY-NC-SA 4.0",
        weights="pre-trained/<task>/ of its repository (from GitHub itself: copies may lack the large files); Stable "
        "Diffusion 1.4 and CLIP ViT-L/14 come from the Hugging Face Hub",
        needs="Python 3.8, PyTorch 1.13.1, diffusers 0.17.0, transformers 4.28.1; a CUDA GPU",
        notes=("the task has to be told: one plugin for each", "24 GB of GPU memory for 1024x720, by its README"),
    )
    files = ("infer.py", "modules/SCB.py", "modules/TPB.py")
    #: Names of its plugins.
    texts: ClassVar[Mapping[str, str] | None] = {
        "haze": "dehaze",
        "rain": "derain",
        "snow": "desnow",
        "lowlight": "lowlight",
        "blur": "deblur",
    }
    fit = Fit(multiple=64, least=512)
    options: ClassVar[Mapping[str, Any]] = {"steps": 20, "seed": 42, "base": "CompVis/stable-diffusion-v1-4"}
    weights = "pre-trained"

    def weight_files(self, job: Job) -> tuple[str, ...]:
        plugins = [self.text(task, job.options) for task in job.by_task()]
        return tuple(f"{plugin}/{file}" for plugin in plugins for file in _FILES)

    def commands(self, job: Job) -> list[Command]:
        options = job.options
        commands = []
        for item in job.items:
            plugin = self.text(item.task, options)
            arguments = ["{python}", "{checkout}/infer.py", "--img_path", f"{{job}}/{item.place}"]
            arguments += ["--ckpt_dir", f"{{weights}}/{plugin}/", "--pretrained_model_name_or_path", options["base"]]
            arguments += ["--num_inference_steps", str(options["steps"]), "--seed", str(options["seed"])]
            if item.task in _FROM_NOISE:
                arguments.append("--inp_of_unet_is_random_noise")
            folder = "{job}/out"
            commands.append(Command(tuple(arguments), (item.key,), folder, folders=(f"{folder}/temp_results",)))
        return commands

    def key_of(self, job: Job, path: str) -> str | None:
        match = re.fullmatch(r"temp_results/(\d{6})\.png", path)
        return match[1] if match else None

    def given_size(self, fed: tuple[int, int], size: tuple[int, int]) -> tuple[int, int] | None:
        return 2 * fed[0], fed[1]

    def extract(self, output: np.ndarray, fed: tuple[int, int]) -> np.ndarray:
        return output[:, fed[0] :]
