"""Backend of one matrix product: the neighbourhoods of all voxels side by side, zeros where there is none.

Few, large kernels: the choice for GPUs.  Chunks bound the memory of the neighbourhoods.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trellis_modules.sparse.conv.neighbours import neighbour_rows
from trellis_modules.sparse.tensor import SparseTensor

#: Elements of the gathered neighbourhoods of one product (half a gigabyte in half precision).
_CHUNK_ELEMENTS = 2**28


def run(x: SparseTensor, weight: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
    """(T, C_in) features of x -> (T, C_out)."""
    rows = neighbour_rows(x, weight.shape[1], dilation)  # (T, k^3)
    padded = torch.cat([x.feats, x.feats.new_zeros(1, x.feats.shape[1])])  # the last row is "no neighbour"
    kernel = weight.flatten(1)  # (C_out, k^3 C_in)
    chunk = max(1, _CHUNK_ELEMENTS // kernel.shape[1])
    outputs = [
        torch.nn.functional.linear(
            padded.index_select(0, part.flatten()).reshape(len(part), kernel.shape[1]), kernel, bias
        )
        for part in rows.split(chunk)
    ]
    return torch.cat(outputs)
