"""What one step of a stage costs, counted on torch's meta device: tensors with shapes but without values.

The stage's own code runs, forward and backward, and so does what prepares its samples; nothing is computed and hardly
any memory taken. FLOPs come from torch's counter, memory from the storages that are alive at a time.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import flop_registry
from torch.utils.weak import WeakIdKeyDictionary

from ..data.pairs import Pairs
from ..models import Model, ModelConfig, RestoreVAR, build_model
from .image_loss import ImageLoss, Judge
from .perceptual import VGG16, Backbone, FeatureDistance
from .replay import Replay, Sample, Shape, unstacked
from .trainer import Setting, Stage, _freeze_all_but

META = torch.device("meta")
#: A step with every loss on: long after any start of the adversarial loss, none of those without the fidelity branch.
LATE_STEP = 10**6
#: AdamW keeps two moments of each trained number.
MOMENTS = 2


@dataclass(frozen=True)
class StageCost:
    """One optimiser step. Bytes are of one device; several window shapes count by their weights, memory by the largest.

    Not in it: kernels' workspaces, the allocator's fragments, validation.
    """

    trained: int  #: parameters
    parameters: int  #: of the whole model
    batch: int  #: samples of all devices together
    turn: int  #: samples of one device in one turn
    flops: float  #: of all devices together; recomputation included, sample preparation spread over its reuse
    state_bytes: int  #: weights, gradients, moments, averaged weights, buffers of a distributed run
    step_bytes: int  #: activations and what is computed from them, at the worst moment of forward and backward
    prepare_bytes: int  #: the same while frozen parts prepare a whole batch, which `accumulate` does not split
    host_bytes: int  #: pool of prepared samples, in the memory of the host

    @property
    def total_bytes(self) -> int:
        """Of one device. While samples are prepared there are no gradients; counted all the same."""
        return self.state_bytes + max(self.step_bytes, self.prepare_bytes)


def stage_cost(
    config: ModelConfig,
    stage: Stage,
    precision: torch.dtype = torch.float32,
    processes: int = 1,
    accumulate: int = 1,
    checkpointing: bool = False,
    shard: bool = False,
) -> StageCost:
    """Runs one step of `stage` for each of its window shapes. Leaves the stage set up for the meta device."""
    with on_meta(precision, taken=getattr(stage, "self_rollout", 1.0)) as stand_in:
        model = _model(config).train()
        trained = list(_freeze_all_but(model, stage).values())
        _set_up(stage, model, _setting(processes, accumulate, checkpointing))
        critic = [] if stage.critic is None else list(stage.critic.parameters())
        replay = stage.replay
        assert replay is not None
        shares = [float(w) for w in replay.plan.weights / replay.plan.weights.sum()]
        costs = [_shape_cost(stage, model, replay, shape, trained + critic, stand_in) for shape in replay.plan.shapes]
    batch = replay.plan.batches[replay.plan.shapes[0]]
    flops = sum(share * cost.flops for share, cost in zip(shares, costs, strict=True))
    learning, numbers = _bytes(trained + critic), _bytes(_all_tensors(stage, model))
    spread = processes if shard and stage.shardable else 1
    copies = 1 + MOMENTS + (processes > 1)  # gradients, moments, and what DDP sends or FSDP gathers
    average = _bytes(trained) if stage.schedule.ema else 0
    return StageCost(
        trained=sum(p.numel() for p in trained),
        parameters=sum(p.numel() for p in model.parameters()),
        batch=batch,
        turn=batch // processes // accumulate,
        flops=processes * flops,
        state_bytes=numbers + (copies * learning + average) // spread,
        step_bytes=max(learning, *(cost.step_bytes for cost in costs)),  # AdamW takes the roots of its second moments
        prepare_bytes=max(cost.prepare_bytes for cost in costs),
        host_bytes=sum(cost.host_bytes for cost in costs),
    )


def forward_flops(config: ModelConfig) -> dict[str, Counter[str]]:
    """FLOPs of restoring one window of the model: part -> {"attention", "other"}; 2 for each multiply-add."""
    with on_meta(torch.float32), torch.no_grad():
        model = _model(config).eval()
        image = torch.empty(1, 3, config.window, config.window, device=META)
        if not isinstance(model, RestoreVAR):
            return {"network": _flops_of(lambda: model(image))}
        latent = model.condition(image)
        hidden = latent.new_empty(1, model.config.scales.length(), model.config.transformer.width)
        parts: dict[str, Callable[[], object]] = {
            "encoder": lambda: model.condition(image),
            "transformer": lambda: model.generate(latent),
            "refiner": lambda: model.refine(latent, hidden),
            "decoder": lambda: model.decode(latent, image, 0.0),
        }
        found = {name: _flops_of(run) for name, run in parts.items()}
        if model.fidelity is not None:
            found["fidelity"] = _flops_of(lambda: model.decode(latent, image, 1.0))
            found["fidelity"].subtract(found["decoder"])
    return found


def _model(config: ModelConfig) -> Model:
    with META:
        return build_model(config)


def _flops_of(run: Callable[[], object]) -> Counter[str]:
    with Meter() as meter:
        run()
    return meter.flops


# ------------------------------------------------------------------------------------------------- one step


@dataclass(frozen=True)
class _ShapeCost:
    flops: float
    step_bytes: int
    prepare_bytes: int
    host_bytes: int


def _shape_cost(
    stage: Stage, model: Model, replay: Replay, shape: Shape, trained: list[nn.Parameter], stand_in: StandIn
) -> _ShapeCost:
    """Of one device and one window shape; samples that frozen parts prepare count 1 / reuse."""
    for parameter in trained:
        parameter.grad = None
    mine = len(replay.share.lanes(replay.plan.batches[shape]))
    with Meter() as prepare, stand_in.autocasting(), torch.no_grad():
        sample = replay.make(_pairs(mine, shape))
    stage.replay = _Samples(sample, mine // replay.share.accumulate)  # type: ignore[assignment]
    for parameter in trained:  # as in every turn but the first: gradients are there, and added to
        parameter.grad = torch.empty_like(parameter)
    with Meter() as step, stand_in.autocasting():
        _backward(stage.losses(model, LATE_STEP, 0)["loss"], stand_in)
        if stage.critic is not None:
            _backward(stage.critic_loss(LATE_STEP), stand_in)
    turns = replay.share.accumulate
    kept = replay.plan.kept[shape]
    return _ShapeCost(
        flops=turns * step.flops.total() + prepare.flops.total() / replay.plan.reuse,
        step_bytes=step.peak,
        prepare_bytes=prepare.peak,
        host_bytes=kept * _bytes(sample.values()),
    )


def _backward(loss: Tensor, stand_in: StandIn) -> None:
    """What `loss.backward()` calls, which by itself would take the stand-in from blocks that are recomputed."""
    stand_in.cast.clear()
    torch.autograd.graph._engine_run_backward(
        (loss,), (torch.ones_like(loss),), False, False, (), allow_unreachable=True, accumulate_grad=True
    )


class _Samples:
    """In place of `Replay`: a batch of the shapes that `make` gives."""

    def __init__(self, sample: Sample, count: int):
        self.kinds = {name: (count, *values.shape[1:], values.dtype) for name, values in sample.items()}
        self.kinds["dice"] = (count, 4, torch.float32)

    def batch(self, step: int, turn: int = 0) -> Sample:
        return {name: torch.empty(shape, dtype=dtype, device=META) for name, (*shape, dtype) in self.kinds.items()}

    def rows(self, step: int, turn: int = 0) -> list[Sample]:
        return unstacked(self.batch(step, turn))


def _pairs(count: int, shape: Shape) -> Pairs:
    clean, degraded = (torch.empty(count, 3, *shape, dtype=torch.uint8, device=META) for _ in range(2))
    return Pairs(clean, degraded, [""] * count)


def _setting(processes: int, accumulate: int, checkpointing: bool) -> Setting:
    """One process's setting, of which the stages use little before the first step."""
    source = SimpleNamespace(seed=0, size=1)
    source.drawn_by = lambda mix: source
    accelerator = SimpleNamespace(
        device=META,
        process_index=0,
        num_processes=processes,
        is_main_process=True,
        reduce=lambda tensor, reduction: tensor,
    )
    return Setting(
        cast(Any, source), Path(), cast(Any, accelerator), cast(Any, None), accumulate, checkpointing=checkpointing
    )


def _set_up(stage: Any, model: Model, setting: Setting) -> None:
    """The stage's own set-up; a perceptual network comes without its file of weights, and as VGG16."""
    loss = getattr(stage, "loss", None)
    if not isinstance(loss, ImageLoss) or not loss.perceptual or loss.perceptual_kind not in ("vgg", "lpips"):
        stage.setup(model, setting)
        return
    with mock.patch("restorevar.training.image_loss.build_perceptual", _vgg16):
        stage.setup(model, setting)


def _vgg16(*_: Any) -> FeatureDistance:
    network = Backbone(VGG16)
    network.to_empty(device=META)
    return FeatureDistance(network)


def _all_tensors(stage: Any, model: Model) -> Sequence[Tensor]:
    """Weights and buffers of the model and of what judges it."""
    judge: Judge | None = getattr(stage, "judge", None)
    network = getattr(getattr(judge, "perceptual", None), "features", None)
    modules = [model, stage.critic, network if isinstance(network, Backbone) else None]
    return [t for m in modules if m is not None for t in (*m.parameters(), *m.buffers())]


def _bytes(tensors: Any) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


# ------------------------------------------------------------------------------------------------- counting


class Meter(TorchDispatchMode):
    """Counts what runs inside: FLOPs, and the most bytes alive at a time of the storages made there.

    Views share a storage; what came from outside is not counted. (torch's FlopCounterMode has the same formulas, but
    follows modules too, and what it keeps for that would be counted here as memory.)
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops: Counter[str] = Counter(attention=0, other=0)
        self.known = WeakIdKeyDictionary()
        self.alive = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for tensor in _tensors((args, kwargs)):
            self.known.setdefault(tensor.untyped_storage(), True)
        out = _run(func, args, kwargs)
        for tensor in _tensors(out):
            if tensor.is_meta:
                self._add(tensor.untyped_storage())
        operator = func.overloadpacket
        if operator in flop_registry:
            kind = "attention" if "attention" in str(operator) else "other"
            self.flops[kind] += flop_registry[operator](*args, **kwargs, out_val=out)
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        if storage in self.known:
            return
        self.known[storage] = True
        self.alive += storage.nbytes()
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._free, storage.nbytes())

    def _free(self, size: int) -> None:
        self.alive -= size


def _tensors(value: Any) -> Iterator[Tensor]:
    """All in an argument list or a result; torch's tree_leaves takes ten times as long."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


#: Operator and the kinds of its arguments -> the kinds of its results. Torch works them out anew, a millisecond each.
_results: dict[Any, Any] = {}


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    """`func` on meta tensors; a result of the same kind as last time, where it is no view and changes nothing."""
    given = list(_tensors((args, kwargs)))
    if not given or not all(t.is_meta for t in given) or not _is_pure(func):
        return func(*args, **kwargs)
    if func is torch.ops.aten.upsample_bicubic2d.default:  # torch works it out in many small steps, 0.2 s a time
        return args[0].new_empty((*args[0].shape[:2], *args[1]))
    key = (func, _kind(args), _kind(tuple(kwargs.items())))
    if key not in _results:
        out = func(*args, **kwargs)
        _results[key] = [_kind(t) for t in out] if isinstance(out, tuple) else _kind(out)
        return out
    known = _results[key]
    return tuple(map(_of_kind, known)) if isinstance(known, list) else _of_kind(known)


@cache
def _is_pure(func: Any) -> bool:
    values = (*func._schema.arguments, *func._schema.returns)
    return all(value.alias_info is None for value in values) and "List" not in str(func._schema.returns[0].type)


def _kind(value: Any) -> Any:
    if isinstance(value, Tensor):
        return Tensor, tuple(value.shape), value.stride(), value.dtype
    if isinstance(value, tuple | list):
        return tuple(map(_kind, value))
    return type(value), value


def _of_kind(kind: Any) -> Any:
    if kind[0] is not Tensor:
        return kind[1]
    return torch.empty_strided(*kind[1:3], dtype=kind[3], device=META)


# ------------------------------------------------------------------------------------------- without values

#: Computed in the lower precision under autocast, and in float32: from torch's tables for CUDA.
_LOWER = {F.linear, F.conv2d, torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, torch.addmm, Tensor.addmm}
_FLOAT32 = {F.layer_norm, F.group_norm, F.softmax, torch.softmax, Tensor.softmax, F.log_softmax, F.cross_entropy}
_FLOAT32 |= {F.l1_loss, F.mse_loss, Tensor.pow, Tensor.__pow__, Tensor.rsqrt, Tensor.exp, Tensor.log, Tensor.sum}


class StandIn(TorchFunctionMode):
    """What the meta device lacks: fused attention, autocast, and answers where code asks for values.

    Attention is torch's memory-efficient kernel, which keeps no matrix of all tokens with all: the plain one that the
    meta device falls back to would make up most of the memory. `taken` is the share of a batch that a mask chooses.
    """

    def __init__(self, precision: torch.dtype, taken: float):
        super().__init__()
        self.precision, self.taken = precision, taken
        self.casting = False
        self.cast: dict[int, Tensor] = {}  #: of trained weights, once for a forward pass

    @contextmanager
    def autocasting(self, enabled: bool = True) -> Iterator[None]:
        """As torch.autocast, for the meta device. The casts of weights live until the outermost end."""
        before = self.casting
        self.casting = enabled and self.precision != torch.float32
        try:
            yield
        finally:
            self.casting = before
            if not before and enabled:
                self.cast.clear()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not args or not isinstance(args[0], Tensor) or not args[0].is_meta:
            return func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return self._attention(*(self._lower(a) for a in args), **kwargs)
        if func in _LOWER:
            args, kwargs = tree_map(self._lower, args), tree_map(self._lower, kwargs)
        elif func in _FLOAT32:
            args, kwargs = tree_map(self._raise, args), tree_map(self._raise, kwargs)
        answer = self._answer(func, args, kwargs)
        return func(*args, **kwargs) if answer is None else answer

    def _answer(self, func: Any, args: Any, kwargs: Any) -> Any:
        """For functions whose result, or its shape, depends on values; None for all others."""
        tensor = args[0]
        if func is Tensor.__bool__:
            return self.taken > 0
        if func is Tensor.__float__:
            return 0.5
        if func is Tensor.tolist:
            return [0.5] * len(tensor)
        if func is Tensor.bincount:
            return tensor.new_empty(kwargs["minlength"])
        masked = func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[1], Tensor)
        if masked and args[1].dtype == torch.bool:
            rows = slice(max(1, round(self.taken * len(tensor))))
            return tensor[rows] if func is Tensor.__getitem__ else (tensor[rows].copy_(args[2]), ())[1]
        return None

    def _attention(
        self,
        q_BNlK: Tensor,
        k_BNLK: Tensor,
        v_BNLK: Tensor,
        attn_mask: Tensor | None = None,
        scale: float | None = None,
    ) -> Tensor:
        bias = None
        if attn_mask is not None:  # the kernel adds a bias, which torch makes of a mask
            bias = q_BNlK.new_empty(attn_mask.shape).expand(*q_BNlK.shape[:2], *attn_mask.shape[-2:])
        kernel = torch.ops.aten._scaled_dot_product_efficient_attention
        return kernel(q_BNlK, k_BNLK, v_BNLK, bias, torch.is_grad_enabled(), scale=scale)[0]

    def _lower(self, value: Any) -> Any:
        if not self.casting or not isinstance(value, Tensor) or value.dtype != torch.float32:
            return value
        if not (value.is_leaf and value.requires_grad):
            return value.to(self.precision)
        if id(value) not in self.cast or (torch.is_grad_enabled() and not self.cast[id(value)].requires_grad):
            self.cast[id(value)] = value.to(self.precision)
        return self.cast[id(value)]

    def _raise(self, value: Any) -> Any:
        low = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
        return value.float() if self.casting and low else value


@contextmanager
def on_meta(precision: torch.dtype, taken: float = 1.0) -> Iterator[StandIn]:
    """Inside, the networks and the stages run on the meta device. Replaces torch.autocast, which does not know it."""

    def autocast(device_type: str, dtype: Any = None, enabled: bool = True, cache_enabled: Any = None) -> Any:
        return stand_in.autocasting(enabled)

    with StandIn(precision, taken) as stand_in, mock.patch.object(torch, "autocast", autocast):
        yield stand_in
