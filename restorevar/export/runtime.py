"""The exported graphs, run: numpy and onnxruntime, no torch.

from restorevar.export.runtime import OnnxModel

model = OnnxModel("onnx/")
restored = model.restore_photo(rgb)  # uint8 [H, W, 3], sides up to the exported size
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoints.folders import file_sha256
from ..errors import UserError, first_line

MANIFEST = "export.json"
PARTS = ("condition.onnx", "rollout.onnx", "refiner.onnx", "decoder.onnx")


@dataclass(frozen=True)
class OnnxResult:
    """What a pass gives."""

    image_13HW: np.ndarray  #: float32 in [-1, 1]
    tokens_1L: np.ndarray  #: int64, of all scales, coarsest first


class OnnxModel:
    """A folder that `restorevar export` wrote. Reads `size` (pixels, down and across) and `fidelity` (default) from it.

    `threads` of onnxruntime, None for its own choice; `providers` as onnxruntime names them, such as
    "CUDAExecutionProvider". Raises UserError, one line, for files that are missing, damaged or not of one export.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        threads: int | None = None,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ):
        try:
            import onnxruntime
        except ImportError:
            raise UserError("running ONNX graphs needs onnxruntime: pip install 'restorevar[onnx]'") from None
        place = Path(folder)
        about = _read_manifest(place)
        self.size: tuple[int, int] = (about["size"][0], about["size"][1])
        self.fidelity: float | None = about["fidelity"]
        self.sha256: str = about["sha256"]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self.sessions = {
                name: onnxruntime.InferenceSession(place / name, options, providers=list(providers)) for name in PARTS
            }
        except Exception as error:  # onnxruntime raises kinds of its own for each fault
            raise UserError(f"{place}: onnxruntime cannot load it ({first_line(error)})") from None

    def restore(self, degraded_13HW: np.ndarray, fidelity: float | None = None) -> OnnxResult:
        """One image of `size` in [-1, 1], float32. `fidelity` in [0, 1], None for the model's own.

        Raises UserError for another shape, and for a fidelity that the model does not have.
        """
        if degraded_13HW.shape != (1, 3, *self.size):
            raise UserError(f"these graphs take (1, 3, {self.size[0]}, {self.size[1]}), not {degraded_13HW.shape}")
        image = np.ascontiguousarray(degraded_13HW, np.float32)
        (condition,) = self._run("condition.onnx", image)
        latent, hidden, tokens = self._run("rollout.onnx", condition)
        (refined,) = self._run("refiner.onnx", latent, hidden)
        weight = self._weight(fidelity)
        inputs = (refined,) if weight is None else (refined, image, np.asarray(weight, np.float32))
        (restored,) = self._run("decoder.onnx", *inputs)
        return OnnxResult(restored, tokens)

    def restore_photo(self, rgb: np.ndarray, fidelity: float | None = None) -> np.ndarray:
        """uint8 [H, W, 3], no side above the exported size -> the same, restored.

        It is put in the middle and reflected up to the size. Export some 32 pixels more than the photos have: the
        model is weaker at its window's edges, and cuts a margin off as `Restorer` does.
        """
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or not rgb.size:
            raise UserError(f"give uint8 [H, W, 3], not {rgb.dtype} {list(rgb.shape)}")
        height, width = rgb.shape[:2]
        if height > self.size[0] or width > self.size[1]:
            raise UserError(
                f"{width}x{height} is larger than the exported {self.size[1]}x{self.size[0]}; "
                "windows of large photos are the work of `restorevar restore`"
            )
        image = np.moveaxis(rgb, 2, 0)[None].astype(np.float32) / 127.5 - 1
        top, left = (self.size[0] - height) // 2, (self.size[1] - width) // 2
        around = ((top, self.size[0] - height - top), (left, self.size[1] - width - left))
        image = np.pad(image, ((0, 0), (0, 0), *around), "reflect")
        restored = self.restore(image, fidelity).image_13HW[0, :, top : top + height, left : left + width]
        return np.moveaxis(np.rint((restored + 1) * 127.5).clip(0, 255).astype(np.uint8), 0, 2)

    def _run(self, part: str, *inputs: np.ndarray) -> list[np.ndarray]:
        session = self.sessions[part]
        names = [node.name for node in session.get_inputs()]
        return session.run(None, dict(zip(names, inputs, strict=True)))

    def _weight(self, fidelity: float | None) -> float | None:
        """None for graphs without a fidelity branch."""
        if self.fidelity is None:
            if fidelity:
                raise UserError("this model has no fidelity branch; leave fidelity out or set it to 0")
            return None
        if fidelity is None:
            return self.fidelity
        if not 0 <= fidelity <= 1:
            raise UserError(f"fidelity is between 0 and 1, not {fidelity}")
        return fidelity


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        files = dict(about["files"])
        about["size"][1], about["fidelity"], about["sha256"]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `restorevar export` writes it") from None
    except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
        raise UserError(f"{path}: not what `restorevar export` writes ({first_line(error)})") from None
    for name in {*PARTS, *files}:
        part = folder / Path(name).name
        if not part.is_file():
            raise UserError(f"{part}: no such file")
        if files.get(name) != file_sha256(part):
            raise UserError(f"{part}: damaged, or of another export: its sha256 is not the one in {MANIFEST}")
    return about
