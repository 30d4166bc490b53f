"""Quality against steps and time of a diffusion baseline (figure 10): here the diffusion refiner, where one is trained.

The rollout before it is made once for each pair; only the refiner's schedule of DDIM steps changes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from ...acceleration import synchronize
from ...errors import UserError
from ...models import RestoreVAR
from ...models.diffusion_refiner import DiffusionRefiner
from ...pipeline import Restorer
from ..pairs import Pair
from .chart import Line, Panel, draw
from .findings import Findings, Table, Verdict, about
from .judging import decibels, judge, overall, to_claim
from .pyramid import predict
from .sampling import Progress, by_task, chosen_pairs, ignore, named, over_photos, views_of_pairs
from .views import View, decode_plain, latent_model, psnr

CLAIM = "The paper's figure 10 shows a latent diffusion baseline: its quality and its time grow with the DDIM steps."
RULE = (
    "Judged by PSNR (decoder alone, before rounding) with the most steps less that with the fewest: supported where "
    "the 95 % interval over photos lies above zero, contradicted where it lies below."
)
STEPS = (1, 2, 4, 8, 16, 32, 64)


def diffusion_refiner(model: RestoreVAR) -> DiffusionRefiner:
    """Raises UserError for a model with another refiner, telling how to train one."""
    if not isinstance(model.refiner, DiffusionRefiner):
        raise UserError(
            f"the refiner of this model is {model.config.refiner.kind!r} and takes no steps; train a diffusion "
            "baseline: restorevar train --set model.refiner.kind=diffusion"
        )
    return model.refiner


@contextmanager
def with_steps(refiner: DiffusionRefiner, steps: int) -> Iterator[None]:
    """The refiner with so many steps inside, and as it was after."""
    before = refiner.config
    try:
        refiner.config = replace(before, steps=steps)
    except ValueError:
        raise UserError(f"a diffusion refiner takes 1 to 1000 steps, not {steps}") from None
    try:
        yield
    finally:
        refiner.config = before


@torch.inference_mode()
def sweep(model: RestoreVAR, clean: View, degraded: View, steps: Sequence[int] = STEPS) -> list[dict[str, float]]:
    """For each number of steps: dB to the clean photo, mean absolute latent distance, seconds of the refiner."""
    refiner = diffusion_refiner(model)
    target = model.vqvae.encode(clean.image_B3HW).float()
    prediction = predict(model, degraded.image_B3HW)
    f_hat, hidden = prediction.pyramid.latent, prediction.hidden_BLD
    model.refine(f_hat, hidden)  # warm up
    rows = []
    for number in steps:
        with with_steps(refiner, number):
            synchronize(f_hat.device)
            began = time.perf_counter()
            refined = model.refine(f_hat, hidden)
            synchronize(f_hat.device)
            seconds = time.perf_counter() - began
        quality = psnr(clean.crop(decode_plain(model, refined)), clean.photo_3HW)
        latent = float((refined - target).abs().mean())
        rows.append({"steps": number, "psnr": quality, "latent": latent, "seconds": seconds})
    return rows


def study_ddim(
    restorer: Restorer,
    pairs: Sequence[Pair],
    *,
    size: int,
    steps: Sequence[int] = STEPS,
    limit: int | None = None,
    command: str = "",
    progress: Progress = ignore,
) -> Findings:
    """The sweep on every pair. Raises UserError for a model without a diffusion refiner."""
    model = latent_model(restorer)
    for number in steps:
        with with_steps(diffusion_refiner(model), number):
            pass
    steps = sorted(set(steps))
    chosen = chosen_pairs(pairs, limit)
    records: list[dict[str, Any]] = []
    for pair, clean, degraded in views_of_pairs(restorer, chosen, size, progress):
        records.append(named(pair) | {"steps": sweep(model, clean, degraded, steps)})
    verdicts = [_judge(task, rows) for task, rows in by_task(records).items()]
    findings = Findings("Quality against DDIM steps", CLAIM, RULE, about(restorer, command, size), records=records)
    findings.verdicts = [overall(verdicts, "That more steps give more quality"), *verdicts]
    findings.tables = [_table(records, steps)]
    findings.charts["steps"] = _chart(records, steps)
    return findings


def _judge(task: str, rows: Sequence[dict[str, Any]]) -> Verdict:
    gain = over_photos((row["photo"], row["steps"][-1]["psnr"] - row["steps"][0]["psnr"]) for row in rows)
    steps = [found["steps"] for found in rows[0]["steps"]]
    qualities, seconds = _means(rows)
    best = max(range(len(steps)), key=lambda i: qualities[i])
    word = judge(gain)
    sentence = (
        f"{task}: {to_claim(word)}. From {steps[0]} to {steps[-1]} steps {decibels(gain)}, the refiner's time from "
        f"{1000 * seconds[0]:.0f} to {1000 * seconds[-1]:.0f} ms; best at {steps[best]} steps with "
        f"{qualities[best]:.2f} dB; {len(rows)} pairs of {gain.n} photos."
    )
    figures: dict[str, float | None] = {"gain": gain.mean, "best": steps[best], "pairs": len(rows), "photos": gain.n}
    return Verdict(task, word, sentence, figures=figures)


def _means(rows: Sequence[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """PSNR (mean over photos) and seconds (median) by number of steps."""
    numbers = range(len(rows[0]["steps"]))
    qualities = [over_photos((row["photo"], row["steps"][i]["psnr"]) for row in rows).mean for i in numbers]
    return qualities, [statistics.median(row["steps"][i]["seconds"] for row in rows) for i in numbers]


def _table(records: Sequence[dict[str, Any]], steps: Sequence[int]) -> Table:
    rows = []
    for task, found in by_task(records).items():
        qualities, seconds = _means(found)
        rows += [
            [f"{task}, PSNR in dB", *(f"{q:.2f}" for q in qualities)],
            [f"{task}, refiner's time in ms", *(f"{1000 * s:.1f}" for s in seconds)],
        ]
    caption = "Means over photos of the PSNR, medians of the refiner's time, by number of steps."
    return Table(caption, ["task", *map(str, steps)], rows)


def _chart(records: Sequence[dict[str, Any]], steps: Sequence[int]) -> str:
    by_steps, by_time = [], []
    for task, found in by_task(records).items():
        qualities, seconds = _means(found)
        by_steps.append(Line(task, [(float(n), q) for n, q in zip(steps, qualities, strict=True)]))
        by_time.append(Line(task, sorted((1000 * s, q) for s, q in zip(seconds, qualities, strict=True))))
    y = "PSNR to the clean photo, dB"
    return draw(
        [Panel("Steps", "DDIM steps", y, by_steps, True), Panel("Time", "time of the refiner, ms", y, by_time, True)]
    )
