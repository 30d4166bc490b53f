"""`restorevar train` and `restorevar ablate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import FAILED, Device, Dtype, app, reporting

DATA = typer.Option(metavar="DIR[=WEIGHT]", help="Folder of clean photographs; repeatable.")
Settings = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="Any number of the recipe, such as decoder.loss.ssim=0; repeatable."),
]
Seed = Annotated[int, typer.Option(help="Seed of weights, crops and degradations.")]


@app.command()
def train(
    out: Annotated[Path, typer.Option(metavar="RUN", help="Run folder: log, previews, checkpoints, the model.")] = Path(
        "runs/first"
    ),
    data: Annotated[list[str] | None, DATA] = None,
    pairs: Annotated[
        list[str] | None, typer.Option(metavar="FILE[=WEIGHT]", help="Manifest of real pairs; repeatable.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="paper_512, paper_256, compact or debug.")] = "compact",
    budget: Annotated[
        str | None, typer.Option(metavar="90m|2h|45s", help="Training time of all stages together.")
    ] = None,
    stage: Annotated[
        str | None, typer.Option(metavar="vqvae|transformer|refiner|decoder", help="Only this one of the four.")
    ] = None,
    init: Annotated[str | None, typer.Option(metavar="MODEL", help="Start from these weights.")] = None,
    set: Settings = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    seed: Seed = 0,
    accumulate: Annotated[int, typer.Option(min=1, help="Turns in which each batch is computed.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode and degrade; 0: none of their own.")] = 0,
    cache: Annotated[bool, typer.Option("--cache", help="Keep on disk what the frozen parts computed.")] = False,
    compile: Annotated[bool, typer.Option("--compile", help="torch.compile what is trained.")] = False,
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Recompute activations of the transformer: less memory.")
    ] = False,
    shard: Annotated[
        bool, typer.Option("--shard", help="Spread weights and optimiser over the processes (FSDP).")
    ] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write RUN/tensorboard.")] = False,
    wandb: Annotated[bool, typer.Option("--wandb", help="Also report to Weights & Biases.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell parameters, memory, FLOPs and the time it would take.")
    ] = False,
    accelerator: Annotated[str, typer.Option(help="With --dry-run: the machine to reckon with.")] = "rtx4090",
) -> None:
    """Train a model. Run it again to resume; RUN/model is what --model takes."""
    with reporting():
        from ..acceleration import pick_device, pick_dtype
        from ..training.run import Options
        from ..training.run import train as run_training

        place = pick_device(device)
        options = Options(
            recipe=recipe,
            data=data or (),
            pairs=pairs or (),
            budget=budget,
            stage=stage,
            init=init,
            settings=set or (),
            device=str(place),
            precision=pick_dtype(place, dtype),
            seed=seed,
            accumulate=accumulate,
            workers=workers,
            cache=cache,
            compile=compile,
            checkpointing=checkpointing,
            shard=shard,
            trackers=[name for name, wanted in (("tensorboard", tensorboard), ("wandb", wandb)) if wanted],
        )
        if dry_run:
            from dataclasses import replace

            from ..training.forecast import forecast, usual_precision

            if dtype == "auto":  # of that machine, not of this one
                options = replace(options, precision=usual_precision(accelerator))
            typer.echo(forecast(options, accelerator))
            return
        typer.echo(f"training {recipe} on {place}; progress in {out / 'log.jsonl'}")
        typer.echo(f"trained model: {run_training(out, options)}")


@app.command()
def ablate(
    data: Annotated[list[str], DATA],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="Folder for the runs and the table.")],
    scale: Annotated[str, typer.Option(metavar="debug|compact", help="Windows of 64 pixels, or the recipe.")] = "debug",
    budget: Annotated[str, typer.Option(metavar="20m|2h", help="Training time of all variants together.")] = "20m",
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this variant, and the full model; repeatable.")
    ] = None,
    set: Settings = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    seed: Seed = 0,
) -> None:
    """Train the paper's ablations and ours for as many steps each and compare them. Run it again to resume.

    Exit code: 0 all variants trained, 1 some failed, 2 wrong usage.
    """
    with reporting():
        from ..acceleration import pick_device, pick_dtype
        from ..training import ablation

        place = pick_device(device)
        options = ablation.Options(
            data=data,
            scale=scale,
            budget=budget,
            only=only or (),
            settings=set or (),
            seed=seed,
            device=str(place),
            precision=pick_dtype(place, dtype),
        )
        rows = ablation.ablate(out, options, typer.echo)
        typer.echo((out / "ablation.md").read_text().rstrip())
        raise typer.Exit(FAILED if any(row.error for row in rows) else 0)
