"""The paper's ablations, and our own: each variant trained from the same seed, for as many steps, then measured.

What variants share is trained once. Each has a folder OUT/<variant>/ with a run of its own for every group of stages
(STAGE_GROUPS) from the first in which it differs; the groups before are those of "full".
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints import load_model
from ..data.manifest import write_json, write_text
from ..data.mixes import CLEAN
from ..data.pairs import PairSource, Source, to_model
from ..errors import UserError, first_line
from ..models import RestoreVAR, RestoreVARConfig
from ..models import config as presets
from .losses import differences, psnr, ssim
from .overrides import apply_overrides
from .recipes import STAGE_GROUPS, ablation, ablation_model, compact
from .reporting import Report
from .run import make_accelerator, parse_budget, starting_model
from .trainer import Schedule, Setting, Stage, fit

FULL = "full"


@dataclass(frozen=True)
class Variant:
    """The full model but for `settings` (see overrides.py), which take effect from the group `start` on."""

    name: str
    about: str
    paper: str = "ours"  #: the figure or table that it is to be compared with
    start: str = "transformer"
    settings: tuple[str, ...] = ()
    without: tuple[str, ...] = ()  #: groups that are left out
    seed: int = 0  #: added to the seed

    @property
    def groups(self) -> list[str]:
        """Those that are trained for this variant alone."""
        names = list(STAGE_GROUPS)
        return [name for name in names[names.index(self.start) :] if name not in self.without]


# fmt: off
VARIANTS = (
    Variant(FULL, "the full model", "figs. 8, 11, 12, table 4", "vqvae"),
    Variant("other-seed", "the same with another seed: the size of chance", seed=1),
    Variant("condition-discrete", "quantized latent as condition", "fig. 8", settings=("model.condition=discrete",)),
    Variant("positions-absolute", "a learned vector per token", "fig. 11",
            settings=("model.transformer.positions=absolute",)),
    Variant("refiner-none", "no refiner", "table 4", "refiner", ("model.refiner.kind=none",), without=("refiner",)),
    Variant("refiner-no-hidden", "LRT without hidden states", "table 4", "refiner", ("model.refiner.hidden=false",)),
    Variant("refiner-diffusion", "HART's diffusion MLP, 8 steps", "table 4", "refiner",
            ("model.refiner.kind=diffusion", "model.refiner.steps=8")),
    Variant("decoder-untouched", "decoder not fine-tuned", "fig. 8", "decoder", without=("decoder",)),
    Variant("decoder-no-ssim", "no SSIM loss", "fig. 12", "decoder", ("decoder.loss.ssim=0",)),
    Variant("decoder-no-perceptual", "no perceptual loss", "fig. 12", "decoder", ("decoder.loss.perceptual=0",)),
    Variant("decoder-no-discriminator", "no discriminator", "fig. 8", "decoder", ("decoder.loss.adversarial=0",)),
    Variant("no-self-rollout", "teacher forcing only, as published", settings=("transformer.self_rollout=0",)),
    Variant("no-scale-balance", "all tokens weigh alike, as published", settings=("transformer.scale_balance=0",)),
    Variant("rollout-argmax", "argmax codes, as published; same transformer", start="refiner",
            settings=("model.rollout=argmax",)),
)
# fmt: on


@dataclass(frozen=True)
class Options:
    """What `restorevar ablate` takes."""

    data: Sequence[str | Path]  #: folders of clean photographs, PATH or PATH=WEIGHT
    scale: str = "debug"
    budget: str = "20m"  #: training time of all variants together, measurements not counted
    only: Sequence[str] = ()  #: names of variants; "full" always comes with them
    settings: Sequence[str] = ()  #: for all variants
    seed: int = 0
    device: str = "cpu"
    precision: torch.dtype = torch.float32
    crops: int = 32  #: validation crops of each task


@dataclass
class Row:
    """One variant measured; dB, SSIM and sharpness are means over the tasks, of the paper's path (W = 0)."""

    variant: str
    about: str
    paper: str
    parameters: int = 0
    refiner_parameters: int = 0
    seconds_per_image: float = math.nan  #: one native window, batch of one
    psnr: float = math.nan
    ssim: float = math.nan
    sharpness: float = math.nan  #: mean difference between neighbouring pixels, as a share of the truth's
    steps: dict[str, int] = field(default_factory=dict)
    tasks: dict[str, float] = field(default_factory=dict)  #: dB of each task
    crops: list[float] = field(default_factory=list)  #: dB of each crop, for paired differences
    error: str | None = None


# ------------------------------------------------------------------------------------------------------ scales


def _debug_scale() -> tuple[RestoreVARConfig, list[Stage]]:
    return ablation_model(), ablation()


def _compact_scale() -> tuple[RestoreVARConfig, list[Stage]]:
    """The compact recipe on windows of 256 pixels only: absolute positions fit no others. No fidelity branch."""
    config = replace(presets.compact(), scales=presets.ScaleSchedule(presets.VAR_256_SIDES), fidelity=None)
    stages: list[Any] = [stage for stage in compact() if stage.name in {papers.name for papers in ablation()}]
    for stage in stages:
        if hasattr(stage, "shapes"):
            stage.shapes = {(config.window, config.window): 1.0}
        if stage.name == "decoder":
            judged = next(s for s in ablation() if s.name == "decoder").loss  # type: ignore[attr-defined]
            stage.loss, stage.crop, stage.share = replace(judged, discriminator_width=32), (192,), 0.03
    return config, stages


SCALES: Mapping[str, Callable[[], tuple[RestoreVARConfig, list[Stage]]]] = {
    "debug": _debug_scale,
    "compact": _compact_scale,
}


# ---------------------------------------------------------------------------------------------------- the study


def ablate(out: Path, options: Options, tell: Callable[[str], None] = lambda line: None) -> list[Row]:
    """Train and measure the variants that are not done yet in `out`; `tell` hears of each that is.

    Writes ablation.md and ablation.json after each. A variant that fails becomes a row with its error, and is tried
    again next time. Raises UserError for what concerns all of them; KeyboardInterrupt when stopped, with a checkpoint.
    """
    chosen = _choose(options.only)
    study = _Study(out, options)
    for variant in chosen:
        row = study.rows.get(variant.name)
        if row is None or row.error is not None:
            row = study.rows[variant.name] = _row(study, variant)
            study.write()
        tell(f"{variant.name}: {row.error or f'{row.psnr:.2f} dB'}")
    return study.ordered()


def _choose(only: Iterable[str]) -> list[Variant]:
    known = {variant.name: variant for variant in VARIANTS}
    for name in only:
        if name not in known:
            raise UserError(f"--only {name}: one of {', '.join(known)}")
    return [variant for variant in VARIANTS if not only or variant.name in (FULL, *only)]


def _row(study: _Study, variant: Variant) -> Row:
    row = Row(variant.name, variant.about, variant.paper)
    try:
        return study.measure(study.train(variant), row)
    except Exception as error:  # whatever one variant may cause, the others can still be trained
        row.error = first_line(error)
        return row


class _Study:
    """The folder of one ablation: runs, rows, and what all of them share."""

    def __init__(self, out: Path, options: Options):
        if options.scale not in SCALES:
            raise UserError(f"--scale {options.scale}: one of {', '.join(SCALES)}")
        self.out, self.options = out, options
        self.config, stages = self._plan(())
        self.seconds = _share_out(parse_budget(options.budget), stages)
        self.source = PairSource([Source.parse(str(text)) for text in options.data], [], options.seed)
        self.about = {
            "scale": options.scale,
            "budget": options.budget,
            "settings": list(options.settings),
            "seed": options.seed,
            "crops": options.crops,
            "data": self.source.fingerprint(),
        }
        self.failed: dict[Path, Exception] = {}  #: groups that others wait for, too
        self.bounds: list[Row] = []  #: between which the variants should lie
        self.rows: dict[str, Row] = {}
        self._read()

    # ---------------------------------------------------------------------------------------------- training

    def train(self, variant: Variant) -> RestoreVAR:
        """Whatever groups of the variant are not done yet; returns its model."""
        folder = None
        for group in STAGE_GROUPS:
            if group in variant.groups:
                folder = self._train_group(variant, group, folder)
            elif group not in variant.without:
                folder = self._train_group(VARIANTS[0], group, folder)
        assert folder is not None
        model = load_model(str(folder / "model")).model
        assert isinstance(model, RestoreVAR)
        return model

    def _train_group(self, variant: Variant, group: str, parent: Path | None) -> Path:
        """A run of one group of stages, starting from the model of the run `parent`; returns its folder."""
        folder = self.out / variant.name / group
        if folder in self.failed:
            raise self.failed[folder]
        try:
            self._run(folder, variant, group, parent)
        except Exception as error:
            self.failed[folder] = error
            raise
        return folder

    def _run(self, folder: Path, variant: Variant, group: str, parent: Path | None) -> None:
        config, stages = self._plan(variant.settings)
        stages = [stage for stage in stages if stage.name in STAGE_GROUPS[group]]
        if all((folder / f"{stage.name}.done").exists() for stage in stages):
            return
        folder.mkdir(parents=True, exist_ok=True)
        seed = self.options.seed + variant.seed
        torch.manual_seed(seed)  # of whatever starts anew
        model = starting_model(folder, None if parent is None else str(parent / "model"), config)
        accelerator = make_accelerator(self.options.device, self.options.precision)
        model.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.source.seed = seed
        report = Report(folder, bar=False)
        try:
            for stage in stages:
                stage.schedule = self._limited(stage, variant)
                fit(model, stage, Setting(self.source, folder, accelerator, report))
        finally:
            report.close()
            accelerator.free_memory()

    def _limited(self, stage: Stage, variant: Variant) -> Schedule:
        """By the clock for the full model; the others take as many steps as it did."""
        group = next(name for name, stages in STAGE_GROUPS.items() if stage.name in stages)
        done = self.out / FULL / group / f"{stage.name}.done"
        if variant.name == FULL or not done.exists():
            return replace(stage.schedule, seconds=self.seconds[stage.name])
        return replace(stage.schedule, steps=_steps_of(done))

    def _plan(self, settings: Sequence[str]) -> tuple[RestoreVARConfig, list[Stage]]:
        config, stages = SCALES[self.options.scale]()
        found, stages = apply_overrides(config, stages, [*settings, *self.options.settings])
        assert isinstance(found, RestoreVARConfig)
        return found, stages

    # --------------------------------------------------------------------------------------------- measuring

    def measure(self, model: RestoreVAR, row: Row) -> Row:
        """Fills the row."""
        device = self.options.device
        model.to(device)
        self._judge(row, lambda clean, degraded: model.restore(degraded.to(device), fidelity=0.0).cpu())
        if row.variant == FULL:
            coded = Row("(coded)", "the clean crops, encoded and decoded by full", "")
            self.bounds = [self._degraded(), self._judge(coded, lambda clean, _: _coded(model, clean.to(device)).cpu())]
        counts = model.count_parameters()
        row.parameters, row.refiner_parameters = sum(counts.values()), counts["refiner"]
        row.seconds_per_image = _seconds(model, self.config.window, self.options.device)
        row.steps = {p.stem: _steps_of(p) for p in sorted((self.out / row.variant).glob("*/*.done"))}
        return row

    def _degraded(self) -> Row:
        return self._judge(Row("(degraded)", "the crops as they come", ""), lambda clean, degraded: degraded)

    def _judge(self, row: Row, make: Callable[[Tensor, Tensor], Tensor]) -> Row:
        """`make` of (clean, degraded) held-out crops of the native window; all tasks but the clean one count alike."""
        figures = []
        for task in self._tasks():
            pairs = self.source.validation(self.options.crops, self.config.window, self.config.window, task)
            clean, degraded = to_model(pairs.clean), to_model(pairs.degraded)
            restored = make(clean, degraded)
            each = psnr(restored, clean)
            row.crops += each.tolist()
            row.tasks[task] = float(each.mean())
            figures.append((row.tasks[task], float(ssim(restored, clean)), _sharpness(restored) / _sharpness(clean)))
        row.psnr, row.ssim, row.sharpness = (sum(values) / len(values) for values in zip(*figures, strict=True))
        return row

    def _tasks(self) -> list[str]:
        return [task for task in self.source.validation_tasks() if task != CLEAN]

    # ------------------------------------------------------------------------------------------------- files

    def ordered(self) -> list[Row]:
        return [self.rows[variant.name] for variant in VARIANTS if variant.name in self.rows]

    def write(self) -> None:
        rows, bounds = ([_plain(row) for row in rows] for rows in (self.ordered(), self.bounds))
        write_json({"about": self.about, "bounds": bounds, "rows": rows}, self.out / "ablation.json")
        write_text(table([*self.bounds, *self.ordered()]) + "\n", self.out / "ablation.md")

    def _read(self) -> None:
        path = self.out / "ablation.json"
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            saved: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not readable ({error})") from None
        if changed := [name for name, value in self.about.items() if saved and saved["about"].get(name) != value]:
            raise UserError(f"{self.out}: holds an ablation with other {', '.join(changed)}; give another --out")
        self.bounds = [Row(**row) for row in saved.get("bounds", [])]
        self.rows = {row["variant"]: Row(**row) for row in saved.get("rows", [])}


def _share_out(budget: float, stages: Sequence[Stage]) -> dict[str, float]:
    """Seconds of each stage: by its share, so that all runs of all variants together take the budget."""
    groups = {stage.name: next(g for g, names in STAGE_GROUPS.items() if stage.name in names) for stage in stages}
    runs = {stage.name: sum(groups[stage.name] in variant.groups for variant in VARIANTS) for stage in stages}
    whole = sum(stage.share * runs[stage.name] for stage in stages)
    return {stage.name: budget * stage.share / whole for stage in stages}


def _plain(row: Row) -> dict[str, Any]:
    """For JSON, which has no NaN: what was not measured is null."""
    return {name: None if value != value else value for name, value in asdict(row).items()}


def _steps_of(done: Path) -> int:
    return int(done.read_text().split()[0])


@torch.no_grad()
def _coded(model: RestoreVAR, clean_B3HW: Tensor) -> Tensor:
    return model.vqvae.decode(model.vqvae.encode(clean_B3HW))


def _sharpness(image_B3HW: Tensor) -> float:
    """Mean absolute difference between neighbouring pixels: blur lowers it, invented texture raises it."""
    across, down = (difference.abs().mean() for difference in differences(image_B3HW))
    return float(across + down)


def _seconds(model: RestoreVAR, side: int, device: str, repeats: int = 8) -> float:
    """The shortest time of restoring one window: what else the machine does only makes it longer."""
    image, times = torch.zeros(1, 3, side, side, device=device), []
    for _ in range(repeats):
        began = time.perf_counter()
        model.restore(image, fidelity=0.0).cpu()  # the copy waits for the device
        times.append(time.perf_counter() - began)
    return min(times)


# ---------------------------------------------------------------------------------------------------- the table


def table(rows: Sequence[Row]) -> str:
    """Markdown. The difference to the full model is the mean over paired crops, with its standard error."""
    full = next((row for row in rows if row.variant == FULL and row.error is None), None)
    lines = [
        "| variant | | paper | parameters (refiner) | s / image | PSNR | SSIM | sharpness | dB to full |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        start = f"| {row.variant} | {row.about} | {row.paper} |"
        if row.error is not None:
            lines.append(f"{start} failed: {row.error.replace('|', '/')} | | | | | |")
            continue
        size = f"{row.parameters / 1e6:.3f} M ({row.refiner_parameters / 1e6:.3f})" if row.parameters else ""
        seconds = f"{row.seconds_per_image:.4f}" if row.parameters else ""
        quality = f"{row.psnr:.2f} | {row.ssim:.3f} | {row.sharpness:.2f}"
        lines.append(f"{start} {size} | {seconds} | {quality} | {_against(row, full)} |")
    return "\n".join(lines)


def _against(row: Row, full: Row | None) -> str:
    if full is None or row is full:
        return ""
    if len(row.crops) != len(full.crops):
        return f"{row.psnr - full.psnr:+.2f}"
    differences = [a - b for a, b in zip(row.crops, full.crops, strict=True)]
    error = statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else 0.0
    return f"{statistics.fmean(differences):+.2f} ± {error:.2f}"
