"""The card of a model: licence, what it was trained on, what it was measured to do, where it fails. No torch here.

card.json is for programs (`restorevar models`), README.md for people: its head is what the Hugging Face Hub reads. The
figures belong to one set of weights, told by their sha256; of other weights nothing is claimed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from .folders import CARD, README

TAGS = ["image-restoration", "dehazing", "deraining", "desnowing", "low-light", "deblurring", "restorevar"]
PAPER = "https://arxiv.org/abs/2505.18047"


@dataclass(frozen=True)
class Figure:
    """What was measured on one set of pairs, means over its images. PSNR in dB, SSIM from -1 to 1; None: not told."""

    data: str  #: for people: "Kodak, synthetic haze"
    task: str  #: haze, rain, snow, lowlight, blur, clean
    images: int
    psnr_in: float | None = None
    psnr_gain: float | None = None  #: over the degraded input
    psnr: float | None = None  #: of the result, where there is nothing to gain: clean photos
    ssim_in: float | None = None
    ssim: float | None = None
    better: int | None = None  #: images that gained


@dataclass(frozen=True)
class Card:
    """Empty texts are what nobody has said."""

    licence: str = ""  #: an SPDX identifier
    summary: str = ""
    data: str = ""  #: what it was trained on
    limits: tuple[str, ...] = ()
    measured: str = ""  #: how the figures were: protocol, commands, device, date
    figures: tuple[Figure, ...] = ()
    sha256: str = ""  #: of the weights beside the card, as in config.json
    tensors: str = ""  #: of the same, however stored (saving.tensors_sha256)

    def figures_of(self, sha256: str) -> tuple[Figure, ...]:
        """The figures, if they are of these weights."""
        return self.figures if self.sha256 == sha256 else ()


def read_card(folder: Path) -> Card:
    """The card of a model folder; an empty one where there is none that can be read: nothing depends on it."""
    try:
        values = json.loads((folder / CARD).read_text(encoding="utf-8"))
        figures = tuple(_known(Figure, row) for row in values.get("figures", ()))
        card = _known(Card, {**values, "figures": figures, "limits": tuple(map(str, values.get("limits", ())))})
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return Card()
    texts = (card.licence, card.summary, card.data, card.measured, card.sha256, card.tensors)
    return card if all(isinstance(text, str) for text in texts) else Card()


def write_card(card: Card, folder: Path, description: Mapping[str, Any]) -> None:
    """card.json and README.md, each whole or not at all. `description` is the folder's config.json."""
    _write(folder / CARD, json.dumps(asdict(card), indent=2) + "\n")
    _write(folder / README, readme(card, description))


def readme(card: Card, description: Mapping[str, Any]) -> str:
    """The model card as the Hub wants it: metadata in YAML, then text."""
    parts = [
        _metadata(card),
        "# RestoreVAR\n",
        (card.summary or "A model that restores photographs from haze, rain, snow, low light and blur.") + "\n",
        "The method is RestoreVAR's, next-scale visual autoregression "
        f"([Rajagopalan et al., ICLR 2026]({PAPER})); network and files are those of the package `restorevar`.\n",
        "```python\nfrom restorevar import Restorer\n\n"
        'restorer = Restorer.from_pretrained("OWNER/NAME")  # this repository, or a folder with its files\n'
        'restorer("photo.jpg").save("restored.jpg")\n```\n',
        "## Figures\n",
        *_figures(card),
        *(["## Trained on\n", card.data + "\n"] if card.data else []),
        *(["## Where it fails\n", "".join(f"- {limit}\n" for limit in card.limits)] if card.limits else []),
        "## Files\n",
        _files(description),
        "## Config\n",
        "```json\n" + json.dumps(description.get("model", {}), indent=1) + "\n```\n",
    ]
    return "\n".join(parts)


def _metadata(card: Card) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="image-to-image",
            task_name=figure.task,
            dataset_type="image-pairs",
            dataset_name=f"{figure.data} ({figure.images} images)",
            metric_type="psnr",
            metric_name=name,
            metric_value=value,
        )
        for figure in card.figures
        for name, value in (("PSNR gained, dB", figure.psnr_gain), ("PSNR of the result, dB", figure.psnr))
        if value is not None
    ]
    data = ModelCardData(
        license=card.licence.lower() or None,
        library_name="restorevar",
        pipeline_tag="image-to-image",
        tags=TAGS,
        model_name="RestoreVAR" if results else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _figures(card: Card) -> list[str]:
    if not card.figures:
        return ["None are known of these weights: `restorevar evaluate` measures them.\n"]
    lines = [
        "| pairs | images | PSNR in | gained | PSNR out | SSIM in | SSIM out | better in |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for f in card.figures:
        gain = "-" if f.psnr_gain is None else f"{f.psnr_gain:+.2f}"
        better = "-" if f.better is None else f"{f.better} of {f.images}"
        cells = (_number(f.psnr_in, 2), gain, _number(f.psnr, 2), _number(f.ssim_in, 3), _number(f.ssim, 3), better)
        lines.append(f"| {f.data} | {f.images} | {' | '.join(cells)} |")
    return ["\n".join(lines) + "\n", *([card.measured + "\n"] if card.measured else [])]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _files(description: Mapping[str, Any]) -> str:
    files = description.get("shards") or {"model.safetensors": description.get("sha256", "")}
    return "".join(f"- `{name}`: sha256 `{digest}`\n" for name, digest in files.items())


def _known(kind: type, values: Mapping[str, Any]) -> Any:
    """A dataclass from what it knows of `values`: cards of later versions may say more."""
    names = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in values.items() if name in names})


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
