"""The error budget over a data set: a sentence and a table a task, which scale is to blame, and the worst photos."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image

from ...images import from_tensor
from ...pipeline import Restorer
from ..pairs import Pair
from ..statistics import Mean
from .budget import ASIDE, STAGES, account
from .drawing import Strip, Tile, sheet
from .findings import Findings, Table, Verdict, about
from .judging import decibels, listed
from .sampling import Progress, by_task, chosen_pairs, ignore, named, over_photos, views_of_pairs
from .views import latent_model, psnr

CLAIM = "Where are the decibels lost between the clean photo and ours, and which photos come out worst?"
RULE = (
    "PSNR to the clean photo before rounding, GMSD of luma (0 is equal); means over photos, differences with their "
    "95 % intervals over photos (t). A stage's cost is what the decoded picture loses from the stage before to it."
)


@dataclass(frozen=True)
class Worst:
    """One of the photos that gained least: name, dB, and (input, output, truth) as pixels."""

    photo: str
    gain: float
    restored: float
    images: tuple[np.ndarray, np.ndarray, np.ndarray]


def study_budget(
    restorer: Restorer,
    pairs: Sequence[Pair],
    *,
    size: int,
    tasks: Sequence[str] = (),
    limit: int | None = None,
    worst: int = 10,
    command: str = "",
    progress: Progress = ignore,
) -> tuple[Findings, dict[str, Image.Image]]:
    """The budget of every pair, clean ones too, and for each task a sheet of the photos that gained least.

    `tasks`: only these; `limit`: pairs of each. Raises UserError for models without token maps, and without pairs.
    """
    latent_model(restorer)
    asked = [pair for pair in pairs if not tasks or pair.task in tasks]
    records: list[dict[str, Any]] = []
    least: dict[str, list[Worst]] = {}
    for pair, clean, degraded in views_of_pairs(restorer, chosen_pairs(asked, limit, skip=()), size, progress):
        found = account(restorer, clean, degraded)
        records.append(
            named(pair)
            | {"scores": {name: asdict(score) for name, score in found.scores.items()}}
            | {"prefixes": list(found.prefixes), "right": {name: list(each) for name, each in found.right.items()}}
        )
        after = psnr(found.restored, clean.photo_3HW)
        images = tuple(from_tensor(i) for i in (degraded.photo_3HW, found.restored, clean.photo_3HW))
        entry = Worst(pair.image, after - found.scores["input"].psnr, after, images)  # type: ignore[arg-type]
        least[pair.task] = sorted([*least.get(pair.task, []), entry], key=lambda w: w.gain)[:worst]
    told = about(restorer, command, size) | {"fidelity": restorer.fidelity}
    return conclude(records, told), {task: _sheet(task, found) for task, found in least.items()}


def conclude(records: list[dict[str, Any]], told: dict[str, Any]) -> Findings:
    """From measured pairs to a sentence and a table a task, and the tables of scales."""
    findings = Findings("Error budget", CLAIM, RULE, told, records=records)
    for task, rows in by_task(records).items():
        findings.verdicts.append(_sentence(task, rows))
        findings.tables.append(_stages(task, rows))
    findings.tables += [_prefixes(records), _right(records)]
    return findings


def _chain(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The stages that this model has."""
    return [name for name in STAGES if name in rows[0]["scores"]]


def _mean(rows: Sequence[dict[str, Any]], *keys: str | int) -> float:
    """Over photos, of what lies below these keys in each record."""
    values: Iterable[Any] = (functools.reduce(operator.getitem, keys, row) for row in rows)  # type: ignore[arg-type]
    return over_photos(zip((row["photo"] for row in rows), values, strict=True)).mean


def _steps(rows: Sequence[dict[str, Any]]) -> dict[str, Mean]:
    """dB from one stage to the next, by the latter's name."""
    return {
        after: over_photos((r["photo"], r["scores"][after]["psnr"] - r["scores"][before]["psnr"]) for r in rows)
        for before, after in pairwise(_chain(rows))
    }


def _sentence(task: str, rows: Sequence[dict[str, Any]]) -> Verdict:
    """What costs most, in order."""
    steps = _steps(rows)
    ordered = sorted(steps, key=lambda name: steps[name].mean)
    losses = [f"{name} {decibels(steps[name])}" for name in ordered if steps[name].mean < 0]
    gains = [f"{name} {decibels(steps[name])}" for name in reversed(ordered) if steps[name].mean >= 0]
    last = next(name for name in ("branch", "refined", "rollout") if name in rows[0]["scores"])
    came, went, ceiling = (_mean(rows, "scores", name, "psnr") for name in ("input", last, "autoencoder"))
    sentence = (
        f"**{task}**: {came:.2f} dB come in, {went:.2f} go out, the autoencoder alone allows {ceiling:.2f}. Costs: "
        f"{listed(losses) if losses else 'none'}. Gains: {listed(gains) if gains else 'none'}. {len(rows)} pairs."
    )
    return Verdict(task, None, sentence, figures={name: step.mean for name, step in steps.items()})


def _stages(task: str, rows: Sequence[dict[str, Any]]) -> Table:
    steps, lines = _steps(rows), []
    for name, text in {"input": "the degraded photo", **STAGES, **ASIDE}.items():
        if name in rows[0]["scores"]:
            decibel, gmsd = (_mean(rows, "scores", name, measure) for measure in ("psnr", "gmsd"))
            step = decibels(steps[name]) if name in steps else ""
            lines.append([f"{name}: {text}", f"{decibel:.2f}", step, f"{gmsd:.4f}"])
    caption = f"{task}: stage by stage, {len(rows)} pairs; last what else could be."
    return Table(caption, ["stage", "PSNR, dB", "from the stage before", "GMSD"], lines)


def _prefixes(records: Sequence[dict[str, Any]]) -> Table:
    """Which scale's mistakes cost what."""
    counts = range(len(records[0]["prefixes"]))
    lines = [[task, *(f"{_mean(rows, 'prefixes', n):.2f}" for n in counts)] for task, rows in by_task(records).items()]
    caption = "PSNR, dB, of the unrefined rollout when so many of the coarsest scales are the true ones."
    return Table(caption, ["task", *map(str, counts)], lines)


def _right(records: Sequence[dict[str, Any]]) -> Table:
    scales = range(len(records[0]["prefixes"]) - 1)
    lines = [
        [f"{task}, from {whose} scales", *(f"{100 * _mean(rows, 'right', name, k):.0f}" for k in scales)]
        for task, rows in by_task(records).items()
        for name, whose in {"forced": "true", "rollout": "predicted"}.items()
    ]
    caption = "Tokens that are the true ones, % of each scale, the coarsest first."
    return Table(caption, ["task, predicted", *(str(k + 1) for k in scales)], lines)


def _sheet(task: str, found: Sequence[Worst]) -> Image.Image:
    strips = [
        Strip(
            f"{task}, {worst.photo}: {worst.restored:.2f} dB, {worst.gain:+.2f} to the input",
            [Tile(pixels, name) for pixels, name in zip(worst.images, ("input", "output", "truth"), strict=True)],
        )
        for worst in found
    ]
    return sheet(strips, cell=320)
