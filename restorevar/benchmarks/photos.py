"""Photographs of several sizes through `restorevar restore`, each in a fresh process, as a user runs it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageDraw

from ..errors import UserError
from ..images import read_photo, write_photo

#: Width to height of the photos, and what cameras save them with.
ASPECT, QUALITY = 4 / 3, 92
_READINGS = 3


@dataclass(frozen=True)
class PhotoRun:
    """Seconds of one photo. `seconds` is the command's own figure: reading, restoring and writing, once it is warm.

    `reading` and `writing` are measured by themselves, in this process, on the same files; a command that overlaps
    them with the restoring waits for less.
    """

    megapixels: float
    width: int
    height: int
    seconds: float
    process_seconds: float  #: with starting Python and loading the model
    reading: float
    writing: float
    resident_bytes: int | None  #: most of the process
    device_bytes: int | None  #: most tensors on a CUDA device

    @property
    def coding_share(self) -> float:
        return (self.reading + self.writing) / self.seconds


def parse_photos(text: str) -> list[float]:
    """Megapixels, comma-separated. Raises UserError."""
    try:
        sizes = [float(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or not all(0 < size <= 1000 for size in sizes):
        raise UserError(f"--photos is a list of megapixels such as 1,4,12, not {text!r}")
    return sizes


def measure_photos(megapixels: list[float], model: str, device: str, dtype: str, speed: str = "best") -> list[PhotoRun]:
    """`model` and `speed` are what `restorevar restore` takes. Raises UserError for a run that fails."""
    with TemporaryDirectory() as name:
        options = ["--model", model, "--device", device, "--dtype", dtype, "--speed", speed]
        return [_measure(size, options, Path(name)) for size in megapixels]


def _measure(megapixels: float, options: list[str], folder: Path) -> PhotoRun:
    photo, restored = folder / f"{megapixels:g}.jpg", folder / f"{megapixels:g}-restored.jpg"
    log, report = folder / f"{megapixels:g}.json", folder / f"{megapixels:g}-memory.json"
    Image.fromarray(synthesise(megapixels)).save(photo, quality=QUALITY)
    command = [sys.executable, "-m", f"{__package__}.photo_process", str(report), "restore", str(photo)]
    start = time.perf_counter()
    done = subprocess.run(
        [*command, "--out", str(restored), *options, "--json", str(log), "--quiet"], capture_output=True, text=True
    )
    process_seconds = time.perf_counter() - start
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"])[-1]
        raise UserError(f"photo of {megapixels:g} megapixels: {last.removeprefix('restorevar: error: ')}")
    record, memory = json.loads(log.read_text()), json.loads(report.read_text())
    reading, writing = _coding_seconds(restored)
    return PhotoRun(
        megapixels=megapixels,
        width=record["size"][0],
        height=record["size"][1],
        seconds=record["seconds"],
        process_seconds=process_seconds,
        reading=reading,
        writing=writing,
        resident_bytes=memory["resident_bytes"],
        device_bytes=memory["device_bytes"],
    )


def _coding_seconds(path: Path) -> tuple[float, float]:
    """Median seconds of reading a photo and of writing it again."""
    reading, writing = [], []
    for _ in range(_READINGS):
        start = time.perf_counter()
        photo = read_photo(path)
        reading.append(time.perf_counter() - start)
        start = time.perf_counter()
        write_photo(path, photo, overwrite=True)
        writing.append(time.perf_counter() - start)
    return median(reading), median(writing)


def synthesise(megapixels: float, seed: int = 0) -> np.ndarray:
    """A picture [H, W, 3] of uint8: smooth tones, shapes with edges, grain; compresses about as photographs do."""
    generator = np.random.default_rng(seed)
    height = max(1, round(math.sqrt(megapixels * 1e6 / ASPECT)))
    width = max(1, round(height * ASPECT))
    tones = Image.fromarray(generator.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    picture = tones.resize((width, height), Image.Resampling.BICUBIC)
    _draw_shapes(picture, generator)
    pixels = np.asarray(picture)
    grain = np.tile(generator.integers(0, 9, (256, 256, 3), dtype=np.uint8), (height // 256 + 1, width // 256 + 1, 1))
    return np.clip(pixels, 0, 247) + grain[:height, :width]


def _draw_shapes(picture: Image.Image, generator: np.random.Generator, count: int = 200) -> None:
    draw = ImageDraw.Draw(picture)
    for i in range(count):
        x, y = generator.random(2) * picture.size
        reach = generator.random(2) * picture.size[1] / 8 + 1
        box = [x - reach[0], y - reach[1], x + reach[0], y + reach[1]]
        colour = tuple(int(c) for c in generator.integers(0, 256, 3))
        (draw.ellipse if i % 2 else draw.rectangle)(box, fill=colour)
