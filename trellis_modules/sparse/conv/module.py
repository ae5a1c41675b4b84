"""Sparse convolution layer with the parameter layout of the released checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from trellis_modules.sparse.conv.functional import conv3d_of_copies, submanifold_conv3d
from trellis_modules.sparse.tensor import SparseTensor


class SubmanifoldConv3d(nn.Module):
    """Weight (C_out, k, k, k, C_in) and bias of a submanifold convolution."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, dilation: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        self.dilation = dilation
        self.weight = nn.Parameter(torch.empty(out_channels, *[kernel_size] * 3, in_channels))
        self.register_parameter("bias", nn.Parameter(torch.empty(out_channels)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform weights and biases in +-1/sqrt(fan in), as in dense convolutions."""
        bound = 1 / math.sqrt(self.weight[0].numel())
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """(B, C_in) -> (B, C_out), the same voxels."""
        return submanifold_conv3d(x, self.weight, self.bias, self.dilation)

    def of_copies(self, x: SparseTensor, step: Callable[[SparseTensor], SparseTensor]) -> SparseTensor:
        """``self(step(x))`` for a step that copies voxels, see `conv3d_of_copies`."""
        return conv3d_of_copies(x, step, self.weight, self.bias, self.dilation)


class SparseConv3d(nn.Module):
    """Submanifold convolution whose parameters are called ``conv.weight`` and ``conv.bias``."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, dilation: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        self.conv = SubmanifoldConv3d(in_channels, out_channels, kernel_size, dilation, bias)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """(B, C_in) -> (B, C_out), the same voxels."""
        return self.conv(x)

    def of_copies(self, x: SparseTensor, step: Callable[[SparseTensor], SparseTensor]) -> SparseTensor:
        """``self(step(x))`` for a step that copies voxels, see `conv3d_of_copies`."""
        return self.conv.of_copies(x, step)
