"""Make the README's picture: every example before (above) and after (below).

python examples/make_picture.py examples/photos restored docs/images/before-after.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

from pictures import grid
from PIL import Image, ImageOps

SIDE = 296


def make(before: Path, after: Path, out: Path) -> None:
    """Pairs match by file name; each picture is cut to a centred square."""
    names = sorted(path.name for path in before.iterdir() if (after / path.name).is_file())
    out.parent.mkdir(parents=True, exist_ok=True)
    grid([[_square(folder / name) for name in names] for folder in (before, after)]).save(out, quality=88)


def _square(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return ImageOps.fit(picture.convert("RGB"), (SIDE, SIDE), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    make(*(Path(argument) for argument in sys.argv[1:4]))
