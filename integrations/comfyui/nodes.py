"""Two nodes: load a model, restore images with it. There is no seed: the same image gives the same result.

Images of ComfyUI are (B, H, W, C) float32 in [0, 1], masks (B, H, W) or (H, W) in [0, 1].
"""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.utils
import numpy as np
import torch

from restorevar import Restorer, available_models
from restorevar.checkpoints.hub import cached_models
from restorevar.pipeline import SPEEDS

CATEGORY = "image/restoration"
DTYPES = ["auto", "fp32", "bf16", "fp16"]
#: Steps of ComfyUI's progress bar per image; it takes whole numbers.
STEPS = 100


class LoadRestoreVAR:
    """A model by name, on the device that ComfyUI computes on."""

    CATEGORY = CATEGORY
    DESCRIPTION = "Loads a RestoreVAR model: shipped with the package, a model folder, or from the Hugging Face Hub."
    FUNCTION = "load"
    RETURN_TYPES = ("RESTOREVAR",)
    RETURN_NAMES = ("model",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        known = [*available_models(), *(model.repository for model in cached_models())]
        other = "Overrides the list: a model folder, or a Hub id like owner/name."
        return {
            "required": {"name": (list(dict.fromkeys(known)), {"tooltip": "Shipped, or in the Hub's cache."})},
            "optional": {
                "other": ("STRING", {"default": "", "tooltip": other}),
                "dtype": (DTYPES, {"default": "auto", "tooltip": "Precision; auto is the fastest that keeps quality."}),
            },
        }

    def load(self, name: str, other: str = "", dtype: str = "auto") -> tuple[Restorer]:
        device = comfy.model_management.get_torch_device()
        kind = device.type if device.index is None else f"{device.type}:{device.index}"
        return (Restorer.from_pretrained(other.strip() or name, device=kind, dtype=dtype),)


class RestoreImage:
    """Haze, rain, snow, darkness and blur taken off a batch of images, one after another."""

    CATEGORY = CATEGORY
    DESCRIPTION = "Restores images degraded by haze, rain, snow, low light or blur. Any size in, the same size out."
    FUNCTION = "restore"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        weight = {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.05}
        fidelity = "Detail taken from the input, 0 (none) to 1. Without effect for a model that has no fidelity branch."
        return {
            "required": {
                "model": ("RESTOREVAR",),
                "image": ("IMAGE",),
                "fidelity": ("FLOAT", {**weight, "tooltip": fidelity}),
                "strength": ("FLOAT", {**weight, "tooltip": "How much of the change is made; 0 gives the input back."}),
                "speed": (list(SPEEDS), {"default": "best", "tooltip": "fast finds the change at half the size."}),
            },
            "optional": {"mask": ("MASK", {"tooltip": "Where to restore: 1 is restored, 0 stays as it is."})},
        }

    def restore(
        self,
        model: Restorer,
        image: torch.Tensor,
        fidelity: float,
        strength: float,
        speed: str,
        mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor]:
        restorer = model.at(fidelity=fidelity if _has_fidelity(model) else None, strength=strength, speed=speed)
        bar = comfy.utils.ProgressBar(STEPS * len(image))
        results = []
        for done, picture in enumerate(image):

            def progress(share: float, done: int = done) -> None:
                comfy.model_management.throw_exception_if_processing_interrupted()
                bar.update_absolute(round(STEPS * (done + share)))

            def watch(_: object) -> None:
                comfy.model_management.throw_exception_if_processing_interrupted()

            comfy.model_management.throw_exception_if_processing_interrupted()
            results.append(_restore_one(restorer, picture, progress, watch))
        restored = torch.stack(results).to(image)
        return (restored if mask is None else _within(mask, image, restored),)


def _has_fidelity(model: Restorer) -> bool:
    return getattr(model.model, "fidelity", None) is not None


def _restore_one(restorer: Restorer, picture_HWC: torch.Tensor, progress: Any, watch: Any) -> torch.Tensor:
    """Worked on in 16 bits; what lies outside [0, 1] is cut off, a fourth channel is carried through."""
    samples = picture_HWC.detach().float().cpu().numpy().clip(0, 1)
    rgb = np.round(samples[..., :3] * 65535).astype(np.uint16)
    restored = restorer.restore_pixels(rgb, progress, watch).astype(np.float32) / 65535
    return torch.from_numpy(np.concatenate([restored, samples[..., 3:]], axis=-1))


def _within(mask: torch.Tensor, before_BHWC: torch.Tensor, after_BHWC: torch.Tensor) -> torch.Tensor:
    """After where the mask is 1, before where it is 0. A mask of another size is stretched; one serves all images."""
    mask_B1hw = mask.reshape(-1, 1, *mask.shape[-2:]).to(before_BHWC)
    size = before_BHWC.shape[1:3]
    if mask_B1hw.shape[-2:] != size:
        mask_B1hw = torch.nn.functional.interpolate(mask_B1hw, size=size, mode="bilinear")
    if len(mask_B1hw) not in (1, len(before_BHWC)):
        raise ValueError(f"one mask, or one for each of the {len(before_BHWC)} images, not {len(mask_B1hw)}")
    return torch.lerp(before_BHWC, after_BHWC, mask_B1hw.permute(0, 2, 3, 1).clamp(0, 1))


NODE_CLASS_MAPPINGS = {"LoadRestoreVAR": LoadRestoreVAR, "RestoreVARImage": RestoreImage}
NODE_DISPLAY_NAME_MAPPINGS = {
    "LoadRestoreVAR": "Load RestoreVAR model",
    "RestoreVARImage": "Restore image (RestoreVAR)",
}
