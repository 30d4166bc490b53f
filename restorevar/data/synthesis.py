"""Photos on disk -> seeded synthetic pairs on disk, and contact sheets to look at."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from ..errors import UserError
from ..images import Photo, photo_from_pil, write_photo
from .degradations import DEGRADATIONS
from .manifest import Entry, published_name, write_manifest
from .mixes import Mix, degrade, drawn_strength
from .photos import find_photos, load_rgb

EVAL_STRENGTH = (0.2, 0.9)

#: (clean (3, H, W) uint8, task, generator, range of strengths) -> degraded, likewise.
Degrade = Callable[[Tensor, str, torch.Generator, tuple[float, float]], Tensor]


@dataclass(frozen=True)
class MadePair:
    """One written pair. `strength` in [0, 1] where the task is one of our degradations."""

    task: str
    input: Path
    target: Path
    strength: float | None = None


def seed_for(seed: int, name: str, task: str) -> torch.Generator:
    """A generator of its own for each photo and task: adding photos changes no other pair."""
    return torch.Generator().manual_seed(zlib.crc32(f"{seed}/{task}/{name}".encode()))


def degrade_photo(clean_3HW: Tensor, task: str, generator: torch.Generator, strength: tuple[float, float]) -> Tensor:
    """(3, H, W) uint8 -> (3, H, W) uint8."""
    mix = Mix(weights={task: 1.0}, strength=strength)
    degraded, _ = degrade(clean_3HW[None].float() / 255, mix, generator)
    return degraded[0].mul(255).round_().clamp_(0, 255).to(torch.uint8)


def make_pairs(
    inputs: Iterable[Path],
    out: Path,
    tasks: Sequence[str] = (),
    seed: int = 0,
    strength: tuple[float, float] = EVAL_STRENGTH,
    max_side: int | None = None,
    sheet: Path | None = None,
    degrading: Degrade = degrade_photo,
) -> list[MadePair]:
    """Write OUT/<task>/input/NAME.png and OUT/<task>/target/NAME.png for every photo and task, and OUT/pairs.json.

    The manifest is the published JSON list (image_path, target_path, degradation, dataset), for one of our degradations
    with the strength drawn. The same seed gives the same files. `sheet` also writes a contact sheet: a row a photo, a
    column a task. `degrading` may know more tasks than ours.
    """
    if not 0 <= strength[0] <= strength[1] <= 1:
        raise UserError(f"strengths lie between 0 and 1, the lower first, not {strength[0]} {strength[1]}")
    tasks = list(tasks) or [*DEGRADATIONS]
    photos = [file for path in inputs for file in (find_photos(path) if path.is_dir() else [path])]
    if not photos:
        raise UserError("no photographs given")
    stems = [photo.stem for photo in photos]
    if twice := {stem for stem in stems if stems.count(stem) > 1}:
        raise UserError(f"two photographs are named {min(twice)!r}; their pairs would overwrite each other")
    pairs, rows = [], []
    for photo in photos:
        clean = _shrunk(load_rgb(photo), max_side)
        made = {task: degrading(clean, task, seed_for(seed, photo.stem, task), strength) for task in tasks}
        for task, degraded in made.items():
            name = f"{photo.stem}.png"
            drawn = _drawn(task, strength, seed_for(seed, photo.stem, task))
            pair = MadePair(task, out / task / "input" / name, out / task / "target" / name, drawn)
            _save(degraded, pair.input)
            _save(clean, pair.target)
            pairs.append(pair)
        if sheet is not None:
            rows.append([clean, *made.values()])
    write_manifest(map(_entry, pairs), out / "pairs.json")
    if sheet is not None:
        write_photo(sheet, photo_from_pil(contact_sheet(rows, ["clean", *tasks])), overwrite=True)
    return pairs


def _drawn(task: str, strength: tuple[float, float], generator: torch.Generator) -> float | None:
    return round(drawn_strength(task, strength, generator), 4) if task in DEGRADATIONS else None


def _entry(pair: MadePair) -> Entry:
    extra = {} if pair.strength is None else {"strength": pair.strength}
    return Entry(pair.input, pair.target, published_name(pair.task), f"synthetic-{pair.task}", extra)


def contact_sheet(rows: Sequence[Sequence[Tensor]], titles: Sequence[str], cell: int = 256) -> Image.Image:
    """Rows of (3, H, W) uint8 images, each shrunk into a cell, under their column titles."""
    sheet = Image.new("RGB", (cell * len(titles), 20 + cell * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        draw.text((column * cell + 4, 4), title, fill="black")
    for y, row in enumerate(rows):
        for x, pixels in enumerate(row):
            image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
            image.thumbnail((cell - 2, cell - 2), Image.Resampling.LANCZOS)
            sheet.paste(image, (x * cell, 20 + y * cell))
    return sheet


def _shrunk(photo_3HW: Tensor, max_side: int | None) -> Tensor:
    longest = max(photo_3HW.shape[1:])
    if max_side is None or longest <= max_side:
        return photo_3HW
    size = [max(8, round(side * max_side / longest)) for side in photo_3HW.shape[1:]]
    small = F.interpolate(photo_3HW[None].float(), size, mode="bilinear", antialias=True)
    return small[0].round_().clamp_(0, 255).to(torch.uint8)


def _save(pixels_3HW: Tensor, path: Path) -> None:
    write_photo(path, Photo(pixels_3HW.permute(1, 2, 0).contiguous().numpy()), overwrite=True)
