"""Make the example photos: pictures bundled with scikit-image, degraded by the project's own engine.

    python examples/make_photos.py examples/photos examples/truth

Synthetic, all of them: the degradation is computed, not photographed. Credits: examples/README.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from pictures import photo, picture

from restorevar.data.synthesis import degrade_photo

#: Picture, task, strength, seed.
EXAMPLES = (
    ("rocket", "haze", 0.85, 4),
    ("coffee", "rain", 0.6, 1),
    ("chelsea", "snow", 0.6, 2),
    ("astronaut", "lowlight", 0.55, 3),
    ("astronaut", "blur", 0.4, 1),
)


def make(photos: Path, truth: Path) -> list[Path]:
    """Write photos/<task>_<picture>.jpg and truth/<task>_<picture>.jpg; returns the degraded ones."""
    made = []
    for name, task, strength, seed in EXAMPLES:
        clean = photo(name)
        generator = torch.Generator().manual_seed(seed)
        degraded = degrade_photo(clean, task, generator, (strength, strength))
        for folder, pixels in ((photos, degraded), (truth, clean)):
            folder.mkdir(parents=True, exist_ok=True)
            picture(pixels).save(folder / f"{task}_{name}.jpg", quality=92)
        made.append(photos / f"{task}_{name}.jpg")
    return made


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]))
