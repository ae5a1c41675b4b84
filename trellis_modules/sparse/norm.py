"""Group norm over the voxels of a batch element.

Norms that act on each voxel by itself need no sparse version: ``x.apply(norm)``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trellis_modules.sparse.tensor import SparseTensor


class SparseGroupNorm32(nn.GroupNorm):
    """Group norm with statistics over the voxels of a batch element, in float32 whatever the input is."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        """(B, C) -> (B, C) in the dtype of x; empty batch elements stay empty."""
        groups = x.feats.float().unflatten(-1, (self.num_groups, -1))  # (T, G, C / G)
        mean = _element_mean(x, groups.mean(-1))
        centred = groups - x.expand_batch(mean)[..., None]
        variance = _element_mean(x, centred.square().mean(-1))
        feats = (centred * x.expand_batch((variance + self.eps).rsqrt())[..., None]).flatten(1)
        if self.affine:
            feats = feats * self.weight.float() + self.bias.float()
        return x.replace(feats.to(x.dtype))


def _element_mean(x: SparseTensor, values: Tensor) -> Tensor:
    """Mean of (T, G) values over the voxels of each batch element, (B, G); zero where there is none."""
    counts = torch.tensor(x.lengths, device=values.device).clamp_min(1)
    if values.device.type == "cuda":
        # Where the order of additions is fixed, index_add there adds the rows of an element one by one.
        sums = sums_of_elements(x, values)
    else:
        sums = values.new_zeros(x.batch_size, values.shape[1]).index_add(0, x.batch_index, values)
    return sums / counts[:, None]


def sums_of_elements(x: SparseTensor, values: Tensor) -> Tensor:
    """Sum of (T, G) values over the voxels of each batch element, (B, G), element by element."""
    return torch.stack([values[rows].sum(dim=0) for rows in x.layout])
