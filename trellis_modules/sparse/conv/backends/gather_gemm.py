"""Backend of one matrix product: the neighbourhoods of all voxels side by side, zeros where there is none.

Few, large kernels: the choice for GPUs.  Chunks bound the memory of the neighbourhoods, which are gathered
again in the backward pass instead of being kept; nothing there is added up by colliding writes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trellis_modules.sparse.conv.neighbours import neighbour_rows
from trellis_modules.sparse.tensor import SparseTensor

#: Elements of the gathered neighbourhoods of one product (half a gigabyte in half precision).
_CHUNK_ELEMENTS = 2**28


def run(x: SparseTensor, weight: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
    """(T, C_in) features of x -> (T, C_out)."""
    rows = neighbour_rows(x, weight.shape[1], dilation)  # (T, k^3)
    feats = x.feats
    if torch.is_autocast_enabled(feats.device.type):
        dtype = torch.get_autocast_dtype(feats.device.type)
        feats, weight = feats.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    output = _Product.apply(feats, weight.flatten(1, 3), rows)
    return output if bias is None else output + bias


class _Product(torch.autograd.Function):
    """Neighbourhoods times kernel: (T, C_in) features, (C_out, k^3, C_in), (T, k^3) rows -> (T, C_out)."""

    @staticmethod
    def forward(ctx, feats: Tensor, kernel: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(feats, kernel, rows)
        return _gathered_product(feats, kernel.flatten(1), rows)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        feats, kernel, rows = ctx.saved_tensors
        of_feats = of_kernel = None
        if ctx.needs_input_grad[0]:
            # If q is the neighbour of p at an offset, p is the neighbour of q at the opposite one, which has
            # the mirrored number: the gradient is a convolution again.
            of_feats = _gathered_product(gradient, kernel.flip(1).permute(2, 1, 0).flatten(1), rows)
        if ctx.needs_input_grad[1]:
            of_kernel = torch.zeros(len(kernel), kernel[0].numel(), device=kernel.device)
            padded = _with_missing(feats)
            for part, rows_part in zip(gradient.split(_chunk(of_kernel)), rows.split(_chunk(of_kernel))):
                of_kernel += part.mT @ _neighbourhoods(padded, rows_part)
            of_kernel = of_kernel.to(kernel.dtype).view_as(kernel)
        return of_feats, of_kernel, None


def _gathered_product(feats: Tensor, kernel: Tensor, rows: Tensor) -> Tensor:
    """(T, C) features and a (C_out, k^3 C) kernel -> (T, C_out)."""
    padded = _with_missing(feats)
    output = feats.new_empty(len(rows), len(kernel))
    for part, result in zip(rows.split(_chunk(kernel)), output.split(_chunk(kernel))):
        torch.mm(_neighbourhoods(padded, part), kernel.mT, out=result)
    return output


def _chunk(kernel: Tensor) -> int:
    """Voxels whose neighbourhoods are gathered at once."""
    return max(1, _CHUNK_ELEMENTS // kernel.shape[1])


def _with_missing(feats: Tensor) -> Tensor:
    """Features with a last row of zeros, which "no neighbour" points to."""
    return torch.cat([feats, feats.new_zeros(1, feats.shape[1])])


def _neighbourhoods(padded: Tensor, rows: Tensor) -> Tensor:
    """(T, k^3) rows -> (T, k^3 C) features."""
    return padded.index_select(0, rows.flatten()).view(len(rows), rows.shape[1] * padded.shape[1])
