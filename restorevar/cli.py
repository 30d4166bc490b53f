"""The `restorevar` command. Parses options, calls one function per command, turns faults into one line each.

Whatever is heavy is imported inside the commands, so that `--help` and `--version` answer at once.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import version as installed_version
from itertools import accumulate
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from .errors import UserError

if TYPE_CHECKING:
    from rich.progress import Progress

    from .batch import Job, Record, Writing

FAILED, USAGE, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="restorevar",
    help="Restore photographs from haze, rain, snow, low light and blur.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

# Older typer takes this class from click, newer brings its own; both derive BadParameter from it.
UsageError: Any = typer.BadParameter.__mro__[1]


def main() -> None:
    """Entry point. Exit codes: 0 all done, 1 some files failed, 2 wrong usage, 130 interrupted."""
    try:
        code = app(args=sys.argv[1:] or ["--help"], standalone_mode=False)
    except UsageError as error:
        code = _fail(" ".join(error.format_message().split()), USAGE)
    except (typer.Abort, KeyboardInterrupt):
        code = _fail("interrupted", INTERRUPTED)
    sys.exit(code)


@contextmanager
def reporting() -> Iterator[None]:
    """Around every command: what the user can mend becomes one line on stderr and exit code 2."""
    try:
        yield
    except UserError as error:
        raise typer.Exit(_fail(str(error), USAGE)) from None
    except KeyboardInterrupt:
        raise typer.Exit(_fail("interrupted", INTERRUPTED)) from None


def _fail(message: str, code: int) -> int:
    typer.echo(f"restorevar: error: {_one_line(message)}", err=True)
    return code


def _one_line(text: str) -> str:
    """Printable, whatever characters a file name has."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"restorevar {installed_version('restorevar')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options that go before the command."""


# ---------------------------------------------------------------------------------------------------- restore


@app.command()
def restore(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT", help="Images, folders (with subfolders), patterns.")],
    out: Annotated[
        str, typer.Option("--out", "-o", help="Folder for the results; for a single image also a file name.")
    ],
    model: Annotated[
        str, typer.Option(metavar="NAME|DIR|HUB_ID", help="A shipped model, a folder, or a Hub id.")
    ] = "compact",
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to compute.")] = "auto",
    dtype: Annotated[str, typer.Option(metavar="auto|fp32|bf16|fp16", help="Precision.")] = "auto",
    tile: Annotated[
        str, typer.Option(metavar="auto|N", help="Side of the windows of large photos, in pixels.")
    ] = "auto",
    batch: Annotated[str, typer.Option(metavar="auto|N", help="Windows per pass of the model.")] = "auto",
    fidelity: Annotated[
        float | None, typer.Option(metavar="W", help="Detail taken from the input, 0 (none) to 1.")
    ] = None,
    format: Annotated[str, typer.Option(metavar="keep|png|jpg|...", help="Format of the results.")] = "keep",
    quality: Annotated[
        int | None, typer.Option(min=1, max=100, help="For JPEG, WebP and AVIF; default: as the input.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing results instead of skipping them.")
    ] = False,
    json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Append one line of JSON per file to this log, as files finish."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
) -> None:
    """Restore photos: same size, same format, metadata kept.

    Results that exist already are skipped. Exit code: 0 all done, 1 some failed, 2 wrong usage.
    """
    with reporting():
        windows = {"tile": _auto_or_number("tile", tile), "batch": _auto_or_number("batch", batch)}

        from . import batch as files
        from .pipeline import Restorer

        writing = files.Writing(None if format == "keep" else format, quality, overwrite)
        jobs = files.plan_jobs(inputs, out, writing)
        restorer = Restorer.from_pretrained(model, device, dtype, fidelity=fidelity, **windows)
        counts: Counter[str] = Counter()
        with _open_log(json) as log, _watching(jobs, writing, quiet) as (progress, tell):
            for record in files.run(jobs, restorer, writing, progress):
                counts[record.status] += 1
                files.append_record(log, record)
                tell(record)
        if len(jobs) > 1 and not quiet:
            typer.echo(", ".join(f"{number} {status}" for status, number in counts.items()))
        raise typer.Exit(FAILED if counts["failed"] else 0)


def _auto_or_number(option: str, text: str) -> Any:
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise UserError(f"--{option} is auto or a whole number, not {text!r}") from None


def _open_log(path: Path | None) -> AbstractContextManager[IO[str] | None]:
    if path is None:
        return nullcontext()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None


@contextmanager
def _watching(
    jobs: Sequence[Job], writing: Writing, quiet: bool
) -> Iterator[tuple[Callable[[Job, float], None], Callable[[Record], None]]]:
    """What shows how far it is, and what tells of each finished file. The bar is for terminals only."""

    def tell(record: Record) -> None:
        if record.status == "failed":
            _fail(record.error or "failed", FAILED)
        elif not quiet:
            typer.echo(_one_line(str(record)))

    if quiet or not sys.stderr.isatty():
        yield lambda job, share: None, tell
        return

    from .batch import count_pixels, is_done

    # Pixels, not files, so that the estimate of the time left holds for a mixture of sizes.
    pixels = {job: 0 if is_done(job, writing) else max(1, count_pixels(job.source)) for job in jobs}
    before = dict(zip(jobs, accumulate(pixels.values(), initial=0), strict=False))
    with _bar() as bar:
        task = bar.add_task("restoring", total=sum(pixels.values()))

        def progress(job: Job, share: float) -> None:
            bar.update(task, completed=before[job] + share * pixels[job], description=_one_line(job.source.name))

        yield progress, tell


def _bar() -> Progress:
    """A progress bar with the time left; lines printed meanwhile appear above it."""
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        speed_estimate_period=120,  # windows may take many seconds each
        redirect_stdout=sys.stdout.isatty(),
    )


# ----------------------------------------------------------------------------------------------------- models


@app.command()
def models() -> None:
    """List the models shipped with the package."""
    with reporting():
        from .checkpoints import WEIGHTS, available_models, file_sha256, resolve_model

        for name in available_models():
            weights = resolve_model(name) / WEIGHTS
            typer.echo(f"{name}  {weights.stat().st_size / 1e6:.1f} MB  sha256 {file_sha256(weights)}")


# ------------------------------------------------------------------------------------- pairs, training, scores


@app.command()
def degrade(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT", help="Clean photos, or folders of them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for <task>/input, <task>/target, pairs.json.")],
    task: Annotated[
        list[str] | None,
        typer.Option(help="haze, rain, snow, lowlight, blur, clean, or a mixture like haze+rain; repeatable."),
    ] = None,
    strength: Annotated[
        tuple[float, float], typer.Option(metavar="LOW HIGH", help="Range of strengths, within 0 to 1.")
    ] = (0.2, 0.9),
    seed: Annotated[int, typer.Option(help="The same seed gives the same pairs.")] = 0,
    max_side: Annotated[int | None, typer.Option(min=16, help="Shrink larger photos to this first.")] = None,
    sheet: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a contact sheet.")] = None,
) -> None:
    """Make synthetic pairs from clean photos: the five degradations, seeded."""
    with reporting():
        from .data.synthesis import make_pairs

        pairs = make_pairs(inputs, out, task or (), seed, strength, max_side, sheet)
        typer.echo(f"{len(pairs)} pairs in {out}")


@app.command()
def train(
    out: Annotated[Path, typer.Option(metavar="RUN", help="Run folder: log, previews, checkpoints, the model.")] = Path(
        "runs/first"
    ),
    data: Annotated[
        list[str] | None, typer.Option(metavar="DIR[=WEIGHT]", help="Folder of clean photographs; repeatable.")
    ] = None,
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
    set: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Any number of the recipe, such as decoder.loss.ssim=0; repeatable."),
    ] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps")] = "auto",
    dtype: Annotated[str, typer.Option(metavar="auto|fp32|bf16|fp16", help="Precision of the arithmetic.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of weights, crops and degradations.")] = 0,
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
        from .acceleration import pick_device, pick_dtype
        from .training.run import Options
        from .training.run import train as run_training

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

            from .training.forecast import forecast, usual_precision

            if dtype == "auto":  # of that machine, not of this one
                options = replace(options, precision=usual_precision(accelerator))
            typer.echo(forecast(options, accelerator))
            return
        typer.echo(f"training {recipe} on {place}; progress in {out / 'log.jsonl'}")
        typer.echo(f"trained model: {run_training(out, options)}")


@app.command()
def ablate(
    data: Annotated[list[str], typer.Option(metavar="DIR[=WEIGHT]", help="Folder of clean photographs; repeatable.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="Folder for the runs and the table.")],
    scale: Annotated[str, typer.Option(metavar="debug|compact", help="Windows of 64 pixels, or the recipe.")] = "debug",
    budget: Annotated[str, typer.Option(metavar="20m|2h", help="Training time of all variants together.")] = "20m",
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this variant, and the full model; repeatable.")
    ] = None,
    set: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="As for train, for all variants; repeatable.")
    ] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps")] = "auto",
    dtype: Annotated[str, typer.Option(metavar="auto|fp32|bf16|fp16", help="Precision of the arithmetic.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of weights, crops and degradations.")] = 0,
) -> None:
    """Train the paper's ablations and ours for as many steps each and compare them. Run it again to resume.

    Exit code: 0 all variants trained, 1 some failed, 2 wrong usage.
    """
    with reporting():
        from .acceleration import pick_device, pick_dtype
        from .training import ablation

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


@app.command()
def evaluate(
    pairs: Annotated[Path, typer.Argument(metavar="PAIRS", help="Folder with <task>/input and <task>/target.")],
    model: Annotated[str, typer.Option(metavar="NAME|DIR|HUB_ID")] = "compact",
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps")] = "auto",
    dtype: Annotated[str, typer.Option(metavar="auto|fp32|bf16|fp16")] = "auto",
    fidelity: Annotated[
        list[float] | None, typer.Option(metavar="W", help="Repeatable: one table for each; default: the model's own.")
    ] = None,
    latent: Annotated[
        str | None,
        typer.Option(metavar="zeros|degraded", help="A control: this in place of the restored latent."),
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Append one line of JSON per image.")] = None,
) -> None:
    """PSNR and SSIM of restored photos beside those of the degraded ones, per task. Needs the extra `eval`."""
    with reporting():
        from .evaluation.gains import PROTOCOL, Score
        from .evaluation.gains import evaluate as run_evaluation
        from .pipeline import Restorer

        def tell(done: Score) -> None:
            if sys.stderr.isatty():
                typer.echo(f"\r{done.task} {_one_line(done.name)}\x1b[K\r", err=True, nl=False)

        typer.echo(PROTOCOL)
        weights: Sequence[float | None] = fidelity or [None]
        for weight in weights:
            restorer = Restorer.from_pretrained(model, device, dtype, fidelity=weight)
            if latent is not None:
                from .evaluation.controls import control

                control(restorer, latent)
            typer.echo(f"{restorer.name} {restorer.sha256[:12]} {restorer.settings}")
            typer.echo(f"{'task':<20}{'n':>4}{'PSNR in':>10}{'PSNR out':>10}{'gain':>8}{'SSIM in':>10}{'SSIM out':>10}")
            for row in run_evaluation(restorer, pairs, json, tell):
                psnrs = f"{row.psnr_input:>10.2f}{row.psnr_restored:>10.2f}{row.gain:>+8.2f}"
                typer.echo(f"{row.task:<20}{row.n:>4}{psnrs}{row.ssim_input:>10.4f}{row.ssim_restored:>10.4f}")


# ---------------------------------------------------------------------------------------------------- speed


@app.command()
def bench(
    model: Annotated[
        str, typer.Option(metavar="NAME|DIR|HUB_ID|paper|paper_256", help="paper and paper_256: random weights.")
    ] = "compact",
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps")] = "auto",
    dtype: Annotated[str, typer.Option(metavar="auto|fp32|bf16|fp16", help="Precision.")] = "auto",
    size: Annotated[int | None, typer.Option(help="Side of the image in pixels; default: the model's window.")] = None,
    batch: Annotated[int, typer.Option(help="Images at once, for the throughput.")] = 1,
    repeat: Annotated[int, typer.Option(help="Measurements of each figure, of which the median is told.")] = 5,
    published_code: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The authors' checkout, measured with the same weights.")
    ] = None,
    ldm: Annotated[
        bool, typer.Option("--ldm", help="Also the networks of the diffusion methods. Needs the extra `ldm`.")
    ] = False,
    rival: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIR", help="A checkout of promptir or instructir, measured too; repeatable."),
    ] = None,
    scaling: Annotated[bool, typer.Option("--scaling", help="Cost against the size of the latent.")] = False,
    photos: Annotated[
        str | None, typer.Option(metavar="1,4,12", help="Photos of so many megapixels, end to end.")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all figures.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the tables, and the plot of --scaling beside it.")
    ] = None,
) -> None:
    """Measure speed and memory, part by part, beside the published code and the compared methods.

    Exit code: 0 measured, 1 the outputs of the published code differ from ours, 2 wrong usage.
    """
    with reporting():
        import shlex

        from .benchmarks.photos import parse_photos
        from .benchmarks.regression_rivals import parse_rival
        from .benchmarks.run import Options
        from .benchmarks.run import bench as run_benchmark

        options = Options(
            model=model,
            device=device,
            dtype=dtype,
            size=size,
            batch=batch,
            repeat=repeat,
            published_code=published_code,
            ldm=ldm,
            rivals=[parse_rival(text) for text in rival or ()],
            scaling=scaling,
            photos=[] if photos is None else parse_photos(photos),
            json=json,
            markdown=markdown,
            command=shlex.join(["restorevar", *sys.argv[1:]]),
        )
        raise typer.Exit(0 if run_benchmark(options, typer.echo).agrees else FAILED)


# ------------------------------------------------------------------------------------------------- data sets

data_app = typer.Typer(help="Data sets on disk: find their pairs, check them, write manifests.")
app.add_typer(data_app, name="data")


@data_app.command("index")
def data_index(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="The unpacked data set, or one of its parts.")],
    layout: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="reside, snow100k, rain13k, lolv1, gopro, lhp, revide, toled, poled, lolblur, cdd, or paired: any "
            "input and target side by side.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The manifest to write.")],
    split: Annotated[str, typer.Option(metavar="train|val|test|all", help="Only the pairs of this split.")] = "all",
    variant: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Other degraded images: gopro blur_gamma, cdd low_haze, ..."),
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Manifest that should share no picture with this one; repeatable."),
    ] = None,
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Open no image: pair names and count, nothing else.")
    ] = False,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all that was found as JSON.")] = None,
) -> None:
    """Find the pairs of a published data set, check every file, write the manifest of those that can be used.

    Exit code 0 if a manifest was written, whatever problems were told of; 2 if there are no pairs.
    """
    with reporting():
        if no_check and against:
            raise UserError("--against compares pictures, which --no-check does not open")

        from .data import audit
        from .data.layouts import scan
        from .data.manifest import check_place, read_manifest, write_json, write_manifest

        others = {str(path): read_manifest(path) for path in against or ()}
        index = scan(layout, root, split, variant)
        for place in filter(None, (out, report)):
            check_place(place)
        with _checking() as progress:
            result = audit.audit_index(index, not no_check, others, progress)
        if report is not None:
            write_json(audit.as_report(result), report)
        for line in (*audit.count_lines(result.counts), *audit.problem_lines(result, index.root)):
            typer.echo(_one_line(line))
        if not result.pairs:
            raise UserError(f"{root}: none of {len(index.complete)} pairs can be used")
        write_manifest(result.pairs, out)
        left_out = len(index.complete) - len(result.pairs)
        typer.echo(f"{len(result.pairs):,} pairs in {out}" + (f", {left_out:,} left out" if left_out else ""))
        if len({entry.split for entry in result.pairs}) > 1:
            typer.echo("the manifest holds several splits; to train on one of them, write it with --split train")


@contextmanager
def _checking() -> Iterator[Callable[[int, int], None]]:
    """What shows how many files have been checked. The bar is for terminals only."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    with _bar() as bar:
        task = bar.add_task("checking", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@data_app.command("speed")
def data_speed(
    data: Annotated[list[str] | None, typer.Option(metavar="DIR", help="Folder of clean photographs.")] = None,
    pairs: Annotated[list[str] | None, typer.Option(metavar="FILE", help="Manifest of real pairs.")] = None,
    size: Annotated[int, typer.Option(min=16, help="Side of the crops in pixels.")] = 256,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode and degrade; 0: none of their own.")] = 0,
    seconds: Annotated[float, typer.Option(help="How long to measure.")] = 20.0,
) -> None:
    """Images per second of decoding, cutting and degrading alone. While training, RUN/log.jsonl has "waiting"."""
    with reporting():
        from .data.pairs import PairSource, Source
        from .training.replay import loader_speed

        source = PairSource([Source.parse(t) for t in data or ()], [Source.parse(t) for t in pairs or ()])
        typer.echo(f"{loader_speed(source, size, workers, seconds):.1f} images/s of {size}x{size}, {workers} workers")


# ------------------------------------------------------------------------------------------- published weights


@app.command()
def convert(
    vae: Annotated[Path, typer.Option(metavar="FILE", help="vae_restorevar.ckpt, or VAR's vae_ch160v4096z32.pth.")],
    transformer: Annotated[
        Path, typer.Option(metavar="FILE", help="restorevar.pth, or VAR's var_d16.pth: a start to train.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Model folder to write.")],
    refiner_heads: Annotated[int, typer.Option(help="Heads of the refiner; nothing in the file tells.")] = 6,
    window: Annotated[int, typer.Option(help="Of a start from VAR: 512 or 256.")] = 512,
) -> None:
    """Turn the published checkpoints into a model folder: safetensors, config, sha256. Runs no code from them."""
    with reporting():
        from .official_weights import convert as run_conversion

        typer.echo(f"{out}  sha256 {run_conversion(vae, transformer, out, refiner_heads, window)}")
