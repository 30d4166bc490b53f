"""The faster twins give what the plain model gives; precision costs what it says."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from torch import Tensor

from restorevar.acceleration import prepare
from restorevar.acceleration.capture import CapturedRestore
from restorevar.acceleration.convolutions import UpsampleByPhases
from restorevar.acceleration.twin import take_out
from restorevar.benchmarks.subject import random_model
from restorevar.models import RestoreVAR
from restorevar.models.autoencoder import Upsample
from restorevar.models.config import compact, debug, paper
from restorevar.models.restorevar import ScaleEvent

CPU = torch.device("cpu")


def small_paper() -> RestoreVAR:
    """The paper's architecture, absolute sizes apart: group norms, attention, learned refiner positions, no branch."""
    from dataclasses import replace

    config = paper()
    return random_model(  # type: ignore[return-value]
        replace(
            config,
            scales=debug().scales,
            vqvae=replace(config.vqvae, widths=(32, 32, 64), codebook_size=64, latent_channels=8),
            transformer=replace(config.transformer, depth=3, width=64, heads=4, classes=3),
            refiner=replace(config.refiner, depth=2, width=24, heads=2, mlp_width=32),
        )
    )


def restored(model: RestoreVAR, image: Tensor, **options: object) -> tuple[Tensor, list[Tensor]]:
    """The image, and the tokens of every scale."""
    tokens: list[Tensor] = []

    def note(event: ScaleEvent) -> None:
        tokens.append(event.tokens_Bl)

    return model.restore(image, on_scale=note, **options), tokens  # type: ignore[arg-type]


def both(model: RestoreVAR) -> tuple[RestoreVAR, RestoreVAR]:
    return (
        prepare(copy.deepcopy(model), CPU, torch.float32, twins=False),  # type: ignore[return-value]
        prepare(copy.deepcopy(model), CPU, torch.float32),
    )


def assert_same(model: RestoreVAR, image: Tensor, **options: object) -> None:
    reference, fast = (restored(m, image, **options) for m in both(model))
    assert all(torch.equal(a, b) for a, b in zip(reference[1], fast[1], strict=True))
    assert (reference[0] - fast[0]).abs().max() < 1e-4
    assert reference[0].std() > 0.01  # not a comparison of nothing with nothing


@pytest.mark.parametrize("size", [(32, 32), (48, 64)])
def test_twins_give_the_same_tokens_and_pixels(tiny, size):
    assert_same(tiny, torch.rand(2, 3, *size) * 2 - 1)


def test_twins_of_the_published_architecture():
    torch.manual_seed(1)
    model = small_paper()
    assert_same(model, torch.rand(1, 3, model.config.window, model.config.window) * 2 - 1)


@pytest.mark.parametrize("switch", [{"positions": "absolute"}, {"aligned_condition": False}])
def test_twins_of_the_other_transformers(switch):
    from dataclasses import replace

    config = debug()
    model = random_model(replace(config, transformer=replace(config.transformer, **switch)))
    assert_same(model, torch.rand(1, 3, 32, 32) * 2 - 1)  # type: ignore[arg-type]


def test_twins_of_the_default_model():
    """At its size and in all its parts; the weights are random, for they say more than trained ones do."""
    torch.manual_seed(2)
    assert_same(random_model(compact()), torch.rand(1, 3, 96, 128) * 2 - 1)  # type: ignore[arg-type]


def test_preparing_keeps_the_parameters(tiny):
    before = {name: tensor.clone() for name, tensor in tiny.state_dict().items()}
    prepare(tiny, CPU, torch.float32)
    after = tiny.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    take_out(tiny)
    assert "step" not in vars(tiny.transformer)


def test_preparing_again_takes_the_new_weights(tiny):
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    first = prepare(tiny, CPU, torch.float32).restore(image)
    with torch.no_grad():
        for parameter in tiny.parameters():
            parameter.mul_(1.1)
    assert_same(tiny, image)
    assert not torch.allclose(prepare(tiny, CPU, torch.float32).restore(image), first, atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 8, 5, 7), (2, 8, 1, 1), (1, 8, 16, 3)])
def test_upsampling_by_phases(shape):
    torch.manual_seed(0)
    upsample = Upsample(8).requires_grad_(False)
    x = torch.randn(shape)
    fast = UpsampleByPhases(upsample)(x)
    assert fast.shape == (shape[0], 8, 2 * shape[2], 2 * shape[3])
    torch.testing.assert_close(fast, upsample(x), atol=1e-5, rtol=1e-5)


# ------------------------------------------------------------------------------------------------ early ends


def test_a_rollout_that_ends_early_says_so(tiny):
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    whole, tokens = restored(tiny, image)
    early, fewer = restored(tiny, image, scales=2)
    assert len(tokens) == 4 and len(fewer) == 2
    assert all(torch.equal(a, b) for a, b in zip(tokens, fewer, strict=False))  # the scales before it are the same
    assert not torch.equal(whole, early)
    assert torch.equal(whole, restored(tiny, image, scales=4)[0])
    for wrong in (0, 5):
        with pytest.raises(ValueError, match="1 to 4 scales"):
            tiny.restore(image, scales=wrong)


def test_early_ends_with_learned_positions():
    model = small_paper()
    image = torch.rand(1, 3, model.config.window, model.config.window) * 2 - 1
    assert model.restore(image, scales=1).isfinite().all()
    assert_same(model, image, scales=3)


# ---------------------------------------------------------------------------------------------- CUDA graphs


@pytest.fixture
def graphs(monkeypatch):
    """torch.cuda's recording, acted out on the CPU: replay runs the recorded call and writes to its output."""
    from contextlib import contextmanager

    class Graph:
        def replay(self) -> None:
            self.output.copy_(self.call())

    calls: list[Graph] = []

    @contextmanager
    def graph(recording, **options):
        calls.append(recording)
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    return calls


def recording(calls):
    """A restore that tells a stand-in graph, once recorded, how it is computed."""

    def restore(image, weight=1.0, on_scale=None, maps=0.0):
        out = image * 2 * weight + maps
        if calls and not hasattr(calls[-1], "call"):
            calls[-1].output, calls[-1].call = out, lambda: image * 2 * weight + maps
        return out

    return restore


def test_a_shape_is_recorded_when_it_comes_again(graphs):
    fast = CapturedRestore(recording(graphs))
    for i in range(4):
        image = torch.full((1, 3, 8, 8), float(i))
        assert torch.equal(fast(image), image * 2)
        assert len(graphs) == (0 if i == 0 else 1)
    assert torch.equal(fast(torch.ones(1, 3, 8, 8), weight=0.5), torch.ones(1, 3, 8, 8))  # another key
    assert torch.equal(fast(torch.ones(2, 3, 8, 8)), torch.full((2, 3, 8, 8), 2.0))
    assert len(graphs) == 1


def test_what_lies_beside_the_image_is_new_in_each_call_too(graphs):
    fast = CapturedRestore(recording(graphs))
    for i in range(4):
        image, maps = torch.full((2, 3, 8, 8), float(i)), torch.tensor([float(10 * i), -1.0]).view(2, 1, 1, 1)
        assert torch.equal(fast(image, maps=maps, weight=0.5), image + maps)
    assert len(graphs) == 1
    fast(torch.ones(2, 3, 8, 8), weight=0.5)  # without it: another recording
    assert len(fast.graphs) == 2


def test_results_are_the_callers_own(graphs):
    fast = CapturedRestore(recording(graphs))
    first, second, third = (fast(torch.full((1, 3, 4, 4), float(i))) for i in (1, 2, 3))
    assert (first.mean(), second.mean(), third.mean()) == (2, 4, 6)


def test_old_recordings_make_room(graphs):
    fast = CapturedRestore(recording(graphs))
    for size in range(1, 9):
        for _ in range(2):
            fast(torch.ones(1, 3, size, size))
    assert len(graphs) == 8 and len(fast.graphs) == 4
    fast.clear()
    assert not fast.graphs


def test_what_cannot_be_recorded_runs_plainly(graphs, monkeypatch, caplog):
    def refuse(*arguments, **options):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(torch.cuda, "graph", refuse)
    fast = CapturedRestore(recording([]))
    image = torch.ones(1, 3, 4, 4)
    with caplog.at_level(logging.WARNING):
        assert all(torch.equal(fast(image), image * 2) for _ in range(4))
    assert len(caplog.records) == 1 and "not permitted" in caplog.text and "more" not in caplog.text


def test_calls_that_watch_the_scales_are_not_recorded(graphs):
    fast = CapturedRestore(recording(graphs))
    for _ in range(3):
        fast(torch.ones(1, 3, 4, 4), on_scale=lambda event: None)
    assert not graphs and not fast.graphs


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_recorded_on_a_gpu(tiny):
    device = torch.device("cuda")
    images = [torch.rand(2, 3, 32, 32, device=device) * 2 - 1 for _ in range(3)]
    reference = prepare(copy.deepcopy(tiny), device, torch.float32, twins=False)
    fast = prepare(tiny, device, torch.float32)
    with torch.backends.cudnn.flags(allow_tf32=False):  # with it they differed by 6.5e-4 on an H200
        for image in images:
            torch.testing.assert_close(fast.restore(image), reference.restore(image), atol=1e-4, rtol=0)
    assert fast.restore.works and any(graph is not None for graph in fast.restore.graphs.values())  # type: ignore
