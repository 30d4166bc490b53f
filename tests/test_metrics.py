"""Metrics: against the calibration table of other libraries, at their ends, and where something is missing."""

from __future__ import annotations

import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from calibration import FILE, cases, in_floats, picture

from restorevar.errors import UserError
from restorevar.evaluation.metrics import METRICS, find_metric, find_metrics

TABLE = json.loads(FILE.read_text())
OURS = [name for name, metric in METRICS.items() if metric.library != "pyiqa"]
#: Of a value. Those by scikit-image come from the same functions, called by another hand; pytorch-msssim computes its
#: window in single precision, and colour-science has a matrix of its own for sRGB.
TOLERANCE = {"scikit-image": 1e-6, "numpy": 1e-6, "piq": 1e-6, "pypiqe": 1e-6}


def score(name: str, image: np.ndarray, reference: np.ndarray | None = None) -> float:
    return METRICS[name].start("cpu")(image, reference)


def test_the_pictures_are_those_of_the_table():
    for name, pair in cases().items():
        assert [int(p.astype(np.int64).sum()) for p in pair] == TABLE["pictures"][name]


@pytest.mark.parametrize("name", OURS)
def test_calibration(name):
    for library, values in TABLE["values"][name].items():
        for case, (image, reference) in cases().items():
            expected = pytest.approx(values[case], rel=TOLERANCE.get(library, 1e-4))
            assert score(name, in_floats(image), in_floats(reference)) == expected, (library, case)


@pytest.mark.parametrize("name", OURS)
def test_single_precision_and_luma_are_judged_too(name):
    image, reference = (in_floats(p) for p in cases()["noise"])
    single = score(name, image.astype(np.float32), reference.astype(np.float32))
    assert single == pytest.approx(score(name, image, reference), rel=2e-3)
    if not METRICS[name].needs_colour:
        assert np.isfinite(score(name, image[..., 1], reference[..., 1]))


def test_nothing_changed_is_the_best_there_is():
    image = in_floats(picture())
    best = {"psnr": 100, "ssim": 1, "ssim-gaussian": 1, "ms-ssim": 1, "gmsd": 0, "ciede2000": 0, "sharpness-error": 0}
    assert best.keys() == {name for name in OURS if METRICS[name].needs_reference}
    for name, value in best.items():
        assert score(name, image, image) == pytest.approx(value)


def test_which_way_each_metric_points():
    truth = in_floats(picture())
    noisy, blurred = in_floats(cases()["noise"][0]), in_floats(cases()["blur"][0])
    for name in ("psnr", "ssim", "ssim-gaussian", "ms-ssim", "gmsd", "ciede2000"):
        slight = score(name, (9 * truth + noisy) / 10, truth)
        assert (slight > score(name, noisy, truth)) == METRICS[name].higher_is_better
    assert score("blur", blurred) > score("blur", truth) and not METRICS["blur"].higher_is_better
    assert score("sharpness", blurred) < score("sharpness", truth) and METRICS["sharpness"].higher_is_better
    assert score("sharpness-error", blurred, truth) == pytest.approx(
        1 - score("sharpness", blurred) / score("sharpness", truth)
    )
    assert score("sharpness-error", noisy, truth) > 0 and not METRICS["sharpness-error"].higher_is_better
    flat = np.full((64, 64, 3), 0.5)
    with pytest.raises(UserError, match="flat"):
        score("sharpness-error", truth[:64, :64], flat)
    speckled = flat + np.random.default_rng(0).normal(0, 5 / 255, flat.shape)
    assert score("noise", speckled) == pytest.approx(5, rel=0.1) and not METRICS["noise"].higher_is_better
    assert score("piqe", flat) == 100 and score("noise", flat) == pytest.approx(0)


def test_images_too_small_are_told():
    tiny = np.zeros((6, 40, 3))
    for name in ("ssim", "ssim-gaussian", "ms-ssim"):
        with pytest.raises(UserError, match=r"smaller|at least"):
            score(name, tiny, tiny)


@pytest.mark.parametrize(("name", "module"), [("psnr", "skimage"), ("piqe", "scipy"), ("noise", "pywt")])
def test_a_missing_library_is_told_with_its_remedy(monkeypatch, name, module):
    for loaded in [m for m in sys.modules if m.split(".")[0] == module]:
        monkeypatch.setitem(sys.modules, loaded, None)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"restorevar\[eval\]"):
        METRICS[name].start("cpu")


def test_names():
    assert [m.name for m in find_metrics(["ssim", "psnr", "ssim"])] == ["ssim", "psnr"]
    with pytest.raises(UserError, match="no metric psrn"):
        find_metric("psrn")
    assert "scikit-image 0." in METRICS["psnr"].implementation


# ------------------------------------------------------------------------------------------------------ pyiqa


@pytest.fixture
def pyiqa(monkeypatch):
    """What stands in for the package; it notes what its metrics are shown."""
    seen = []

    class Network:
        def __init__(self, name):
            self.name = name

        def __call__(self, *tensors):
            seen.append((self.name, tensors))
            return torch.stack([t.mean() for t in tensors]).sum()[None]

    def create_metric(name, device=None, as_loss=None):
        if name == "maniqa":
            raise RuntimeError("<urlopen error\n no network>")
        return Network(name)

    module, configs = ModuleType("pyiqa"), ModuleType("pyiqa.default_model_configs")
    module.create_metric = create_metric
    configs.DEFAULT_CONFIGS = {
        "niqe": {"metric_mode": "NR", "lower_better": True},
        "ahiq": {"metric_mode": "FR"},
        "maniqa": {"metric_mode": "NR"},
    }
    monkeypatch.setitem(sys.modules, "pyiqa", module)
    monkeypatch.setitem(sys.modules, "pyiqa.default_model_configs", configs)
    return SimpleNamespace(seen=seen)


def test_pyiqa_is_shown_images_as_it_wants_them(pyiqa):
    image, reference = np.full((8, 12, 3), 0.25), np.full((8, 12, 3), 0.5)
    assert score("lpips", image, reference) == pytest.approx(0.75)
    assert score("musiq", image) == pytest.approx(0.25)
    (name, (first, second)), (other, rest) = pyiqa.seen
    assert (name, other, len(rest)) == ("lpips", "musiq", 1)
    assert first.shape == second.shape == (1, 3, 8, 12) and first.dtype == torch.float32
    assert float(first.max()) == 0.25 and float(second.max()) == 0.5


def test_whatever_pyiqa_has(pyiqa):
    niqe, ahiq = find_metrics(["pyiqa:niqe", "pyiqa:ahiq"])
    assert (niqe.needs_reference, niqe.higher_is_better) == (False, False)
    assert (ahiq.needs_reference, ahiq.higher_is_better) == (True, True)
    assert niqe.start("cpu")(np.full((8, 8, 3), 0.5), None) == pytest.approx(0.5)
    with pytest.raises(UserError, match="no metric nonsense"):
        find_metric("pyiqa:nonsense")
    with pytest.raises(UserError, match="downloaded") as caught:
        find_metric("pyiqa:maniqa").start("cpu")
    assert "\n" not in str(caught.value)


def test_without_pyiqa_the_licence_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    for attempt in (lambda: METRICS["lpips"].start("cpu"), lambda: find_metric("pyiqa:niqe")):
        with pytest.raises(UserError, match=r"restorevar\[iqa\].*non-commercial"):
            attempt()
