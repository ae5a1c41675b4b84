"""Forward and backward passes recorded as CUDA graphs, for networks too small to keep a GPU busy."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Loss = Callable[[Mapping[str, Tensor], torch.Generator], tuple[Tensor, dict[str, Tensor]]]

_WARM_UP_PASSES = 2  # lets libraries choose their algorithms and make their workspaces outside of the graph


@dataclass(frozen=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    inputs: dict[str, Tensor]
    gradients: list[Tensor | None]
    loss: Tensor
    logs: dict[str, Tensor]


class GraphedGradients:
    """Runs a loss and its backward pass; replays a recorded graph where one fits the batch.

    A step of a small transformer is a few thousand short kernels: launching them one by one takes longer than
    running them. One graph is recorded for each combination of branch and batch shapes; all share their
    memory, so that the results of a call are valid until the next one.

    Source: PyTorch, "Whole-network capture" of CUDA graphs.
    """

    def __init__(self, loss: Loss, parameters: Sequence[nn.Parameter], generator: torch.Generator) -> None:
        """Take the loss to run.

        Args:
            loss: (batch, generator) -> scalar and detached scalars; must not wait for the GPU.
            parameters: those that get gradients.
            generator: passed to the loss; seeded anew before every call.
        """
        self.loss, self.parameters, self.generator = loss, parameters, generator
        self._recordings: dict[Hashable, _Recording] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, batch: Mapping[str, Tensor], branch: Hashable) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and logs of a batch; the parameters' ``grad`` is set.

        Args:
            batch: tensors on the GPU.
            branch: what the loss decides on the host; each value is a graph of its own.
        """
        key = branch, tuple((name, value.shape, value.dtype) for name, value in sorted(batch.items()))
        if key not in self._recordings:
            self._recordings[key] = self._record(batch)
        recording = self._recordings[key]
        for name, value in batch.items():
            recording.inputs[name].copy_(value)
        recording.graph.replay()
        for parameter, gradient in zip(self.parameters, recording.gradients, strict=True):
            parameter.grad = gradient
        return recording.loss, recording.logs

    def _record(self, batch: Mapping[str, Tensor]) -> _Recording:
        inputs = {name: value.contiguous().clone() for name, value in batch.items()}
        seed = self.generator.initial_seed()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP_PASSES):
                self._backward(inputs)
        torch.cuda.current_stream().wait_stream(side)
        self._clear()
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        with torch.cuda.graph(graph, pool=self._pool):
            loss, logs = self._backward(inputs)
        self.generator.manual_seed(seed)
        return _Recording(graph, inputs, [p.grad for p in self.parameters], loss, logs)

    def _backward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        self._clear()
        loss, logs = self.loss(batch, self.generator)
        loss.backward()
        return loss.detach(), logs

    def _clear(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None
