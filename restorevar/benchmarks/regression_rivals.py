"""Regression methods of the paper's table 6, from the user's own checkouts, with random weights.

Only those whose network alone can be built by one call are here. AWRaCLe and DFPIR build CLIP with theirs, DCPT is a
fork of a training framework: they stay "paper".
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..acceleration import DTYPES
from ..errors import UserError
from .flops import counting
from .foreign import attribute_of, call, import_from
from .rivals import SIZE, Measured
from .timing import Timing, measure


@dataclass(frozen=True)
class Entry:
    """Where a checkout keeps its network: `build` of `module`, called with `arguments`.

    `text_width`: width of the embedded instruction that the network is given beside the image, 0 for none.
    """

    method: str
    module: str
    build: str
    arguments: dict[str, Any]
    text_width: int = 0


ENTRIES = {
    # https://github.com/va1shn9v/PromptIR, test.py
    "promptir": Entry("PromptIR", "net.model", "PromptIR", {"decoder": True}),
    # https://github.com/mv-lab/InstructIR, configs/eval5d.yml
    "instructir": Entry(
        "InstructIR", "models.instructir", "create_model", {"width": 32, "middle_blk_num": 4, "txtdim": 256}, 256
    ),
}


def parse_rival(text: str) -> tuple[str, Path]:
    """NAME=DIR. Raises UserError."""
    name, _, folder = text.partition("=")
    if name not in ENTRIES or not folder:
        raise UserError(f"--rival is NAME=DIR with a checkout of {' or '.join(ENTRIES)}, not {text!r}")
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: no such folder")
    return name, Path(folder)


def measure_rival(
    name: str, checkout: Path, device: torch.device, dtype: str, repeat: int, size: int = SIZE
) -> Measured:
    """One method from its checkout. Raises UserError, one line, where it is not what is expected."""
    with tempfile.TemporaryDirectory() as folder:
        task = f"{__name__}:measure_network"
        found = call(task, checkout, Path(folder), device, name=name, dtype=dtype, repeat=repeat, size=size)
    timing = Timing(**found["timing"])
    how = "random weights, checkout" + ("" if dtype == "fp32" else ", autocast")
    return Measured(ENTRIES[name].method, timing, found["flops"], found["parameters"], dtype, how)


# ------------------------------------------------------------------------------------------ in the other process


def measure_network(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Task for `foreign.call`."""
    entry, device = ENTRIES[job["name"]], torch.device(job["device"])
    build = attribute_of(import_from(job["checkout"], entry.module), entry.build)
    network = build(**entry.arguments).to(device).eval().requires_grad_(False)
    run = _run(network, entry, device, job["size"])
    reduced = None if job["dtype"] == "fp32" else DTYPES[job["dtype"]]
    with torch.inference_mode(), torch.autocast(device.type, dtype=reduced, enabled=reduced is not None):
        with counting() as so_far:
            run()
        timing = measure(run, device, job["repeat"])
    parameters = sum(p.numel() for p in network.parameters())
    return {"timing": asdict(timing), "flops": so_far().total, "parameters": parameters}


def _run(network: nn.Module, entry: Entry, device: torch.device, size: int) -> Callable[[], Tensor]:
    image = torch.rand(1, 3, size, size, device=device)
    text = [torch.randn(1, entry.text_width, device=device)] if entry.text_width else []
    return lambda: network(image, *text)
