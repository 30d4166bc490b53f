"""CUDA graphs: the thousands of launches of one restoration, recorded once and replayed as one."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .twin import Twin

#: Shapes kept at once. Each holds the memory of its activations.
GRAPHS = 4
#: Among the tensors of a call, the name of the image.
IMAGE = "degraded_B3HW"

log = logging.getLogger(__name__)


@dataclass
class _Graph:
    graph: Any  #: torch.cuda.CUDAGraph
    inputs: dict[str, Tensor]
    output_B3HW: Tensor


class CapturedRestore(Twin):
    """Of `restore` on CUDA: a shape is recorded when it comes for the second time.

    The first time it runs plainly, which is also the warm-up that a recording needs, and all that a photo of a size
    of its own asks for. Calls that watch the scales run plainly. A model that cannot be recorded runs plainly ever
    after, and says so once.
    """

    def __init__(self, restore: Callable[..., Tensor]):
        self.restore = restore
        self.graphs: OrderedDict[tuple[Any, ...], _Graph | None] = OrderedDict()  #: None: seen once
        self.works = True

    def __call__(self, degraded_B3HW: Tensor, *args: Any, on_scale: Any = None, **kwargs: Any) -> Tensor:
        if on_scale is not None or not self.works:
            return self.restore(degraded_B3HW, *args, on_scale=on_scale, **kwargs)
        inputs = {name: value for name, value in kwargs.items() if isinstance(value, Tensor)} | {IMAGE: degraded_B3HW}
        options = {name: value for name, value in kwargs.items() if name not in inputs}
        shapes = {name: (tuple(value.shape), value.dtype) for name, value in inputs.items()}
        key = (tuple(sorted(shapes.items())), args, tuple(sorted(options.items())))
        if key not in self.graphs:
            self._remember(key, None)
            return self.restore(degraded_B3HW, *args, **kwargs)
        self.graphs.move_to_end(key)
        graph = self.graphs[key]
        if graph is None:
            graph = self._record(inputs, *args, **options)
            if graph is None:
                return self.restore(degraded_B3HW, *args, **kwargs)
            self.graphs[key] = graph
        for name, value in inputs.items():
            graph.inputs[name].copy_(value)
        graph.graph.replay()
        return graph.output_B3HW.clone()

    def clear(self) -> None:
        """Give the memory of all recordings back."""
        self.graphs.clear()

    def _remember(self, key: tuple[Any, ...], graph: _Graph | None) -> None:
        self.graphs[key] = graph
        while len(self.graphs) > GRAPHS:
            self.graphs.popitem(last=False)

    def _record(self, inputs: dict[str, Tensor], *args: Any, **options: Any) -> _Graph | None:
        """None, and `works` False, if it cannot be done; torch.OutOfMemoryError if it can but not in this memory."""
        still = {name: value.clone() for name, value in inputs.items()}
        beside = {name: value for name, value in still.items() if name != IMAGE}
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                output = self.restore(still[IMAGE], *args, **beside, **options)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self.works = False
            self.clear()
            log.warning("CUDA graphs do not work here (%s); going on without", str(error).splitlines()[0])
            return None
        return _Graph(graph, still, output)
