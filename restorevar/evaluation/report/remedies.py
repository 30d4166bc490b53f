"""What to run for a line that has no figures yet. Each is one command, or a sentence where there is none."""

from __future__ import annotations

from collections.abc import Sequence

from ..peers.catalogue import PEERS

#: Their figures in the paper are of weights that their readers cannot have.
_RETRAINED = ("PromptIR", "AWRaCLe")
#: What `restorevar bench` can run of the compared methods, and how.
_BENCH = {
    "Diff-Plugin": "--model paper --ldm",
    "AutoDIR": "--model paper --ldm",
    "PixWizard": "--model paper --ldm",
    "RestoreVAR": "--model paper",
    "PromptIR": "--model paper --rival promptir=CHECKOUT",
    "InstructIR": "--model paper --rival instructir=CHECKOUT",
}


_SETTINGS = {
    "refiner-none": "model.refiner.kind=none",
    "refiner-diffusion": "model.refiner.kind=diffusion",
    "refiner-no-hidden": "model.refiner.hidden=false",
}


def quality(method: str, protocol: str, metrics: Sequence[str]) -> str:
    """For tables 1 and 2."""
    score = f"--manifest FILE --protocol {protocol} --metrics {','.join(metrics)} --json RESULTS"
    if method == "RestoreVAR":
        convert = "restorevar convert --vae vae_restorevar.ckpt --transformer restorevar.pth -o DIR"
        return f"{convert} && restorevar evaluate --model DIR --name RestoreVAR {score}"
    peer = next(name for name, known in PEERS.items() if known.title == method)
    command = f"restorevar evaluate --method {peer} --checkout DIR --peer-python PYTHON --save OUTPUTS {score}"
    remark = "  (the paper's figures are of weights that its authors retrained, which are not published)"
    return command + (remark if method in _RETRAINED else "")


def speed(method: str) -> str:
    """For tables 5 and 6."""
    if method not in _BENCH:
        return "not run by restorevar bench: more than its network is needed to build it"
    return f"restorevar bench {_BENCH[method]} --json RESULTS"


def refiner(variant: str) -> str:
    """For table 4."""
    if variant == "full":
        return quality("RestoreVAR", "restorevar-512", ("psnr", "ssim"))
    return (
        f"restorevar train --recipe paper_512 --pairs MANIFEST --out RUN --set {_SETTINGS[variant]}  (then restorevar "
        "evaluate --model RUN/model on RESIDE)"
    )


STUDY = (
    "restorevar study make METHOD=DIR ... --input DIR -o PAGE  (and, when ratings have come back, "
    "restorevar study analyze RATINGS... --key KEY --json RESULTS)"
)
PARTS = "restorevar bench --model paper --json RESULTS"
