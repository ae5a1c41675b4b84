"""Forward and backward passes recorded as CUDA graphs, for networks too small to keep a GPU busy."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scenegen.datasets.batch import Batch

Loss = Callable[..., tuple[Tensor, dict[str, Tensor]]]

_WARM_UP_PASSES = 2  # lets libraries choose their algorithms and make their workspaces outside of the graph


@dataclass(frozen=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    inputs: Batch
    gradients: list[Tensor | None]
    loss: Tensor
    logs: dict[str, Tensor]


class GraphedGradients:
    """Runs a loss and its backward pass; replays a recorded graph where one fits the batch.

    A step of a small transformer is a few thousand short kernels: launching them one by one takes longer than
    running them. One graph is recorded for each combination of decisions and batch shapes; all share their
    memory, so that the results of a call are valid until the next one.

    Source: PyTorch, "Whole-network capture" of CUDA graphs.
    """

    def __init__(self, loss: Loss, parameters: Sequence[nn.Parameter], generator: torch.Generator) -> None:
        """Take the loss to run.

        Args:
            loss: (batch, generator, *decisions) -> scalar and detached scalars; must not wait for the GPU.
            parameters: those that get gradients.
            generator: passed to the loss; seeded anew before every call.
        """
        self.loss, self.parameters, self.generator = loss, parameters, generator
        self._recordings: dict[Hashable, _Recording] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, batch: Batch, decisions: tuple[Hashable, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and logs of a batch; the parameters' ``grad`` is set.

        Args:
            batch: tensors on the GPU.
            decisions: further arguments of the loss, see `Objective.decide`.
        """
        key = decisions, batch.shapes()
        if key not in self._recordings:
            self._recordings[key] = self._record(batch, decisions)
        recording = self._recordings[key]
        recording.inputs.copy_(batch)
        recording.graph.replay()
        for parameter, gradient in zip(self.parameters, recording.gradients, strict=True):
            parameter.grad = gradient
        return recording.loss, recording.logs

    def _record(self, batch: Batch, decisions: tuple[Hashable, ...]) -> _Recording:
        inputs = batch.map(lambda value: value.contiguous().clone())
        seed = self.generator.initial_seed()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP_PASSES):
                self._backward(inputs, decisions)
        torch.cuda.current_stream().wait_stream(side)
        self._clear()
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        # Threads of NCCL and of those that bring batches may use the GPU meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            loss, logs = self._backward(inputs, decisions)
        self.generator.manual_seed(seed)
        return _Recording(graph, inputs, [p.grad for p in self.parameters], loss, logs)

    def _backward(self, batch: Batch, decisions: tuple[Hashable, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        self._clear()
        loss, logs = self.loss(batch, self.generator, *decisions)
        loss.backward()
        return loss.detach(), logs

    def _clear(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None
