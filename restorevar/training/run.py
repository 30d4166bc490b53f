"""A training run: recipe, data folder, run folder -> a trained model. Resumable at any point."""

from __future__ import annotations

from pathlib import Path

import torch

from ..checkpoints import WEIGHTS, load_model
from ..data.pairs import PairSource
from ..errors import UserError
from ..models import RestoreVAR
from .recipes import RECIPES, STAGE_GROUPS
from .trainer import fit


def parse_budget(text: str) -> float:
    """ "90m", "2h", "45s" or plain seconds -> seconds."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, unit = (text[:-1], text[-1]) if text[-1:].lower() in units else (text, "s")
    try:
        seconds = float(number) * units[unit.lower()]
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise UserError(f"--budget {text}: give a time like 90m, 2h or 45s")
    return seconds


def train(
    recipe: str,
    data: Path,
    out: Path,
    budget: str = "90m",
    stage: str | None = None,
    init: str | None = None,
    device: str = "cpu",
    precision: torch.dtype = torch.bfloat16,
    seed: int = 0,
) -> Path:
    """Run the stages of `recipe` that are not done yet in `out`; returns the folder of the trained model.

    `stage` runs one of the paper's four (its steps must not be done yet; the earlier ones must be). `init` starts
    from another model's weights.
    """
    if recipe not in RECIPES:
        raise UserError(f"unknown recipe {recipe!r}: one of {', '.join(RECIPES)}")
    if stage is not None and stage not in STAGE_GROUPS:
        raise UserError(f"unknown stage {stage!r}: one of {', '.join(STAGE_GROUPS)}")
    make_config, make_stages = RECIPES[recipe]
    torch.manual_seed(seed)
    stages = make_stages(PairSource(data, seed), parse_budget(budget))
    out.mkdir(parents=True, exist_ok=True)
    trained = out / "model"
    if (trained / WEIGHTS).is_file():
        model = load_model(str(trained)).model
    elif init is not None:
        model = load_model(init).model
    else:
        model = RestoreVAR(make_config())
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    for step in stages:
        if stage is None or step.name in STAGE_GROUPS[stage]:
            fit(model, step, out, torch.device(device), precision)
    return trained
