"""How far what was learned carries: degradations trained on, mixtures of them, and some never seen, in one table.

Pairs are made from clean photos by the same seeded code as all synthetic ones, and scored as `restorevar evaluate`
does. Real photos have no truth: they are scored by `evaluate` with metrics that need none, and looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...data.degradations import DEGRADATIONS
from ...data.mixes import MIXES
from ...data.synthesis import EVAL_STRENGTH, make_pairs
from ...errors import UserError
from ..methods import ModelMethod
from ..metrics import find_metrics
from ..pairs import Pair, find_pairs
from ..protocols import find_protocol
from ..rows import Row
from ..scoring import Listener, evaluate
from .findings import Findings, Table, Verdict, about
from .judging import decibels, judge, overall, to_claim
from .sampling import over_photos, photo_of
from .unseen import UNSEEN, degrade_any

CLAIM = "The paper says (section 4, table 2): the method also restores mixed and unseen degradations."
RULE = (
    "Judged by the gain in PSNR over the degraded photo: supported where its 95 % interval, over photos, lies above "
    "zero, contradicted where it lies below. Trained on or not: by the recipes of this repository."
)
MIXTURES = ("haze+rain", "lowlight+blur", "rain+snow", "haze+blur")
#: What is scored if nothing is asked for: all degradations trained on, mixtures, all unseen ones.
TASKS = (*DEGRADATIONS, *MIXTURES, *UNSEEN)


def familiarity(task: str) -> str:
    """How well the recipes of this repository know a task."""
    if task in UNSEEN:
        return "unseen"
    trained = {frozenset(name.split("+")) for name in MIXES["train"].weights}
    mixture = "+" in task
    if frozenset(task.split("+")) in trained:
        return "mixture trained on" if mixture else "trained on"
    return "new mixture"


def make_set(
    photos: Iterable[Path],
    out: Path,
    tasks: Sequence[str] = (),
    seed: int = 0,
    strength: tuple[float, float] = EVAL_STRENGTH,
    max_side: int | None = None,
) -> list[Pair]:
    """Write OUT/<task>/{input,target} for every photo and task (default: TASKS). Raises UserError for unknown tasks."""
    for task in tasks:
        if unknown := set(task.split("+")) - set(DEGRADATIONS) - {"clean"} if task not in UNSEEN else set():
            known = ", ".join((*DEGRADATIONS, *UNSEEN))
            raise UserError(f"unknown degradation {min(unknown)!r}; there are {known}, and mixtures like haze+rain")
    tasks = list(dict.fromkeys(tasks)) or list(TASKS)
    make_pairs(photos, out, tasks, seed, strength, max_side, degrading=degrade_any)
    return [pair for task in tasks for pair in find_pairs(out / task, task=task)]


def study_generalisation(
    method: ModelMethod,
    pairs: Sequence[Pair],
    protocol: str = "saved-8bit",
    rows: str | os.PathLike[str] | None = None,
    command: str = "",
    listener: Listener | None = None,
) -> Findings:
    """Score all pairs and judge each task. `rows`: as the log of `evaluate`, which makes it resumable."""
    scored = evaluate(method, pairs, find_protocol(protocol), find_metrics(["psnr", "ssim"]), rows, listener=listener)
    if not scored:
        raise UserError("no pair could be scored")
    told = about(method.restorer, command) | {"fidelity": method.settings["fidelity"]}
    return conclude(scored, told | {"protocol": find_protocol(protocol).text})


def conclude(rows: Sequence[Row], told: dict[str, object]) -> Findings:
    """From rows to sentences and a table."""
    tasks = {task: [row for row in rows if row.task == task] for task in dict.fromkeys(row.task for row in rows)}
    findings = Findings("Generalisation", CLAIM, RULE, told)
    verdicts, lines = [], []
    for task, found in tasks.items():
        gains = [(_photo(row), row.scores["psnr"] - row.before["psnr"]) for row in found]
        gain, gained = over_photos(gains), sum(value > 0 for _, value in gains)
        word, known = judge(gain), familiarity(task)
        sentence = f"{task} ({known}): {to_claim(word)}. {decibels(gain)}; {gained} of {len(found)} photos gained."
        figures: dict[str, float | None] = {"gain": gain.mean, "gained": gained, "pairs": len(found), "photos": gain.n}
        verdicts.append(Verdict(task, word, sentence, known, figures))
        means = [_mean(found, name, part) for name in ("psnr", "ssim") for part in ("before", "scores")]
        interval = "" if gain.interval is None else f"{gain.interval.low:+.2f} to {gain.interval.high:+.2f}"
        shown = [f"{means[0]:.2f}", f"{means[1]:.2f}", f"{gain.mean:+.2f}", interval]
        lines.append(
            [task, known, str(len(found)), *shown, f"{gained} of {len(found)}", f"{means[2]:.3f}", f"{means[3]:.3f}"]
        )
    findings.verdicts = [overall(verdicts, "That photos come out better than they went in"), *verdicts]
    headers = [
        "task",
        "known",
        "n",
        "PSNR in",
        "PSNR out",
        "gain, dB",
        "95 % interval",
        "gained",
        "SSIM in",
        "SSIM out",
    ]
    caption = f"Synthetic pairs, means. {told.get('protocol', '')}"
    findings.tables = [Table(caption, headers, lines)]
    findings.records = [
        {"dataset": row.dataset, "task": row.task, "image": row.image, "before": dict(row.before)}
        | {"scores": dict(row.scores)}
        for row in rows
    ]
    return findings


def _mean(rows: Sequence[Row], metric: str, part: str) -> float:
    return over_photos((_photo(row), getattr(row, part)[metric]) for row in rows).mean


def _photo(row: Row) -> str:
    return photo_of(Pair(row.dataset, row.task, row.image, Path(row.input)))
