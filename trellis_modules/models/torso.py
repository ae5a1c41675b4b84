"""Mixed precision by module: a low-precision torso between float32 input and output layers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from trellis_modules.sparse.conv import SubmanifoldConv3d

#: Layer kinds whose parameters take the torso dtype; norms, gammas and tokens stay float32.
_TORSO_LAYERS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    SubmanifoldConv3d,
)


def recompute(block: nn.Module, *inputs: Any) -> Any:
    """The output of a block whose activations are not kept, but computed again in the backward pass."""
    return checkpoint(block, *inputs, use_reentrant=False)


class TorsoModule(nn.Module, ABC):
    """A network whose torso can run in another dtype than its input and output layers."""

    #: Dtype of the torso's linear and convolution layers, and of the activations between them.
    torso_dtype: torch.dtype = torch.float32

    #: Blocks, from the first, whose activations are computed again in the backward pass, whatever the
    #: configuration says of all.
    recomputed_blocks: int = 0

    _recompute: Callable[..., Any] = staticmethod(recompute)

    def run_block(self, index: int, block: nn.Module, *inputs: Any) -> Any:
        """The output of a transformer block, whose activations may be computed again in the backward pass."""
        if self.training and (self.config.use_checkpoint or index < self.recomputed_blocks):
            return self._recompute(block, *inputs)
        return block(*inputs)

    def compile_recomputation(self) -> None:
        """Make recomputed blocks compiled graphs, each with its own recomputation, from now on.

        A compiled block that is called once more from outside, in the backward pass (on a GPU another
        thread), may be another graph there than before, which has saved other tensors.
        """
        self._recompute = torch.compile(recompute)

    @abstractmethod
    def torso(self) -> Iterator[nn.Module]:
        """The submodules that make up the torso."""

    def convert_torso(self, dtype: torch.dtype) -> None:
        """Run the torso in a dtype from now on."""
        for part in self.torso():
            for layer in part.modules():
                if isinstance(layer, _TORSO_LAYERS):
                    layer.to(dtype)
        self.torso_dtype = dtype


def full_precision(device: torch.device) -> AbstractContextManager:
    """Suspend autocast: input, output and time layers keep float32 inside a half-precision training step."""
    if device.type == "meta":  # has no autocast
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
