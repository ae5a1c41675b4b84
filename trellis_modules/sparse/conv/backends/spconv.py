"""Backend on spconv (CUDA)."""

from __future__ import annotations

from functools import lru_cache

import spconv.pytorch as spconv
import torch
from torch import Tensor
from torch.func import functional_call

from trellis_modules.sparse.conv.neighbours import check_distinct
from trellis_modules.sparse.tensor import SparseTensor


def run(x: SparseTensor, weight: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
    """(T, C_in) features of x -> (T, C_out)."""
    kernel_size = weight.shape[1]
    if not len(x.coords):  # spconv refuses to index no voxel
        return x.feats.new_zeros(0, weight.shape[0])
    check_distinct(x)
    edges = x.cached("edges", lambda: (x.coords[:, 1:].amax(0) + 1).tolist())
    pairs = x.cached("spconv index pairs", dict)
    source = spconv.SparseConvTensor(
        x.feats.contiguous(), x.coords.contiguous(), edges, x.batch_size, indice_dict=pairs
    )
    layer = _layer(weight.shape[4], weight.shape[0], kernel_size, dilation, bias is not None)
    parameters = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    result = functional_call(layer, parameters, (source,))
    pairs.update(result.indice_dict)  # the layer adds to a copy
    return result.features


def run_copies(
    feats: Tensor, copied: SparseTensor, weight: Tensor, bias: Tensor | None, dilation: int
) -> Tensor:
    """As ``run`` of voxels that copy rows of (P, C_in) features; (T,) ``copied`` says which."""
    return run(copied.replace(feats[copied.feats]), weight, bias, dilation)


@lru_cache
def _layer(
    in_channels: int, out_channels: int, kernel_size: int, dilation: int, bias: bool
) -> spconv.SubMConv3d:
    """A layer without weights; ``functional_call`` puts ours in their place."""
    with torch.device("meta"):
        return spconv.SubMConv3d(
            in_channels,
            out_channels,
            kernel_size,
            dilation=dilation,
            bias=bias,
            indice_key=f"kernel {kernel_size}, dilation {dilation}",
        )
