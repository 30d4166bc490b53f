"""The error budget: how many dB each stage of the model costs, from the autoencoder's ceiling to the finished photo.

Stages follow each other, so that each one's cost is what is lost from the stage before to it; what is gained is a
negative cost. All but the last three are decoded by the decoder alone (W = 0).

    input         the degraded photo, for comparison
    autoencoder   the clean photo's continuous latent: what the decoder can give at best
    quantized     its token maps
    forced        every scale predicted from the true scales before it (teacher forcing)
    rollout       every scale predicted from those predicted before it
    refined       the same, refined: the paper's path
    branch        with the fidelity branch at its weight: what a user gets of a small photo
    windows       the same in windows of half the photo's side, as of a large photo
"""

from __future__ import annotations

import copy
import functools
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...images import from_tensor
from ...models import RestoreVAR
from ...pipeline import MIN_SIDE, Restorer
from ..metrics import find_metric
from ..pairs import Pair
from ..statistics import Mean
from .drawing import Strip, Tile, sheet
from .findings import Findings, Table, Verdict, about
from .judging import decibels, listed
from .pyramid import pyramid_of_latent
from .sampling import Progress, by_task, chosen_pairs, ignore, named, over_photos, views_of_pairs
from .views import View, decode_plain, latent_model, psnr

CLAIM = "Where are the decibels lost between the clean photo and ours, and which photos come out worst?"
RULE = (
    "PSNR to the clean photo before rounding, GMSD of luma (0 is equal); means over photos, differences with their "
    "95 % intervals over photos (t). A stage's cost is what the decoded picture loses from the stage before to it."
)
#: In the order in which they cost.
STAGES: Mapping[str, str] = {
    "autoencoder": "the clean photo's continuous latent, decoded: the ceiling",
    "quantized": "its token maps: quantization",
    "forced": "tokens predicted from true scales: wrong tokens",
    "rollout": "tokens predicted from predicted scales: their mistakes carried on",
    "refined": "refiner: the paper's path, W = 0",
    "branch": "decoder with the fidelity branch at its weight",
    "windows": "in windows of half the photo's side",
}
#: Beside the chain: what else could be, with the branch.
ASIDE: Mapping[str, str] = {
    "true tokens refined": "the refiner on the true tokens, W = 0",
    "full branch": "the rollout refined, W = 1",
    "true latent": "the clean photo's continuous latent with the fidelity branch at its weight",
}


@dataclass(frozen=True)
class Score:
    """dB to the clean photo, before rounding, and GMSD of luma."""

    psnr: float
    gmsd: float


@dataclass(frozen=True)
class Budget:
    """Of one pair.

    scores      of "input", STAGES and ASIDE; a model without branch, refiner or windows of any size lacks theirs
    prefixes    PSNR of the unrefined rollout by how many of the coarsest scales are the true ones, from none to all
    right       share of the tokens that are the true ones, by scale: predicted from true scales, and from its own
    restored    (3, H, W) in [-1, 1], what a user gets
    """

    scores: Mapping[str, Score]
    prefixes: Sequence[float]
    right: Mapping[str, Sequence[float]]
    restored: Tensor


@torch.inference_mode()
def account(restorer: Restorer, clean: View, degraded: View) -> Budget:
    """All stages of one pair, at the restorer's weight of the fidelity branch."""
    model, image = latent_model(restorer), degraded.image_B3HW
    photo, gmsd = clean.photo_3HW, find_metric("gmsd").start("cpu")
    target, condition = model.vqvae.encode(clean.image_B3HW).float(), model.condition(image)
    truth = pyramid_of_latent(model, target)
    true_tokens, partial = [t.flatten(1) for t in truth.tokens], torch.stack(truth.parts).cumsum(0)
    rollouts = [Rollout(model, condition, partial[:n]) for n in range(len(truth))]
    forced, forced_tokens, forced_hidden = _teacher_forced(model, condition, true_tokens, partial)
    rollout, *others = rollouts
    refined = model.refine(rollout.latent, rollout.hidden)
    latents = {"autoencoder": target, "quantized": truth.latent, "forced": forced, "rollout": rollout.latent}
    if model.config.refiner.kind != "none":
        latents |= {"refined": refined, "true tokens refined": model.refine(truth.latent, forced_hidden)}
    images = {"input": degraded.photo_3HW}
    images |= {name: clean.crop(decode_plain(model, latent)) for name, latent in latents.items()}
    restored = images["refined" if "refined" in images else "rollout"]
    if restorer.fidelity:
        restored = images["branch"] = clean.crop(model.decode(refined, image, restorer.fidelity))
        images["true latent"] = clean.crop(model.decode(target, image, restorer.fidelity))
        images["full branch"] = clean.crop(model.decode(refined, image, 1.0))
    if model.config.any_window:
        images["windows"] = _in_windows(restorer, degraded)
    scores = {name: Score(psnr(found, photo), gmsd(_floats(found), _floats(photo))) for name, found in images.items()}
    between = [psnr(clean.crop(decode_plain(model, other.latent)), photo) for other in others]
    right = {
        name: [float((a == b).float().mean()) for a, b in zip(tokens, true_tokens, strict=True)]
        for name, tokens in {"forced": forced_tokens, "rollout": rollout.tokens}.items()
    }
    return Budget(scores, [scores["rollout"].psnr, *between, scores["quantized"].psnr], right, restored)


class Rollout:
    """`RestoreVAR.generate` with the first scales given: their partial latents, each (1, C, H, W)."""

    def __init__(self, model: RestoreVAR, condition_BCHW: Tensor, given: Sequence[Tensor] | Tensor):
        quantizer, steps = model.vqvae.quantizer, model.transformer.begin(condition_BCHW)
        latent = quantizer.zeros(1, steps.grid)
        self.tokens: list[Tensor] = []
        hidden = []
        for k in range(len(model.config.scales)):
            input_BlC = None if k == 0 else quantizer.next_input(k, latent)
            logits_BlV, hidden_BlD = model.transformer.step(k, input_BlC, steps)
            latent = given[k] if k < len(given) else latent + _predicted(model, k, logits_BlV, latent)
            self.tokens.append(logits_BlV.argmax(-1))
            hidden.append(hidden_BlD)
        self.latent, self.hidden = latent, torch.cat(hidden, 1)


def _predicted(model: RestoreVAR, k: int, logits_BlV: Tensor, latent_BCHW: Tensor) -> Tensor:
    """What scale k adds to the latent by the model's own rule: the most probable codes, or the mean ones."""
    quantizer = model.vqvae.quantizer
    expected = model.config.rollout == "expected"
    codes = quantizer.expected_codes(logits_BlV) if expected else quantizer.codebook(logits_BlV.argmax(-1))
    return quantizer.contribution(k, codes, (latent_BCHW.shape[-2], latent_BCHW.shape[-1]))


def _teacher_forced(
    model: RestoreVAR, condition_BCHW: Tensor, tokens: Sequence[Tensor], partial: Tensor
) -> tuple[Tensor, list[Tensor], Tensor]:
    """(latent, tokens, hidden): every scale predicted from the true ones before it; they are added up."""
    grid = (condition_BCHW.shape[-2], condition_BCHW.shape[-1])
    teacher = model.vqvae.quantizer.teacher_forcing_input(tokens, grid)
    logits_BLV, hidden_BLD = model.transformer(teacher, condition_BCHW)
    scales = [logits_BLV[:, begin:end] for begin, end in model.config.scales.bounds(grid)]
    parts = [_predicted(model, k, logits, partial[0]) for k, logits in enumerate(scales)]
    return torch.stack(parts).sum(0), [logits.argmax(-1) for logits in scales], hidden_BLD


def _in_windows(restorer: Restorer, degraded: View) -> Tensor:
    """The photo restored as a large one is, in windows of half its longer side; (3, H, W) in [-1, 1]."""
    small = copy.copy(restorer)
    half = -(-max(degraded.height, degraded.width) // 2)
    small.tile = -(-max(half, MIN_SIDE) // restorer.unit) * restorer.unit
    pixels = small.restore_floats(from_tensor(degraded.photo_3HW))
    return torch.from_numpy(pixels).permute(2, 0, 1) * 2 - 1


def _floats(image_3HW: Tensor) -> np.ndarray:
    return ((image_3HW.clamp(-1, 1) + 1) / 2).permute(1, 2, 0).double().numpy()


# ------------------------------------------------------------------------------------------------- over a data set


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
