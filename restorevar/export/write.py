"""A model -> a folder of ONNX graphs for one size of image."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from ..checkpoints import LoadedModel
from ..checkpoints.folders import file_sha256
from ..data.manifest import write_json
from ..errors import UserError, first_line
from ..models import RestoreVAR
from ..pipeline import MIN_SIDE, scales_of
from .parts import Part, parts_of
from .runtime import MANIFEST

#: Every operator used is in it, and onnxruntime has known it since 1.14.
OPSET = 18


def export_model(
    loaded: LoadedModel,
    out: Path,
    size: int = 512,
    speed: str = "best",
    told: Callable[[str], None] = lambda name: None,
) -> list[Path]:
    """Write the graphs for images of `size` x `size` pixels, float32, and export.json; returns the files.

    `speed` "balanced" ends the rollout early, as in `Restorer`; "fast" is a matter of the size. `told` hears each file
    before it is made. Raises UserError for what cannot be exported.
    """
    model = loaded.model
    if find_spec("onnx") is None:
        raise UserError("exporting needs onnx: pip install 'restorevar[onnx]'")
    if not isinstance(model, RestoreVAR):
        raise UserError(f"{loaded.name}: only RestoreVAR is exported, not {type(model).__name__}")
    _check_size(model, size)
    if speed == "fast":
        raise UserError("speed fast is the whole model at half the size: export with half the --size, at speed best")
    scales = scales_of(model, speed) or len(model.config.scales)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".export-", dir=out) as name:
            for file, part in parts_of(model, (size, size), scales).items():
                told(file)
                _trace(part, Path(name) / file)
            files = sorted(Path(name).iterdir())
            digests = {path.name: file_sha256(path) for path in files}
            for path in files:
                os.replace(path, out / path.name)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror or error})") from None
    manifest = {
        "format": 1,
        "model": loaded.name,
        "sha256": loaded.sha256,
        "size": [size, size],
        "scales": scales,
        "fidelity": None if model.fidelity is None else model.fidelity_weight(None),
        "opset": OPSET,
        "torch": torch.__version__,
        "files": digests,
    }
    write_json(manifest, out / MANIFEST)
    return [out / name for name in (*digests, MANIFEST)]


def _check_size(model: RestoreVAR, size: int) -> None:
    unit, window = model.config.downsample, model.config.window
    if not model.config.any_window and size != window:
        raise UserError(f"this model takes images of {window} pixels only, not {size}")
    if size % unit or size < min(MIN_SIDE, window):
        raise UserError(f"--size is a multiple of {unit} from {min(MIN_SIDE, window)}, not {size}")


def _trace(part: Part, path: Path) -> None:
    """By torch's older exporter, which takes seconds.

    The newer one (dynamo=True) gives the same numbers, but traces the unrolled rollout for minutes (docs/export.md).
    """
    module, inputs, names, outputs = part
    try:
        with _quiet():
            torch.onnx.export(
                module.eval(),
                inputs,
                str(path),
                input_names=names,
                output_names=outputs,
                opset_version=OPSET,
                dynamo=False,
            )
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        raise UserError(f"{path.name}: torch {torch.__version__} cannot export it ({first_line(error)})") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Tracing warns of every shape that becomes a constant: here all are meant to."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
