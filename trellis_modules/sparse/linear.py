"""Linear layer on sparse tensors."""

from __future__ import annotations

from torch import nn

from trellis_modules.sparse.tensor import SparseTensor


class SparseLinear(nn.Linear):
    """A linear layer on the features of every voxel; the parameters are those of ``nn.Linear``."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        """(B, in_features) -> (B, out_features), the same voxels.

        Raises:
            ValueError: x has other features.
        """
        if x.ndim != 2 or x.shape[1] != self.in_features:
            raise ValueError(f"SparseLinear: expected (B, {self.in_features}) voxels, got {x!r}")
        return x.apply(super().forward)
