"""A training run: recipe, data, run folder -> a trained model. Resumable at any point, on one process or many."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..checkpoints import WEIGHTS, load_model
from ..data.manifest import write_json
from ..data.pairs import PairSource, Source
from ..errors import UserError
from ..models import Model, ModelConfig, RestoreVARConfig, build_model
from .overrides import apply_overrides
from .recipes import RECIPES, STAGE_GROUPS
from .reporting import SINKS, Report
from .trainer import Setting, Stage, fit

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Options:
    """What `restorevar train` takes."""

    recipe: str = "compact"
    data: Sequence[str | Path] = ()  #: folders of clean photographs, PATH or PATH=WEIGHT
    pairs: Sequence[str | Path] = ()  #: manifests of real pairs, PATH or PATH=WEIGHT
    budget: str | None = None
    stage: str | None = None
    init: str | None = None
    settings: Sequence[str] = ()  #: see overrides.py
    device: str = "cpu"
    precision: torch.dtype = torch.float32
    seed: int = 0
    accumulate: int = 1
    workers: int = 0
    cache: bool = False
    compile: bool = False
    checkpointing: bool = False
    shard: bool = False
    trackers: Sequence[str] = ()  #: of reporting.SINKS


def parse_budget(text: str) -> float:
    """ "90m", "2h", "45s" or plain seconds -> seconds."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    number, unit = (text[:-1], text[-1]) if text[-1:].lower() in units else (text, "s")
    try:
        seconds = float(number) * units[unit.lower()]
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise UserError(f"--budget {text}: give a time like 90m, 2h or 45s")
    return seconds


def plan(options: Options) -> tuple[ModelConfig, list[Stage]]:
    """The model's config and the stages to run, with all settings and the budget applied."""
    if options.recipe not in RECIPES:
        raise UserError(f"unknown recipe {options.recipe!r}: one of {', '.join(RECIPES)}")
    if options.stage is not None and options.stage not in STAGE_GROUPS:
        raise UserError(f"unknown stage {options.stage!r}: one of {', '.join(STAGE_GROUPS)}")
    recipe = RECIPES[options.recipe]
    config, stages = apply_overrides(recipe.model(), recipe.stages(), options.settings)
    if isinstance(config, RestoreVARConfig):
        has, fidelity = {"refiner": config.refiner.kind != "none"}, config.fidelity
        has |= {"branch": fidelity is not None, "fidelity": fidelity is not None}
        has |= {part: fidelity is not None and getattr(fidelity, part) for part in ("tone", "focus")}
        stages = [stage for stage in stages if has.get(stage.name, True)]
    if options.stage is not None:
        stages = [stage for stage in stages if stage.name in STAGE_GROUPS[options.stage]]
        if not stages:
            raise UserError(f"recipe {options.recipe!r} has no stage {options.stage!r}")
    if options.budget is not None:
        total = parse_budget(options.budget)
        shares = sum(stage.share for stage in stages)
        for stage in stages:
            stage.schedule = replace(stage.schedule, seconds=total * stage.share / shares)
    return config, stages


def train(out: Path, options: Options) -> Path:
    """Run the stages that are not done yet in `out`; returns the folder of the trained model.

    `options.stage` runs one of the paper's four. `options.init` gives starting weights: the parts of them that fit.
    Raises UserError, one line, for whatever the user can mend; KeyboardInterrupt when stopped, with a checkpoint.
    """
    config, stages = plan(options)
    source = PairSource(
        [Source.parse(str(text)) for text in options.data],
        [Source.parse(str(text)) for text in options.pairs],
        options.seed,
        geometry=RECIPES[options.recipe].geometry,
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror})") from None
    accelerator = make_accelerator(options.device, options.precision)
    report = Report(
        out,
        [SINKS[name](out) for name in options.trackers if accelerator.is_main_process],
        active=accelerator.is_main_process,
    )
    torch.manual_seed(options.seed)
    model = starting_model(out, options.init, config, lambda line: report.warn(line, 0, 0.0))
    model.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    setting = Setting(
        source,
        out,
        accelerator,
        report,
        options.accumulate,
        options.workers,
        options.cache,
        options.compile,
        options.checkpointing,
        options.shard,
    )
    _describe(out, options, config, source, accelerator)
    try:
        for stage in stages:
            fit(model, stage, setting)
            if options.shard:  # its weights are in pieces now: the next stage starts from the file
                model = starting_model(out, None, config).to(accelerator.device)
    except OSError as error:
        raise UserError(f"{error.filename or out}: {error.strerror or error}") from None
    finally:
        report.close()
    return out / "model"


def make_accelerator(device: str, precision: torch.dtype) -> Accelerator:
    """One process, or one of many where a launcher (accelerate launch, torchrun) started this one.

    Raises UserError where accelerate is not installed.
    """
    try:
        from accelerate import Accelerator, DistributedDataParallelKwargs
    except ImportError:
        raise UserError("training needs accelerate: pip install 'restorevar[train]'") from None
    names = {torch.float32: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}
    # Some steps leave a part alone: the paper's path does without the fidelity branch.
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=True)]
    return Accelerator(cpu=device == "cpu", mixed_precision=names[precision], kwargs_handlers=handlers)


def starting_model(
    out: Path, init: str | None, config: ModelConfig, warn: Callable[[str], None] = lambda line: None
) -> Model:
    """What an earlier stage of this run left, or else `init`: whatever of its weights fits this model.

    `warn` hears which parts start anew beside weights that fit. Raises UserError where none fits.
    """
    trained = out / "model"
    source = str(trained) if (trained / WEIGHTS).is_file() else init
    if source is None:
        return build_model(config)
    given = load_model(source).model
    if given.config == config:
        return given
    if type(given.config) is not type(config):
        raise UserError(f"{source}: a model of another kind; give another {'--init' if source == init else '--out'}")
    model = build_model(config)
    state, wanted = given.state_dict(), model.state_dict()
    fitting = {k: v for k, v in state.items() if k in wanted and wanted[k].shape == v.shape}
    if not fitting:
        raise UserError(f"{source}: none of its weights fits this model")
    model.load_state_dict(wanted | fitting)
    if new := sorted({name.split(".")[0] for name in wanted.keys() - fitting.keys()}):
        warn(f"{source}: {len(wanted) - len(fitting)} tensors of {', '.join(new)} start anew")
    return model


def _describe(out: Path, options: Options, config: ModelConfig, source: PairSource, accelerator: Any) -> None:
    """run.json: what this run was, for whoever finds the folder later."""
    if not accelerator.is_main_process:
        return
    about = {
        "recipe": options.recipe,
        "data": [str(p) for p in options.data],
        "pairs": [str(p) for p in options.pairs],
        "fingerprint": source.fingerprint(),
        "samples": source.size,
        "settings": list(options.settings),
        "budget": options.budget,
        "seed": options.seed,
        "init": options.init,
        "processes": accelerator.num_processes,
        "precision": str(options.precision).removeprefix("torch."),
        "torch": torch.__version__,
        "command": sys.argv[1:],
        "model": config.to_dict(),
    }
    write_json(about, out / "run.json")
