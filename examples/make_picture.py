"""Make the README's picture: every example before (above) and after (below).

python examples/make_picture.py examples/photos restored docs/images/before-after.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageOps

SIDE = 300


def make(before: Path, after: Path, out: Path) -> None:
    """Pairs match by file name; each picture is cut to a centred square."""
    names = sorted(path.name for path in before.iterdir() if (after / path.name).is_file())
    sheet = Image.new("RGB", (SIDE * len(names), 2 * SIDE), "white")
    for column, name in enumerate(names):
        for row, folder in enumerate((before, after)):
            with Image.open(folder / name) as picture:
                square = ImageOps.fit(picture.convert("RGB"), (SIDE - 4, SIDE - 4), Image.Resampling.LANCZOS)
            sheet.paste(square, (column * SIDE + 2, row * SIDE + 2))
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out, quality=88)


if __name__ == "__main__":
    make(*(Path(argument) for argument in sys.argv[1:4]))
