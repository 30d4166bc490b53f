"""PixWizard (Lin et al., ICLR 2025) through its sample_pixwizard.py."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ...data.manifest import write_json
from ...errors import UserError
from ..protocols import resized
from .command import Command
from .job import Job
from .peer import Facts, Peer, keys

#: Its sizes go from 4:1 to 1:4, in steps of 16 pixels; the nearest is never farther than this from what is asked.
_WIDEST, _NEAR = 4.0, 1.1


class PixWizard(Peer):
    """It resizes to the nearest of its own sizes and names outputs by their number in the list, so they are mapped by
    that number. Its data.json goes on from run to run: every job has a folder of its own.
    """

    name = "pixwizard"
    facts = Facts(
        title="PixWizard",
        source="https://github.com/AFeng-x/PixWizard",
        commit="cb39454ca1fe72ca41505c9cd3d5c54b412ad48e",
        licence="MIT (code); Gemma's terms for its text encoder",
        weights="the folder Afeng-x/PixWizard of the Hugging Face Hub, given with --weights; also google/gemma-2b "
        "(gated), stabilityai/sdxl-vae, and openai/clip-vit-large-patch14-336 in models/clip/ of the checkout",
        needs="Python 3.11, PyTorch 2.1.0, flash-attn, fairscale, diffusers, transformers; a CUDA GPU",
        notes=(
            "results are of 256 to 1024 pixels a side and stretched back: photos that are larger lose detail",
            "the instruction decides the result; which ones the paper gave it is not told",
        ),
    )
    files = ("sample_pixwizard.py", "models/model.py", "models/clip/clip-vit-large-patch14-336")
    texts: ClassVar[Mapping[str, str] | None] = {
        "haze": "Remove the haze from this image.",
        "rain": "Remove the rain from this image.",
        "snow": "Remove the snow from this image.",
        "lowlight": "Brighten this dark image.",
        "blur": "Remove the blur from this image.",
        "noise": "Remove the noise from this image.",
    }
    options: ClassVar[Mapping[str, Any]] = {
        "resolution": 512,
        "steps": 60,
        "seed": 3400,
        "prompt": "",
        "vae": "stabilityai/sdxl-vae",
        "gemma": "google/gemma-2b",
    }

    def check_options(self, options: Mapping[str, Any]) -> None:
        if options["resolution"] not in (512, 768, 1024):
            raise UserError(f"resolution of pixwizard is 512, 768 or 1024, not {options['resolution']}")
        if not options["seed"]:
            raise UserError("seed of pixwizard is not 0: it takes that for none")

    def weight_files(self, job: Job) -> tuple[str, ...]:
        return "consolidated_ema.00-of-01.pth", "model_args.pth"

    def write(self, job: Job) -> None:
        """The list in the order of the items; a truth has to exist, so the input stands in for it."""
        rows = [
            {
                "input_path": item.place,
                "target_path": item.place,
                "prompt": self.text(item.task, job.options),
                "task": "task",
                "dataset": "set",
            }
            for item in job.items
        ]
        write_json(rows, job.folder / "list.json")

    def commands(self, job: Job) -> list[Command]:
        options = job.options
        arguments = ["{python}", "-u", "{checkout}/sample_pixwizard.py", "ODE", "--ckpt", "{weights}", "--ema"]
        arguments += ["--image_save_path", "{job}/out", "--json_path", "{job}/list.json", "--image_root", "{job}"]
        arguments += ["--resolution", str(options["resolution"]), "--sampling-method", "euler"]
        arguments += ["--num_sampling_steps", str(options["steps"]), "--seed", str(options["seed"])]
        arguments += ["--text_cfg_scale", "4.0", "--image_cfg_scale", "1.0", "--time_shifting_factor", "1"]
        arguments += ["--sdxl_vae_path", options["vae"], "--tokenizer_path", options["gemma"]]
        arguments += ["--clip_tokenizer_path", "models/clip/clip-vit-large-patch14-336"]
        return [Command(tuple(arguments), keys(job.items), "{checkout}")]

    def key_of(self, job: Job, path: str) -> str | None:
        match = re.fullmatch(r"images/task_set_(\d+)_\d+x\d+\.png", path)
        if match is None or int(match[1]) >= len(job.items):
            return None
        return job.items[int(match[1])].key

    def is_aside(self, path: str) -> bool:
        return re.fullmatch(r"images/task_set_\d+_\d+x\d+_(input|gt)\.png", path) is not None

    def given_size(self, fed: tuple[int, int], size: tuple[int, int]) -> tuple[int, int] | None:
        asked = min(max(fed[0] / fed[1], 1 / _WIDEST), _WIDEST)
        near = abs(math.log(size[0] / size[1] / asked)) <= math.log(_NEAR)
        return size if near and not size[0] % 16 and not size[1] % 16 else None

    def extract(self, output: np.ndarray, fed: tuple[int, int]) -> np.ndarray:
        return resized(output, fed)
