"""What an objective is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from scenegen.datasets.batch import Batch
from scenegen.datasets.source import BatchSource
from scenegen.trainers.samples import LatentSample, SceneSample
from trellis_modules.samplers import SamplingParams

T = TypeVar("T")


class Objective(nn.Module, ABC):
    """What networks are trained for: a module whose ``forward`` is the loss.

    Its children are the networks, by the names under which they are saved; those of an experiment's models
    are exported at the end, others (probes) are only needed while training.
    """

    #: The kind of batch that it learns from.
    batch_type: ClassVar[type[Batch]]

    #: Whether what it samples are objects in places, whose poses validation measures.
    places_objects: ClassVar[bool] = False

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The children by name."""
        return dict(self.named_children())

    @property
    def kept(self) -> dict[str, Tensor]:
        """What it keeps from step to step: buffers by name, of its own and of parts without parameters."""
        parts = [("", self, False)]
        parts += [
            (f"{name}.", part, True)
            for name, part in self.named_children()
            if next(part.parameters(), None) is None
        ]
        return {
            prefix + name: buffer
            for prefix, part, recurse in parts
            for name, buffer in part.named_buffers(recurse=recurse)
        }

    def decide(self, generator: torch.Generator) -> tuple[Hashable, ...]:
        """What is decided on the host for a step: further arguments of ``forward``, none by default.

        Each value makes ``forward`` run other kernels, so that a CUDA graph is recorded for each. What is
        random and does not change which kernels run belongs into ``forward``.

        Args:
            generator: on the CPU, seeded by the step.
        """
        return ()

    @abstractmethod
    def forward(
        self, batch: Batch, generator: torch.Generator, *decisions: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch.

        Args:
            batch: of the kind ``batch_type``.
            generator: on the device of the batch.
            decisions: from ``decide``.

        Returns:
            The scalar to minimise and detached scalars to log.
        """

    def visit(self, look: Callable[[], T]) -> T:
        """Call a function that uses the networks by themselves, outside of ``forward``.

        Weights that are spread over processes are put together for as long; all processes must call it.
        """
        return look()

    def end_step(self, logs: Mapping[str, Tensor]) -> None:
        """Update what the objective keeps from step to step, see `kept`; nothing by default.

        Args:
            logs: of `forward`, averaged over all batches of the step on all processes: all are told the same.
        """

    def shown(self, batch: Batch) -> Batch:
        """The part of a batch that snapshots show; all of it by default."""
        return batch

    def samples(
        self, batch: Batch, generator: torch.Generator, params: SamplingParams
    ) -> tuple[SceneSample, ...] | tuple[LatentSample, ...]:
        """What the networks, in eval mode, make of the conditions of a batch, beside the truth.

        Validation measures its poses and snapshots show it; none by default.

        Args:
            batch: of the kind ``batch_type``.
            generator: of the noise, on the device of the batch.
            params: steps and strength of the guidance.
        """
        return ()

    def finish(self, source: BatchSource, step: int) -> None:
        """Last change to the averaged networks, in place, before they are exported; none by default."""
