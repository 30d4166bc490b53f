"""The control of figure 14: a refiner that is given the degraded latent must not restore by itself.

If it did, the next-scale prediction before it would be for nothing. Everything is decoded by the decoder alone (W = 0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ...errors import UserError
from ...images import from_tensor
from ...models import RestoreVAR
from ...pipeline import Restorer
from ..pairs import Pair
from .drawing import Strip, Tile, sheet
from .findings import Findings, Table, Verdict, about
from .judging import judge, overall, points, to_claim
from .pyramid import predict_from, pyramid_of
from .sampling import Progress, by_task, chosen_pairs, ignore, named, over_photos, shares_over_photos, views_of_pairs
from .swaps import along, rms
from .views import View, decode_plain, latent_model, psnr

CLAIM = (
    "The paper says (figure 14): the latent refiner does not restore by itself. Fed with the degraded photo's latent "
    "instead of the restored one it must leave the degradation in."
)
RULE = (
    "Removed: how far a decoded latent is on the way from the degraded photo, its token maps decoded (0 %), to the "
    "clean photo, encoded and decoded (100 %). The claim is supported where half of what the whole model removes is "
    "more than what the control removes, the 95 % interval of the difference, over photos, above zero; contradicted "
    "where it lies below."
)
#: What the refiner is fed with, and what is decoded.
VARIANTS: Mapping[str, str] = {
    "degraded": "the degraded photo's token maps, no refiner",
    "control": "refiner on the degraded photo's token maps, with the hidden states of the rollout (figure 14)",
    "strict": "the same with the hidden states that the degraded photo's own token maps give",
    "unrefined": "the model's token maps, no refiner",
    "restored": "the model's token maps, refined: the method",
}


@dataclass(frozen=True)
class Outcome:
    """One variant on one pair.

    removed   share of the degradation that is gone, see RULE
    psnr      dB to the clean photo, before rounding
    latent    mean absolute distance to the clean photo's continuous latent: what the refiner is trained on
    """

    removed: float
    psnr: float
    latent: float


@dataclass(frozen=True)
class Control:
    """All variants of one pair: figures, and images (3, H, W) in [-1, 1].

    way   RMS length, in levels of 255, of the way from degraded to clean along which `removed` is measured
    """

    outcomes: Mapping[str, Outcome]
    way: float
    images: Mapping[str, Tensor]


@torch.inference_mode()
def control_refiner(model: RestoreVAR, clean: View, degraded: View) -> Control:
    """Raises UserError for a model without a refiner."""
    if model.config.refiner.kind == "none":
        raise UserError("this model has no refiner to control")
    target = model.vqvae.encode(clean.image_B3HW).float()
    condition = model.condition(degraded.image_B3HW)
    prediction = predict_from(model, condition)
    degraded_maps = pyramid_of(model, degraded.image_B3HW)
    grid = (target.shape[-2], target.shape[-1])
    teacher = model.vqvae.quantizer.teacher_forcing_input([t.flatten(1) for t in degraded_maps.tokens], grid)
    _, own_hidden = model.transformer(teacher, condition)
    latents = {
        "degraded": degraded_maps.latent,
        "control": model.refine(degraded_maps.latent, prediction.hidden_BLD),
        "strict": model.refine(degraded_maps.latent, own_hidden),
        "unrefined": prediction.pyramid.latent,
        "restored": model.refine(prediction.pyramid.latent, prediction.hidden_BLD),
    }
    images = {name: clean.crop(decode_plain(model, latent)) for name, latent in latents.items()}
    far = images["degraded"]
    way = clean.crop(decode_plain(model, target)) - far

    def outcome(name: str) -> Outcome:
        distance = (latents[name] - target).abs().mean()
        return Outcome(along(images[name] - far, way), psnr(images[name], clean.photo_3HW), float(distance))

    return Control({name: outcome(name) for name in VARIANTS}, 127.5 * rms(way), images)


def picture(clean: View, degraded: View, found: Control) -> Image.Image:
    """The pair and all variants."""
    photos = [Tile(from_tensor(clean.photo_3HW), "clean"), Tile(from_tensor(degraded.photo_3HW), "degraded")]
    tiles = [
        Tile(from_tensor(found.images[name]), f"{name}: {o.psnr:.1f} dB, {100 * o.removed:.0f} %")
        for name, o in found.outcomes.items()
    ]
    return sheet(
        [Strip("Photos", photos), Strip("Decoded: dB to the clean photo, share of degradation removed", tiles)]
    )


def study_refiner(
    restorer: Restorer,
    pairs: Sequence[Pair],
    *,
    size: int,
    limit: int | None = None,
    command: str = "",
    progress: Progress = ignore,
) -> Findings:
    """The control on every pair, judged task by task."""
    model, chosen = latent_model(restorer), chosen_pairs(pairs, limit)
    records: list[dict[str, Any]] = []
    for pair, clean, degraded in views_of_pairs(restorer, chosen, size, progress):
        found = control_refiner(model, clean, degraded)
        outcomes = {name: asdict(found.outcomes[name]) for name in VARIANTS}
        records.append(named(pair) | {"way": found.way, "outcomes": outcomes})
    verdicts = [_judge(task, rows) for task, rows in by_task(records).items()]
    question = "That the refiner does not restore by itself"
    findings = Findings("Refiner control", CLAIM, RULE, about(restorer, command, size), records=records)
    findings.verdicts = [overall(verdicts, question), *verdicts]
    findings.tables = [_table(records)]
    return findings


def _judge(task: str, rows: Sequence[dict[str, Any]]) -> Verdict:
    less = shares_over_photos(
        (row["photo"], row["outcomes"]["restored"]["removed"] / 2 - row["outcomes"]["control"]["removed"], row["way"])
        for row in rows
    )
    means = {name: _removed(rows, name) for name in VARIANTS}
    word = judge(less)
    sentence = (
        f"{task}: {to_claim(word)}. The whole model removes {100 * means['restored']:.0f} % of the degradation, the "
        f"refiner on the degraded latent {100 * means['control']:.0f} %, with hidden states of that latent "
        f"{100 * means['strict']:.0f} %; half of the first less the second: {points(less)}; {len(rows)} pairs of "
        f"{less.n} photos."
    )
    interval = (less.interval.low, less.interval.high) if less.interval else (None, None)
    figures: dict[str, float | None] = {**means, "difference": less.mean, "low": interval[0], "high": interval[1]}
    return Verdict(task, word, sentence, figures=figures | {"pairs": len(rows), "photos": less.n})


def _removed(rows: Sequence[dict[str, Any]], name: str) -> float:
    """Over photos; pairs weigh by how much there was to remove."""
    return shares_over_photos((row["photo"], row["outcomes"][name]["removed"], row["way"]) for row in rows).mean


def _table(records: Sequence[dict[str, Any]]) -> Table:
    rows = []
    for task, of_task in by_task(records).items():
        for name, text in VARIANTS.items():
            found = [(r["photo"], r["outcomes"][name]) for r in of_task]
            means = {
                field: over_photos((photo, outcome[field]) for photo, outcome in found).mean
                for field in ("psnr", "latent")
            }
            shown = [f"{100 * _removed(of_task, name):.0f}", f"{means['psnr']:.2f}", f"{means['latent']:.3f}"]
            rows.append([f"{task}, {name}: {text}", *shown])
    caption = (
        "Means over photos. PSNR to the clean photo, before rounding; latent: mean absolute distance to its latent."
    )
    return Table(caption, ["task, what is decoded", "removed, %", "PSNR, dB", "latent"], rows)
