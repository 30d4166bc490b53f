"""DCPT (Hu et al., ICLR 2025) through its BasicSR test script."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from ...data.manifest import write_json
from ...errors import UserError
from .command import Command
from .fitting import Fit
from .job import Job
from .peer import Facts, Peer, keys

#: The networks of its four public option files (options/all_in_one/test), as BasicSR reads them.
NETWORKS: dict[str, dict[str, Any]] = {
    "nafnet": {
        "type": "NAFNetBaseline",
        "width": 64,
        "enc_blk_nums": [1, 1, 1, 28],
        "middle_blk_num": 1,
        "dec_blk_nums": [1, 1, 1, 1],
        "window_size": 16,
    },
    "promptir": {"type": "PromptIR", "window_size": 8},
    "restormer": {"type": "Restormer", "window_size": 8},
    "swinir": {
        "type": "SwinIR",
        "embed_dim": 180,
        "depths": [6] * 6,
        "num_heads": [6] * 6,
        "mlp_ratio": 2.0,
        "window_size": 8,
        "upscale": 1,
    },
}
_RUN = "restorevar"
_SET = "images"


class DCPT(Peer):
    """Its loop fails without truths, so the inputs stand in for them and no metric is asked for.

    It writes below results/ of the folder above its script: it is called through a link in the job, so that the
    checkout stays as it is. JSON is YAML, hence the option file.
    """

    name = "dcpt"
    facts = Facts(
        title="DCPT",
        source="https://github.com/MILab-PKU/dcpt",
        commit="0889edefbd8245f7d276eddf15d2333bf5cef41c",
        licence="none",
        weights="dcpt_nafnet_5d.pth (or promptir, restormer, swinir) from the Drive folder of its README, in "
        "pretrained_models/",
        needs="Python 3.10, PyTorch 2.0.1 with CUDA; it fails without a GPU even when told to use none",
        notes=(
            "trained on rain, noise, haze, blur and low light, not on snow: neither has its row in table 1",
            "the paper does not name the backbone; its 67.88 M parameters (table 6) are those of the NAFNet here",
        ),
    )
    files = ("basicsr/test.py", "basicsr/models/sr_model.py")
    fit = Fit(multiple=16)
    options: ClassVar[Mapping[str, Any]] = {"backbone": "nafnet"}
    weights = "pretrained_models"
    hints: ClassVar[Mapping[str, str]] = {"_lazy_init|Found no NVIDIA": "it runs on CUDA GPUs only"}

    def check_options(self, options: Mapping[str, Any]) -> None:
        if options["backbone"] not in NETWORKS:
            raise UserError(f"backbone of dcpt is one of {', '.join(NETWORKS)}, not {options['backbone']!r}")

    def weight_files(self, job: Job) -> tuple[str, ...]:
        return (f"dcpt_{job.options['backbone']}_5d.pth",)

    def write(self, job: Job) -> None:
        sets = {}
        for number, items in enumerate(job.by_task().values()):
            folder = items[0].place.rpartition("/")[0]
            sets[f"test_{number}"] = {
                "name": _SET,
                "type": "PairedImageDataset",
                "dataroot_lq": folder,
                "dataroot_gt": folder,
                "io_backend": {"type": "disk"},
            }
        values = {
            "name": _RUN,
            "suffix": None,
            "model_type": "SRModel",
            "scale": 1,
            "num_gpu": 1,
            "manual_seed": 0,
            "datasets": sets,
            "network_g": NETWORKS[job.options["backbone"]],
            "path": {"pretrain_network_g": "", "param_key_g": "params_ema", "strict_load_g": True},
            "val": {"save_img": True, "suffix": None},
        }
        write_json(values, job.folder / "options.yml")

    def commands(self, job: Job) -> list[Command]:
        (weights,) = self.weight_files(job)
        arguments = ("{python}", "{job}/out/basicsr/test.py", "-opt", "{job}/options.yml")
        path = ("--force_yml", f"path:pretrain_network_g={{weights}}/{weights}")
        links = {"{job}/out/basicsr": "{checkout}/basicsr"}
        python = ("{checkout}",)
        return [Command((*arguments, *path), keys(job.items), links=links, python=python)]

    def key_of(self, job: Job, path: str) -> str | None:
        match = re.fullmatch(rf"results/{_RUN}/visualization/{_SET}/(\d{{6}})_{_RUN}\.png", path)
        return match[1] if match else None
