"""Linear layer on sparse tensors."""

from __future__ import annotations

from torch import nn

from trellis_modules.sparse.tensor import SparseTensor


class SparseLinear(nn.Linear):
    """A linear layer on the features of every voxel; the parameters are those of ``nn.Linear``."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        """(B, C) -> (B, out_features), the same voxels."""
        return x.apply(super().forward)
