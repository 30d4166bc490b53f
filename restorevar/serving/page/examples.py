"""The example photos: those of the repository, which an installed package has beside this file."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
#: Where a wheel has them, and where a checkout has.
FOLDERS = (HERE / "photos", HERE.parents[2] / "examples" / "photos")
#: Name in the page's requests -> what people read.
TITLES = {"haze": "Haze", "rain": "Rain", "snow": "Snow", "lowlight": "Low light", "blur": "Blur"}


def examples() -> dict[str, Path]:
    """Name -> file, of those that are there. The files are called haze_rocket.jpg and so on."""
    folder = next((folder for folder in FOLDERS if folder.is_dir()), HERE)
    files = {path.stem.split("_")[0]: path for path in folder.glob("*.jpg")}
    return {name: files[name] for name in TITLES if name in files}
