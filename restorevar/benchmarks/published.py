"""Side by side with the published code (https://github.com/sudraj2002/RestoreVAR, the user's own download).

Both run the same weights on the same image on the same device: first it is checked that they agree, then both are
timed. Their `infer.py` is followed in what it sets: float32 with TF32 products allowed, or bf16 by autocast, which it
recommends; unlike it, the clock is synchronised and nothing is measured cold. bf16 is left out where the device has no
units for it: one image would take hours.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..acceleration import computes_bf16
from ..errors import UserError
from ..models import RestoreVAR, ScaleEvent, build_model
from ..official_weights import to_official
from ..pipeline import Restorer
from .breakdown import random_image
from .flops import META, counting
from .foreign import Unexpected, attribute_of, call, import_from
from .subject import Subject
from .timing import Timing, measure, peak_memory

#: Largest difference of pixels in [-1, 1] that counts as agreement: float32 sums in another order.
TOLERANCE = 1e-3
_VAE, _TRANSFORMER, _OURS, _THEIRS = "vae.pt", "transformer.pt", "image.pt", "outputs.pt"


@dataclass(frozen=True)
class Run:
    """One code in one precision."""

    code: str
    precision: str
    timing: Timing
    memory_bytes: int | None
    memory_kind: str


@dataclass(frozen=True)
class Agreement:
    """Of both codes in float32. `margin`: by how little their logits chose the first token that differs."""

    tokens: int
    tokens_equal: int
    largest_difference: float
    margin: float | None

    @property
    def holds(self) -> bool:
        return self.tokens_equal == self.tokens and self.largest_difference <= TOLERANCE

    def __str__(self) -> str:
        figures = f"{self.tokens_equal} of {self.tokens} tokens equal, pixels within {self.largest_difference:.1e}"
        if self.holds:
            return f"outputs agree: {figures}"
        margin = "" if self.margin is None else f", first difference decided by {self.margin:.1e} in logits"
        return f"OUTPUTS DISAGREE: {figures}{margin}"


@dataclass(frozen=True)
class Comparison:
    agreement: Agreement
    published_flops: int
    runs: list[Run]  #: theirs first

    def ratio(self, theirs: str, ours: str) -> float:
        """How many times faster ours is, by precision."""
        seconds = {(run.code, run.precision): run.timing.median for run in self.runs}
        return seconds["published", theirs] / seconds["ours", ours]


def compare(subject: Subject, checkout: Path, device: torch.device, dtype: str, size: int, repeat: int) -> Comparison:
    """Agreement, theirs in float32 and bf16, ours in float32 and `dtype`. Raises UserError."""
    check_comparable(subject)
    image = random_image(size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments = _hand_over(subject, image, folder)
        task = f"{__name__}:measure_published"
        precisions = ["fp32", "bf16"] if computes_bf16(device) else ["fp32"]
        more = {"arguments": arguments, "repeat": repeat, "precisions": precisions}
        theirs = call(task, checkout, folder, device, **more)
        outputs = torch.load(folder / _THEIRS, weights_only=True)
    runs = [Run(timing=Timing(**run.pop("timing")), **run) for run in theirs["runs"]]
    restorer = Restorer(subject.build(), device=str(device), dtype="fp32")
    agreement = _agreement(restorer, image.to(device), outputs)
    runs.append(_ours(restorer, image, repeat))
    if dtype != "fp32":
        runs.append(_ours(Restorer(subject.build(), device=str(device), dtype=dtype), image, repeat))
    return Comparison(agreement, theirs["flops"], runs)


def check_comparable(subject: Subject) -> None:
    """Raises UserError for models that cannot be handed to the published code."""
    with META:
        model = build_model(subject.config)
    if not isinstance(model, RestoreVAR):
        raise UserError(f"the published code has no counterpart to {subject.name}; try --model paper")
    to_official(model)


def _hand_over(subject: Subject, image: Tensor, folder: Path) -> dict[str, Any]:
    """Weights and image into files; returns what their builder is to be called with."""
    model = subject.build()
    assert isinstance(model, RestoreVAR)
    vae, transformer = to_official(model)
    for state, name in ((vae, _VAE), (transformer, _TRANSFORMER), (image, _OURS)):
        torch.save(state, folder / name)
    config = model.config
    return {
        "V": config.vqvae.codebook_size,
        "Cvae": config.vqvae.latent_channels,
        "ch": config.vqvae.widths[0],
        "share_quant_resi": config.vqvae.phi_count,
        "patch_nums": list(config.scales.sides),
        "num_classes": config.transformer.classes,
        "depth": config.transformer.depth,
        "shared_aln": False,
        "inference_mode": True,
    }


def _ours(restorer: Restorer, image: Tensor, repeat: int) -> Run:
    given = image.to(restorer.device)
    with peak_memory(restorer.device) as memory:
        timing = measure(lambda: restorer.model.restore(given), restorer.device, repeat)
    return Run("ours", restorer.settings["dtype"], timing, memory.bytes, memory.kind)


def _agreement(restorer: Restorer, image: Tensor, outputs: dict[str, Tensor]) -> Agreement:
    events: list[ScaleEvent] = []
    assert isinstance(restorer.model, RestoreVAR)
    with _full_float32():
        restored = restorer.model.restore(image, on_scale=events.append).cpu()
    tokens = torch.cat([event.tokens_Bl for event in events], 1).flatten().cpu()
    theirs = outputs["logits"].argmax(-1).flatten()
    if theirs.shape != tokens.shape or outputs["image"].shape != restored.shape:
        raise UserError(f"the published code gave {theirs.numel()} tokens instead of {tokens.numel()}")
    differing = (theirs != tokens).nonzero().flatten()
    margin = None
    if len(differing):
        logits = outputs["logits"].flatten(0, 1)[differing[0]]
        margin = float(logits.max() - logits[tokens[differing[0]]])
    difference = float((outputs["image"] - restored).abs().max())
    return Agreement(len(tokens), len(tokens) - len(differing), difference, margin)


@contextmanager
def _full_float32() -> Iterator[None]:
    """No TF32: with its rounding the two codes would choose other tokens."""
    matmul, convolution = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = convolution


# ------------------------------------------------------------------------------------------ in the other process


def measure_published(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Task for `foreign.call`: build, load, compute once for the comparison, then time both precisions."""
    device = torch.device(job["device"])
    network = _build(job, folder, device)
    image = torch.load(folder / _OURS, weights_only=True).to(device)

    def restore() -> Tensor:
        return network.autoregressive_infer_cfg(B=image.shape[0], cond_img=image)[0]

    with torch.inference_mode(), counting() as so_far:
        outputs = _outputs(network, restore)
        flops = so_far().total
    torch.save(outputs, folder / _THEIRS)
    torch.set_float32_matmul_precision("high")  # TF32 from here on, as in their infer.py
    torch.backends.cudnn.allow_tf32 = True
    runs = [_theirs(restore, device, precision, job["repeat"]) for precision in job["precisions"]]
    return {"flops": flops, "runs": [asdict(run) for run in runs]}


def _build(job: dict[str, Any], folder: Path, device: torch.device) -> Any:
    arguments = job["arguments"] | {"patch_nums": tuple(job["arguments"]["patch_nums"]), "device": device}
    build = attribute_of(import_from(job["checkout"], "models"), "build_vae_var")
    try:
        vae, network = build(**arguments)
        for part, name in ((vae, _VAE), (network, _TRANSFORMER)):
            part.load_state_dict(torch.load(folder / name, weights_only=True), strict=True)
            part.eval().requires_grad_(False)
    except (TypeError, RuntimeError, AttributeError, ValueError) as error:
        cause = " ".join(str(error).split())[:200]
        raise Unexpected(f"its model cannot be built with these weights ({cause})") from None
    for name in ("autoregressive_infer_cfg", "head"):
        if not hasattr(network, name):
            raise Unexpected(f"its model has no {name}; is it the right checkout?")
    return network


def _outputs(network: Any, restore: Callable[[], Tensor]) -> dict[str, Tensor]:
    """Image in [-1, 1] and the logits of all scales, on the CPU, in full float32."""
    logits: list[Tensor] = []
    hook = network.head.register_forward_hook(lambda module, given, out: logits.append(out.float().cpu()))
    with _full_float32():
        image = restore().float().cpu() * 2 - 1
    hook.remove()
    return {"image": image, "logits": torch.cat(logits, 1)}


def _theirs(restore: Callable[[], Tensor], device: torch.device, precision: str, repeat: int) -> Run:
    reduced = precision == "bf16"
    with (
        torch.inference_mode(),
        torch.autocast(device.type, dtype=torch.bfloat16, enabled=reduced),
        peak_memory(device) as memory,
    ):
        timing = measure(restore, device, repeat)
    return Run("published", precision, timing, memory.bytes, memory.kind)
