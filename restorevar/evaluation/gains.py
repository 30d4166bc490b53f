"""PSNR and SSIM of restored photos against their truth, beside those of the degraded photos."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..images import read_photo
from ..pipeline import Restorer

#: Geometry, colour space, range, rounding and implementation behind every figure of this module.
PROTOCOL = "native size, RGB, 8 bit after rounding, scikit-image PSNR and SSIM (7x7 uniform window), mean over images"


@dataclass(frozen=True)
class Score:
    """One image: dB and SSIM before and after."""

    task: str
    name: str
    psnr_input: float
    psnr_restored: float
    ssim_input: float
    ssim_restored: float


@dataclass(frozen=True)
class Summary:
    """Means over the n images of one task."""

    task: str
    n: int
    psnr_input: float
    psnr_restored: float
    ssim_input: float
    ssim_restored: float

    @property
    def gain(self) -> float:
        return self.psnr_restored - self.psnr_input


def find_pairs(root: Path) -> list[tuple[str, Path, Path]]:
    """(task, input, target) below ROOT/<task>/{input,target} (or ROOT/{input,target}); names match by stem."""
    sets = [root] if (root / "input").is_dir() else sorted(p.parent for p in root.glob("*/input"))
    pairs = []
    for folder in sets:
        targets = {p.stem: p for p in (folder / "target").glob("*")}
        for image in sorted((folder / "input").iterdir()):
            if image.stem not in targets:
                raise UserError(f"{image}: no file of that name in {folder / 'target'}")
            pairs.append((folder.name, image, targets[image.stem]))
    if not pairs:
        raise UserError(f"{root}: no pairs; expected <task>/input and <task>/target folders")
    return pairs


def score(restored: np.ndarray, degraded: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """PSNR and SSIM of both against the target; all (H, W, 3) uint8 of one size."""
    try:
        from skimage.metrics import peak_signal_noise_ratio, structural_similarity
    except ImportError:
        raise UserError('evaluation needs scikit-image: pip install "restorevar[eval]"') from None

    def ssim(image: np.ndarray) -> float:
        return float(structural_similarity(target, image, channel_axis=2, data_range=255))

    def psnr(image: np.ndarray) -> float:
        error = np.mean((target.astype(np.float64) - image) ** 2)
        return float(peak_signal_noise_ratio(target, image, data_range=255)) if error else 100.0

    return {
        "psnr_input": psnr(degraded),
        "psnr_restored": psnr(restored),
        "ssim_input": ssim(degraded),
        "ssim_restored": ssim(restored),
    }


def evaluate(
    restorer: Restorer, root: Path, log: Path | None = None, progress: Callable[[Score], None] = lambda score: None
) -> list[Summary]:
    """Restore every pair's input and score it; rows go to `log` (JSON lines) as they come."""
    scores = []
    for task, input_path, target_path in find_pairs(root):
        degraded, target = read_photo(input_path), read_photo(target_path)
        if degraded.rgb.shape != target.rgb.shape:
            raise UserError(f"{input_path}: not the size of its target")
        restored = restorer.restore_photo(degraded)
        result = Score(task, input_path.name, **score(restored.rgb, degraded.rgb, target.rgb))
        scores.append(result)
        progress(result)
        if log is not None:
            row = asdict(result) | {"protocol": PROTOCOL, "model": restorer.name, "sha256": restorer.sha256}
            row |= {"fidelity": restorer.fidelity}
            with log.open("a") as file:
                file.write(json.dumps(row) + "\n")
    return summarise(scores)


def summarise(scores: Sequence[Score]) -> list[Summary]:
    """Means per task, in the order in which the tasks come."""
    fields = ("psnr_input", "psnr_restored", "ssim_input", "ssim_restored")
    summaries = []
    for task in dict.fromkeys(s.task for s in scores):
        rows = [s for s in scores if s.task == task]
        means = {field: float(np.mean([getattr(s, field) for s in rows])) for field in fields}
        summaries.append(Summary(task=task, n=len(rows), **means))
    return summaries
