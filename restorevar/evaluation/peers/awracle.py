"""AWRaCLe (Rajagopalan and Patel, AAAI 2025) through its test.py."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ...errors import UserError
from .command import Command
from .fitting import Fit
from .job import Job, slug
from .peer import Facts, Peer, keys

_PAIR = ("degraded.png", "clean.png")


class AWRaCLe(Peer):
    """It is told by an example what to remove: a degraded and a clean image, of the user's choice and always the same.

    Without them it draws examples at random. It pairs inputs with truths by their order, so the truths are the inputs
    again, and nothing else lies beside them; the PSNR that it prints is then of no meaning.
    """

    name = "awracle"
    facts = Facts(
        title="AWRaCLe",
        source="https://github.com/sudraj2002/AWRaCLe",
        commit="e43160b6aed6b7495761243fc1fbf198978db594",
        licence="MIT",
        weights="best.ckpt from the SharePoint link of its README; CLIP ViT-B/32 is fetched at the first run",
        needs="Python 3.9, PyTorch 1.8.1, pytorch-lightning 1.6.5, OpenAI CLIP; a CUDA GPU",
        notes=(
            "knows haze, rain and snow; the paper's rows are of weights retrained by its authors, not released: "
            "tables 1 and 2 cannot be reproduced",
            "results depend on the example pairs, and the paper's are not told",
        ),
    )
    files = ("test.py", "net/model.py", "utils/dataset_utils.py")
    texts: ClassVar[Mapping[str, str] | None] = {"haze": "", "rain": "", "snow": ""}
    fit = Fit(multiple=16)
    options: ClassVar[Mapping[str, Any]] = {"context": ""}
    weights = "best.ckpt"
    hints: ClassVar[Mapping[str, str]] = {"set_device": "it runs on CUDA GPUs only"}

    def text(self, task: str, options: Mapping[str, Any]) -> str | None:
        """A task of which there is an example is one that it knows: its weights may be the user's own."""
        if (Path(options["context"]) / task).is_dir():
            return ""
        return super().text(task, options)

    def check_options(self, options: Mapping[str, Any]) -> None:
        if not options["context"]:
            raise UserError(
                "awracle needs an example pair for each task: --set context=DIR, with DIR/<task>/degraded.png "
                "and DIR/<task>/clean.png"
            )

    def write(self, job: Job) -> None:
        for task in job.by_task():
            for name in _PAIR:
                source = Path(job.options["context"]) / task / name
                if not source.is_file():
                    raise UserError(f"{source}: no such file; awracle needs an example pair for {task}")
                target = job.folder / "context" / slug(task) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)

    def commands(self, job: Job) -> list[Command]:
        commands = []
        for task, items in job.by_task().items():
            name = slug(task)
            folder, pair = f"{{job}}/test/{name}", f"{{job}}/context/{name}"
            arguments = ("{python}", "{checkout}/test.py", "--mode", "1", "--ckpt_name", "{weights}")
            images = ("--test_dir", f"{folder}/", "--output_path", "{job}/out/")
            context = ("--degrad_context", f"{pair}/{_PAIR[0]}", "--clean_context", f"{pair}/{_PAIR[1]}")
            links = dict.fromkeys((f"{folder}/degraded", f"{folder}/GT"), f"{{job}}/input/{name}")
            commands.append(Command((*arguments, *images, *context), keys(items), links=links, folders=(folder,)))
        return commands

    def settings(self, job: Job) -> dict[str, Any]:
        from ...checkpoints import file_sha256

        names = [f"{slug(task)}/{name}" for task in job.by_task() for name in _PAIR]
        return {"context": {name: file_sha256(job.folder / "context" / name)[:16] for name in names}}
