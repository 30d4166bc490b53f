"""Our model taken apart: what each part of one restoration takes, what it computes, and what it would take at best.

The same walk through the model is timed on the device and counted on the meta device, so that the parts agree.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor, nn

from ..acceleration import synchronize
from ..evaluation.report.paper import grouped
from ..models import Model, ModelConfig, RestoreVAR, build_model
from ..pipeline import Restorer
from .flops import META, Flops, counting, on_meta
from .hardware import Peak
from .timing import PeakMemory, Timing, measure, peak_memory, summarise, warm_up

#: Called after each part with its name.
Stamp = Callable[[str], None]

ENCODER, PROJECTION, REFINER, DECODER = "encoder", "condition projection", "refiner", "decoder"
FIDELITY, NETWORK = "fidelity branch", "network"
#: The decoder once more with the fidelity branch, which cannot run alone; the branch is the difference.
_BOTH = "decoder and fidelity branch"


@dataclass(frozen=True)
class Part:
    """Of one batch. `floor` is what the measured peaks allow: FLOPs over FLOP/s or weights over bytes/s, the longer."""

    name: str
    timing: Timing
    flops: Flops
    weight_bytes: int
    share_of_peak: float
    floor: float


@dataclass(frozen=True)
class Breakdown:
    """Seconds, bytes and FLOPs of restoring images of `size` x `size` pixels, already on the device."""

    size: int
    dtype: str
    parameters: int
    latency: Timing  #: one image
    end_to_end: Timing  #: one image, integers in main memory to integers in main memory, at `speed`
    batch: int
    throughput: float  #: images per second at that batch
    flops: Flops  #: of one image
    memory: PeakMemory  #: at that batch
    share_of_peak: float  #: at that batch
    floor: float  #: of one image
    parts: list[Part]  #: of one image
    speed: str = "best"

    def grouped(self) -> dict[str, float]:
        """Median seconds as the paper's table 10 groups them."""
        return grouped((part.name, part.timing.median) for part in self.parts)


def walk(model: Model, image_B3HW: Tensor, stamp: Stamp) -> None:
    """`model.restore`, telling of each part as it ends."""
    with torch.inference_mode():
        if not isinstance(model, RestoreVAR):
            model.restore(image_B3HW)
            stamp(NETWORK)
            return
        condition_BCHW = model.condition(image_B3HW)
        stamp(ENCODER)
        with _telling(model.transformer, "begin", lambda: stamp(PROJECTION)):
            f_hat_BCHW, hidden_BLD = model.generate(
                condition_BCHW, lambda event: stamp(_scale_name(model.config, event.scale, condition_BCHW))
            )
        refined_BCHW = model.refine(f_hat_BCHW, hidden_BLD)
        stamp(REFINER)
        if model.skips_decoder:
            model.decode(refined_BCHW, image_B3HW)
            stamp(FIDELITY)
            return
        model.decode(refined_BCHW, image_B3HW, 0.0)
        stamp(DECODER)
        if model.config.fidelity is not None:
            model.decode(refined_BCHW, image_B3HW)
            stamp(_BOTH)


def _scale_name(config: ModelConfig, scale: int, condition_BCHW: Tensor) -> str:
    grid = (condition_BCHW.shape[-2], condition_BCHW.shape[-1])
    h, w = config.scales.grids(grid)[scale]  # type: ignore[union-attr]
    return f"scale {scale + 1} ({h}x{w})"


@contextmanager
def _telling(module: nn.Module, method: str, after: Callable[[], None]) -> Iterator[None]:
    """Calls `after` whenever the method has run. Where a faster path leaves it out, its time goes to what follows."""
    plain = getattr(module, method)

    def told(*args: object, **kwargs: object) -> object:
        out = plain(*args, **kwargs)
        after()
        return out

    before = vars(module).get(method)
    setattr(module, method, told)
    try:
        yield
    finally:
        if before is None:
            delattr(module, method)
        else:
            setattr(module, method, before)


# -------------------------------------------------------------------------------------------------- counting


def part_flops(config: ModelConfig, size: int, batch: int = 1) -> dict[str, Flops]:
    """Of each part, on the meta device; the model is not computed."""
    return dict(_part_flops(config, size, batch))


@cache  # a second and more, and always the same
def _part_flops(config: ModelConfig, size: int, batch: int) -> dict[str, Flops]:
    counts: dict[str, Flops] = {}
    with META:
        model = build_model(config).eval()
    with on_meta(), counting() as so_far:
        image = torch.empty(batch, 3, size, size, device=META)
        done = [Flops(0, 0)]

        def stamp(name: str) -> None:
            done.append(so_far())
            counts[name] = done[-1] - done[-2]

        walk(model, image, stamp)
    if _BOTH in counts:
        counts[FIDELITY] = counts.pop(_BOTH) - counts[DECODER]
    return counts


def part_weights(config: ModelConfig) -> dict[str, int]:
    """Parameters that each part reads; every scale reads the whole transformer but for the condition's projections."""
    with META:
        model = build_model(config)
    if not isinstance(model, RestoreVAR):
        return {NETWORK: _parameters(model)}
    transformer = model.transformer
    before = [transformer.condition_proj, transformer.condition_embed, transformer.start_embed]
    before += [block.cross.kv for block in transformer.blocks]  # type: ignore[union-attr, misc]
    projection = sum(map(_parameters, before))
    scale = _parameters(transformer) - projection - _parameters(transformer.class_embed)
    weights = {
        ENCODER: _parameters(model.vqvae.encoder),
        PROJECTION: projection,
        REFINER: _parameters(model.refiner),
        DECODER: _parameters(model.vqvae.decoder),
        FIDELITY: 0 if model.fidelity is None else _parameters(model.fidelity),
    }
    return weights | {f"scale {k + 1}": scale for k in range(len(model.config.scales))}


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# -------------------------------------------------------------------------------------------------- measuring


def part_timings(model: Model, image_B3HW: Tensor, repeat: int) -> dict[str, Timing]:
    """Seconds of each part, the device synchronised after each: together they take a little more than the whole."""
    device = image_B3HW.device
    seconds: dict[str, list[float]] = {}
    last = [0.0]

    def stamp(name: str) -> None:
        synchronize(device)
        now = time.perf_counter()
        seconds.setdefault(name, []).append(now - last[0])
        last[0] = time.perf_counter()

    def once() -> None:
        synchronize(device)
        last[0] = time.perf_counter()
        walk(model, image_B3HW, stamp)

    warm_up(once, device)
    seconds.clear()
    for _ in range(repeat):
        once()
    if _BOTH in seconds:
        both = seconds.pop(_BOTH)
        seconds[FIDELITY] = [max(0.0, b - d) for b, d in zip(both, seconds[DECODER], strict=True)]
    return {name: summarise(values) for name, values in seconds.items()}


def take_apart(
    model: Model, device: str, dtype: str, size: int, batch: int, repeat: int, peak: Peak, speed: str = "best"
) -> Breakdown:
    """Measures `model`, which is moved and cast in place. Raises ValueError for a size that it cannot take.

    `speed` is that of the way from pixels to pixels; the rest is about the whole model.
    """
    restorer = Restorer(model, device=device, dtype=dtype, speed=speed)
    image = random_image(size).to(restorer.device)
    restorer.model.check(image)
    place = restorer.device
    pixels = ((image[0].permute(1, 2, 0) + 1) * 127.5).round().byte().cpu().numpy()
    latency = measure(lambda: restorer.model.restore(image), place, repeat)
    end_to_end = measure(lambda: restorer.restore_pixels(pixels), place, repeat)
    many = image.expand(batch, -1, -1, -1).contiguous()
    with peak_memory(place) as memory:
        restorer.model.restore(many)
    together = latency if batch == 1 else measure(lambda: restorer.model.restore(many), place, repeat)
    parts = _parts(restorer, image, repeat, peak)
    flops = sum((part.flops for part in parts), Flops(0, 0))
    return Breakdown(
        size=size,
        dtype=restorer.settings["dtype"],
        parameters=_parameters(restorer.model),
        latency=latency,
        end_to_end=end_to_end,
        batch=batch,
        throughput=batch / together.median,
        flops=flops,
        memory=replace(memory),
        share_of_peak=batch * flops.total / together.median / peak.flops_per_second,
        floor=sum(part.floor for part in parts),
        parts=parts,
        speed=speed,
    )


def _parts(restorer: Restorer, image_B3HW: Tensor, repeat: int, peak: Peak) -> list[Part]:
    config, width = restorer.model.config, torch.empty((), dtype=restorer.dtype).element_size()
    timings = part_timings(restorer.model, image_B3HW, repeat)
    counts, weights = part_flops(config, image_B3HW.shape[-1]), part_weights(config)
    if PROJECTION in counts and PROJECTION not in timings:  # not told of: its time is in the first scale
        first = next(name for name in counts if name.startswith("scale 1 "))
        counts[first] += counts[PROJECTION]
        weights["scale 1"] += weights[PROJECTION]
    return [
        _part(name, timing, counts[name], weights[name.split(" (")[0]] * width, peak)
        for name, timing in timings.items()
    ]


def _part(name: str, timing: Timing, flops: Flops, read: int, peak: Peak) -> Part:
    floor = max(flops.total / peak.flops_per_second, read / peak.bytes_per_second)
    share = flops.total / timing.median / peak.flops_per_second if timing.median else 0.0
    return Part(name, timing, flops, read, share, floor)


def random_image(size: int, seed: int = 0) -> Tensor:
    """(1, 3, size, size) in [-1, 1]: smooth, as photographs are."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 8, 8, generator=generator) * 2 - 1
    return nn.functional.interpolate(coarse, size=(size, size), mode="bilinear").clamp(-1, 1)
