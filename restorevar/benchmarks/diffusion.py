"""The networks of the compared diffusion methods, through diffusers, with random weights: they do not change the speed.

Diff-Plugin and AutoDIR are Stable Diffusion 1.5, PixWizard is Lumina-Next 2B. What each adds to it (plugins, text and
image encoders, a correction module) is left out, so the figures are a lower bound of the methods'. One network
evaluation a step, as the paper counts: 20 steps at 0.804 TFLOP are its 16.08 for Diff-Plugin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ..acceleration import DTYPES
from ..errors import UserError
from .flops import META, count
from .rivals import SIZE, Measured
from .timing import Timing, measure

#: Text tokens and their width: CLIP ViT-L/14, whose count is fixed, for Stable Diffusion; Gemma 2B for Lumina-Next,
#: where the text has any length and 128 tokens are our choice.
CLIP_TOKENS, CLIP_WIDTH = 77, 768
GEMMA_TOKENS, GEMMA_WIDTH = 128, 2048
_LEVELS = 4
_BACKBONES = {"unet": "UNet2DConditionModel", "lumina": "LuminaNextDiT2DModel"}

UNET = {"sample_size": 64, "cross_attention_dim": CLIP_WIDTH}  # all else is diffusers' default: SD 1.x
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * _LEVELS,
    "up_block_types": ("UpDecoderBlock2D",) * _LEVELS,
    "layers_per_block": 2,
    "latent_channels": 4,
}
LUMINA = {"hidden_size": 2304, "num_layers": 24, "num_attention_heads": 32, "num_kv_heads": 8}


@dataclass(frozen=True)
class Sampler:
    """A latent diffusion method: VAE encoder, `steps` times the network, VAE decoder."""

    method: str
    steps: int
    backbone: str  #: of _BACKBONES
    network: dict[str, Any]
    vae: dict[str, Any]
    size: int = SIZE


SAMPLERS = (
    Sampler("Diff-Plugin", 20, "unet", UNET, VAE),
    Sampler("AutoDIR", 100, "unet", UNET, VAE),
    Sampler("PixWizard", 60, "lumina", LUMINA, VAE),
)


def import_diffusers() -> ModuleType:
    """Raises UserError, one line, where it is missing, too old, or lacks something itself."""
    try:
        import diffusers
    except ImportError:
        raise UserError("--ldm needs diffusers: pip install 'restorevar[ldm]'") from None
    try:
        for name in (*_BACKBONES.values(), "AutoencoderKL"):
            getattr(diffusers, name)
    except (AttributeError, ImportError, RuntimeError) as error:
        cause = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise UserError(f"--ldm cannot use the installed diffusers ({cause})") from None
    return diffusers


def measure_samplers(
    device: torch.device, dtype: str, repeat: int, samplers: tuple[Sampler, ...] = SAMPLERS
) -> list[Measured]:
    """One row per method. A network that two methods share is measured once; on a CPU, one step of it."""
    import_diffusers()
    known: dict[str, _Costs] = {}
    rows = []
    for sampler in samplers:
        key = f"{sampler.backbone} {sampler.network} {sampler.size}"
        if key not in known or device.type != "cpu":
            known[key] = _costs(sampler, device, DTYPES[dtype], repeat)
        rows.append(_row(sampler, known[key], dtype))
    return rows


@dataclass(frozen=True)
class _Costs:
    """`whole` is the measured sampling with all steps, None where one step was measured and multiplied."""

    step: Timing
    ends: Timing  #: encoder and decoder of the VAE
    whole: Timing | None
    step_flops: int
    end_flops: int
    parameters: int


def _costs(sampler: Sampler, device: torch.device, dtype: torch.dtype, repeat: int) -> _Costs:
    with META:
        network, vae = _network(sampler), _vae(sampler)
        step, ends = _step(sampler, network, META, torch.float32), _ends(sampler, vae, META, torch.float32)
    step_flops, end_flops = count(step).total, count(ends).total
    parameters = sum(p.numel() for p in network.parameters())
    network, vae = (_fill(module, device, dtype) for module in (network, vae))
    step, ends = _step(sampler, network, device, dtype), _ends(sampler, vae, device, dtype)
    whole = None
    with torch.inference_mode():
        if device.type != "cpu":
            whole = measure(lambda: _sample(step, ends, sampler.steps), device, repeat)
        timings = measure(step, device, repeat), measure(ends, device, repeat)
    return _Costs(*timings, whole, step_flops, end_flops, parameters)


def _row(sampler: Sampler, costs: _Costs, dtype: str) -> Measured:
    how = f"random weights, {sampler.steps} steps"
    timing = costs.whole
    if timing is None:
        step, ends = costs.step.times(sampler.steps), costs.ends
        timing = replace(step, **{q: getattr(step, q) + getattr(ends, q) for q in ("median", "low", "high")})
        how += ", one step measured and multiplied"
    flops = sampler.steps * costs.step_flops + costs.end_flops
    return Measured(sampler.method, timing, flops, costs.parameters, dtype, how)


def _sample(step: Callable[[], object], ends: Callable[[], object], steps: int) -> None:
    ends()
    for _ in range(steps):
        step()


# -------------------------------------------------------------------------------------------------- networks


def _network(sampler: Sampler) -> nn.Module:
    diffusers = import_diffusers()
    return getattr(diffusers, _BACKBONES[sampler.backbone])(**sampler.network).eval().requires_grad_(False)


def _vae(sampler: Sampler) -> Any:
    return import_diffusers().AutoencoderKL(**sampler.vae).eval().requires_grad_(False)


def _fill(module: nn.Module, device: torch.device, dtype: torch.dtype) -> Any:
    """Random weights for a module made without any, directly where and as they are needed."""
    nn.Module.to(module, dtype)  # diffusers' own warns of checkpoints, of which there is none here
    module.to_empty(device=device)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.ndim < 2:
            tensor.fill_(1)  # norms keep the size of what passes: a CPU is slow with numbers close to zero
        else:
            nn.init.normal_(tensor, std=0.02)
    return module


def _ends(sampler: Sampler, vae: Any, device: torch.device, dtype: torch.dtype) -> Callable[[], object]:
    image = torch.rand(1, 3, sampler.size, sampler.size, device=device, dtype=dtype)
    return lambda: vae.decode(vae.encode(image).latent_dist.mode()).sample


def _step(sampler: Sampler, network: Any, device: torch.device, dtype: torch.dtype) -> Callable[[], Tensor]:
    side = sampler.size // 2 ** (len(sampler.vae["block_out_channels"]) - 1)
    latent = torch.randn(1, sampler.vae["latent_channels"], side, side, device=device, dtype=dtype)
    if sampler.backbone == "unet":
        text = torch.randn(1, CLIP_TOKENS, sampler.network["cross_attention_dim"], device=device, dtype=dtype)
        time = torch.zeros((), device=device, dtype=dtype)
        return lambda: network(latent, time, text).sample
    text = torch.randn(1, GEMMA_TOKENS, GEMMA_WIDTH, device=device, dtype=dtype)
    mask = torch.ones(1, GEMMA_TOKENS, device=device, dtype=torch.int32)
    time = torch.zeros(1, device=device, dtype=dtype)
    rope = _lumina_rope(sampler.network, side // 2, device)
    return lambda: network(latent, time, text, mask, rope, cross_attention_kwargs={}).sample


def _lumina_rope(network: dict[str, Any], side: int, device: torch.device) -> Tensor:
    """Any rotation costs the same: complex ones, (side, side, half the width of a head)."""
    head = network["hidden_size"] // network["num_attention_heads"]
    return torch.ones(side, side, head // 2, dtype=torch.complex64, device=device)
