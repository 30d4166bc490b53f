"""The scale study over a data set: do the coarse scales carry the degradation, as the paper says (3.2)?"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from ...errors import UserError
from ...pipeline import Restorer
from ..pairs import Pair
from ..statistics import Mean
from .chart import Line, Panel, draw
from .findings import Findings, Table, Verdict, about
from .judging import decibels, judge, judge_all, overall, percent, to_claim
from .sampling import Progress, by_task, chosen_pairs, ignore, named, over_photos, shares_over_photos, views_of_pairs
from .swaps import Base, End, Swaps, swap_scales
from .views import latent_model

CLAIM = (
    "The paper says (3.2, figures 2, 9, 13): swapping the coarse scales of the clean photo's token maps for those of "
    "the degraded one brings the degradation back, swapping the fine ones does not."
)
ENDS: tuple[End, End] = ("coarse", "fine")
WHOSE: dict[Base, str] = {"truth": "the clean photo's token maps", "outputs": "the model's outputs"}


def check_splits(scales: int, splits: Sequence[int] | None) -> list[int] | None:
    """The numbers of scales to swap, half of them always among them. Raises UserError for impossible ones."""
    if splits is None:
        return None
    for n in splits:
        if not 0 <= n <= scales:
            raise UserError(f"the model has {scales} scales: {n} of them cannot be swapped")
    return sorted({*splits, scales // 2})


def study_scales(
    restorer: Restorer,
    pairs: Sequence[Pair],
    *,
    size: int,
    splits: Sequence[int] | None = None,
    outputs: bool = True,
    limit: int | None = None,
    command: str = "",
    progress: Progress = ignore,
    warn: Callable[[str], None] = logging.getLogger(__name__).warning,
) -> Findings:
    """Swap the scales of every pair, draw the curves, judge the claim, task by task.

    `size`: photos are shrunken until no side exceeds it. `limit`: pairs of each task. Raises UserError for models
    without token maps, and where no pair is left.
    """
    model = latent_model(restorer)
    scales = len(model.config.scales)
    wanted = check_splits(scales, splits)
    chosen = chosen_pairs(pairs, limit)
    records = []
    for pair, clean, degraded in views_of_pairs(restorer, chosen, size, progress, warn):
        try:
            records.append(as_record(pair, swap_scales(model, clean, degraded, wanted, outputs)))
        except ValueError as error:
            warn(f"{pair.input}: left out, {error}")
    if not records:
        raise UserError("no pair differs in its token maps")
    return conclude(records, about(restorer, command, size))


def as_record(pair: Pair, swaps: Swaps) -> dict[str, Any]:
    """Plain JSON types: who, tokens of each scale, share of tokens that differ, and the points of every curve."""
    curves = {
        base: {end: [asdict(point) for point in curve.points] for end, curve in ends.items()}
        for base, ends in swaps.curves.items()
    }
    return named(pair) | {
        "counts": swaps.counts,
        "changed": list(swaps.changed),
        "kept": swaps.kept,
        "ways": swaps.ways,
        "curves": curves,
    }


def record_of_two(clean: Path, degraded: Path, swaps: Swaps) -> dict[str, Any]:
    """As `as_record`, of two photos that are in no data set."""
    return as_record(Pair("", "", degraded.name, degraded, clean), swaps)


def conclude(records: list[dict[str, Any]], told: dict[str, Any]) -> Findings:
    """From measured pairs to sentences, tables and charts."""
    scales = len(records[0]["counts"])
    half = scales // 2
    rule = (
        "Judged at half of the scales: how much of the degradation comes back, measured along the way from one decoded "
        f"image to the other? The claim is supported where more than half comes back with the degraded photo's {half} "
        f"coarsest scales and less than half with its {half} finest, both with their whole 95 % intervals (over "
        "photos); contradicted where either interval lies on the other side; else left open. Pairs weigh by how far "
        "apart the two images are. Model's outputs tell something only where they, decoded so, are nearer to the clean "
        "photo than the degraded one, the 95 % interval of the difference in PSNR above zero; else left open."
    )
    findings = Findings("Scale study", CLAIM, rule, told, records=records)
    for base in cast("list[Base]", list(records[0]["curves"])):
        found = [_judge_task(rows, base, task, half) for task, rows in by_task(records).items()]
        subject = f"That coarse scales carry the degradation, in {WHOSE[base]}"
        findings.verdicts += [overall(found, subject, base), *found]
        findings.tables.append(_table(records, base))
    findings.tables += [_kept_table(records), _scale_table(records)]
    findings.charts["curves"] = _chart(records)
    return findings


# ----------------------------------------------------------------------------------------------------- verdicts


def _values(rows: Sequence[dict[str, Any]], base: Base, end: End, n: int, name: str) -> list[float]:
    """One value a pair, of the mixture with `n` scales swapped."""
    return [next(p[name] for p in row["curves"][base][end] if p["swapped"] == n) for row in rows]


def _mean(rows: Sequence[dict[str, Any]], base: Base, end: End, n: int, name: str) -> float:
    """Over photos, as the tables and the chart show it."""
    if name == "returned":
        return _returned(rows, base, end, n).mean
    return over_photos(zip(_photos(rows), _values(rows, base, end, n, name), strict=True)).mean


def _returned(rows: Sequence[dict[str, Any]], base: Base, end: End, n: int, shift: float = 0.0, sign: int = 1) -> Mean:
    """Share of the degradation that is back, shifted, with the sign; pairs weigh by how much there was."""
    shares, ways = _values(rows, base, end, n, "returned"), [row["ways"][base] for row in rows]
    triples = zip(_photos(rows), shares, ways, strict=True)
    return shares_over_photos((photo, sign * (share + shift), way) for photo, share, way in triples)


def _nearer(rows: Sequence[dict[str, Any]], base: Base) -> Mean:
    """dB by which the base is nearer to the clean photo than the degraded photo is, both decoded from tokens."""
    near, far = (_values(rows, base, "coarse", n, "psnr") for n in (0, len(rows[0]["counts"])))
    return over_photos((photo, a - b) for photo, a, b in zip(_photos(rows), near, far, strict=True))


def _photos(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [row["photo"] for row in rows]


def _judge_task(rows: Sequence[dict[str, Any]], base: Base, task: str, half: int) -> Verdict:
    back = {end: _returned(rows, base, end, half) for end in ENDS}
    tokens = sum(sum(row["counts"][:half]) / sum(row["counts"]) for row in rows) / len(rows)
    word = judge_all(_returned(rows, base, "coarse", half, -0.5), _returned(rows, base, "fine", half, -0.5, -1))
    whose, reason = "" if base == "truth" else ", model's outputs", ""
    if base == "outputs":
        nearer = _nearer(rows, base)
        if judge(nearer) != "supports":
            word = "leaves open"
            reason = (
                f"The output itself is not surely nearer to the clean photo than the degraded one: {decibels(nearer)}. "
            )
    sentence = (
        f"{task}{whose}: {to_claim(word)}. {reason}The {half} coarsest scales ({100 * tokens:.0f} % of the tokens) "
        f"bring back {percent(back['coarse'])} of the degradation, the {half} finest {percent(back['fine'])}; "
        f"{len(rows)} pairs of {back['coarse'].n} photos."
    )
    figures: dict[str, float | None] = {"pairs": len(rows), "photos": back["coarse"].n}
    for end, mean in back.items():
        figures[end] = mean.mean
        figures[f"{end}_low"], figures[f"{end}_high"] = (
            (mean.interval.low, mean.interval.high) if mean.interval else (None, None)
        )
    return Verdict(task, word, sentence, base, figures)


# ------------------------------------------------------------------------------------------- tables and the chart


def _counts(records: Sequence[dict[str, Any]]) -> list[int]:
    """How many scales were swapped, in all mixtures."""
    return [point["swapped"] for point in next(iter(records[0]["curves"].values()))["coarse"]]


def _table(records: Sequence[dict[str, Any]], base: Base) -> Table:
    """The means of all curves: what the chart shows, in numbers."""
    counts = _counts(records)
    rows = []
    for task, found in by_task(records).items():
        for end in ENDS:
            for name, text in (("returned", "back, %"), ("latent", "latent distance"), ("psnr", "PSNR, dB")):
                means = [_mean(found, base, end, n, name) for n in counts]
                shown = [f"{100 * m:.0f}" if name == "returned" else f"{m:.2f}" for m in means]
                rows.append([task, "coarsest" if end == "coarse" else "finest", text, *shown])
    caption = (
        f"In {WHOSE[base]}: means over photos against the number of scales that are the degraded photo's. Back: share "
        "of the degradation that is back in the decoded image. Latent distance: RMS to the clean photo's quantized "
        "latent, that of the degraded one's is 1. PSNR: of the decoded image to the clean photo, before rounding."
    )
    return Table(caption, ["task", "swapped", "", *map(str, counts)], rows)


def _kept_table(records: Sequence[dict[str, Any]]) -> Table:
    """How much of the degradation the study sees at all."""
    rows = []
    for task, found in by_task(records).items():
        way = over_photos((record["photo"], record["ways"]["truth"]) for record in found).mean
        kept = over_photos((record["photo"], record["kept"]) for record in found)
        rows.append([task, f"{way:.1f}", percent(kept)])
    caption = (
        "How much of the degradation token maps hold at all. Way: RMS difference of clean and degraded photo, tokens "
        "decoded, in levels of 255. Kept: that difference along the one of the photos themselves, with 95 % interval. "
        "What token maps do not hold (such as thin streaks) no scale brings back."
    )
    return Table(caption, ["task", "way", "kept"], rows)


def _scale_table(records: Sequence[dict[str, Any]]) -> Table:
    """How many tokens of each scale the degradation changes."""
    scales = len(records[0]["counts"])
    rows = []
    for task, found in by_task(records).items():
        means = [over_photos((r["photo"], r["changed"][k]) for r in found).mean for k in range(scales)]
        rows.append([task, *(f"{100 * mean:.0f}" for mean in means)])
    caption = "Tokens in which the clean and the degraded photo differ, % of each scale, the coarsest first."
    return Table(caption, ["task", *(str(k + 1) for k in range(scales))], rows)


def _chart(records: Sequence[dict[str, Any]]) -> str:
    panels = []
    for base in cast("list[Base]", list(records[0]["curves"])):
        for name, label in (("returned", "degradation that is back, %"), ("psnr", "PSNR to the clean photo, dB")):
            lines = []
            for task, rows in by_task(records).items():
                for end in ENDS:
                    factor = 100 if name == "returned" else 1
                    line = [(float(n), factor * _mean(rows, base, end, n, name)) for n in _counts(records)]
                    lines.append(Line(task, line, dashed=end == "fine"))
            panels.append(Panel(f"Into {WHOSE[base]}", "scales taken from the degraded photo", label, lines))
    return draw(panels, dashed="dashed: the finest scales instead of the coarsest")


def summary_of_pair(swaps: Swaps) -> list[str]:
    """What one pair shows at half of its scales, a line a base."""
    half = len(swaps.counts) // 2
    lines = []
    for base, ends in swaps.curves.items():
        back = {end: 100 * curve.at(half).returned for end, curve in ends.items()}
        lines.append(
            f"{WHOSE[base]}: the {half} coarsest scales of the degraded photo bring back {back['coarse']:.0f} % of the "
            f"degradation, the {half} finest {back['fine']:.0f} %"
        )
    return lines
