"""What users see: the shipped weights on the shipped example photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from restorevar import Restorer, available_models
from restorevar.checkpoints import WEIGHTS, resolve_model
from restorevar.cli import app
from restorevar.models.config import compact

EXAMPLES = Path(__file__).parent.parent / "examples"
PHOTOS = sorted((EXAMPLES / "photos").glob("*.jpg"))


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    return Restorer.from_pretrained("compact", device="cpu")


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), np.float64)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / np.mean((a - b) ** 2))


def test_it_is_shipped_within_its_size(restorer):
    assert available_models() == ["compact"]
    assert (resolve_model("compact") / WEIGHTS).stat().st_size <= 60e6
    assert restorer.model.config == compact()


#: dB that each example must gain against its truth. This model does not remove blur (docs/model-card.md): there, what
#: is asked is that it does no harm to speak of.
GAINS = {"haze": 2.0, "lowlight": 8.0, "rain": 0.4, "snow": 0.4, "blur": -0.5}


def test_example_photos_of_all_five_kinds(tmp_path):
    """Through the README's command, against the truth."""
    result = CliRunner().invoke(app, ["restore", str(EXAMPLES / "photos"), "-o", str(tmp_path), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert {path.name.split("_")[0] for path in PHOTOS} == set(GAINS)
    for photo in PHOTOS:
        truth, before, after = (pixels(folder / photo.name) for folder in (EXAMPLES / "truth", photo.parent, tmp_path))
        assert after.shape == before.shape
        assert psnr(after, truth) - psnr(before, truth) > GAINS[photo.name.split("_")[0]], photo.name


def test_a_clean_photo_is_left_almost_alone(restorer):
    clean = EXAMPLES / "truth" / "snow_chelsea.jpg"
    assert psnr(np.asarray(restorer(clean), np.float64), pixels(clean)) > 28


def test_the_same_photo_gives_the_same_result(restorer):
    photo = np.asarray(Image.open(PHOTOS[0]).crop((0, 0, 150, 110)))
    assert np.array_equal(restorer(photo), restorer(photo))


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (257, 129)])
def test_odd_sizes(restorer, size):
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    assert restorer(photo).shape == photo.shape
