"""What to run for a line that has no figures yet. Each is one command, or a sentence where there is none."""

from __future__ import annotations

from collections.abc import Sequence

from .measured import plain

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


def quality(method: str, protocol: str, metrics: Sequence[str]) -> str:
    """For tables 1 and 2."""
    options = f"--manifest FILE --protocol {protocol} --metrics {','.join(metrics)} --json RESULTS"
    command = f"restorevar evaluate --method {plain(method)} {options}"
    if method in _RETRAINED:
        return f"{command}  (the paper's figures are of its authors' retrained weights, which are not published)"
    return command


def speed(method: str) -> str:
    """For tables 5 and 6."""
    if method not in _BENCH:
        return "restorevar bench does not run it: more than its network is needed to build it"
    return f"restorevar bench {_BENCH[method]} --json RESULTS"


def refiner(variant: str) -> str:
    """For table 4."""
    if variant == "full":
        return quality("RestoreVAR", "restorevar-512", ("psnr", "ssim"))
    return (
        "restorevar train --recipe paper_512 --pairs RESIDE --set "
        + {
            "refiner-none": "model.refiner.kind=none",
            "refiner-diffusion": "model.refiner.kind=diffusion",
            "refiner-no-hidden": "model.refiner.hidden=false",
        }[variant]
    )


STUDY = "restorevar study make METHOD=DIR ... --input DIR -o PAGE, then restorevar study analyze RATINGS... --key KEY --json RESULTS"  # noqa: E501
PARTS = "restorevar bench --model paper --json RESULTS"
