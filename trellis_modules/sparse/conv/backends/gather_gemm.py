"""Backend of one matrix product and one gather, whichever is cheaper first.

Few, large kernels: the choice for GPUs, though it runs on every device.  What is gathered has k^3 times the
channels of one side of the product, so the narrower side is taken: either the neighbourhoods of all voxels
are laid side by side and multiplied, or every voxel is multiplied by the whole kernel and the products are
fetched.  Chunks bound the memory.  The backward pass gathers again instead of keeping; nothing there is added
up by colliding writes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trellis_modules.sparse.conv.neighbours import neighbour_rows
from trellis_modules.sparse.tensor import SparseTensor

#: Elements of what is gathered at once (half a gigabyte in half precision).
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
        return _convolve(feats, kernel, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        feats, kernel, rows = ctx.saved_tensors
        of_feats = of_kernel = None
        if ctx.needs_input_grad[0]:
            # If q is the neighbour of p at an offset, p is the neighbour of q at the opposite one, which has
            # the mirrored number: the gradient is a convolution again.
            of_feats = _convolve(gradient, kernel.flip(1).permute(2, 1, 0), rows)
        if ctx.needs_input_grad[1]:
            of_kernel = torch.zeros(len(kernel), kernel[0].numel(), device=kernel.device)
            padded, chunk = _with_missing(feats), _at_once(of_kernel.shape[1])
            for part, rows_part in zip(gradient.split(chunk), rows.split(chunk)):
                of_kernel += part.mT @ _neighbourhoods(padded, rows_part)
            of_kernel = of_kernel.to(kernel.dtype).view_as(kernel)
        return of_feats, of_kernel, None


def _convolve(feats: Tensor, kernel: Tensor, rows: Tensor) -> Tensor:
    """(T, C) features, a (C_out, k^3, C) kernel and (T, k^3) rows -> (T, C_out)."""
    if len(kernel) < kernel.shape[2]:
        return _multiply_then_gather(feats, kernel, rows)
    return _gather_then_multiply(feats, kernel.flatten(1), rows)


def _gather_then_multiply(feats: Tensor, kernel: Tensor, rows: Tensor) -> Tensor:
    """As ``_convolve``, for a (C_out, k^3 C) kernel; chunks of voxels."""
    padded, chunk = _with_missing(feats), _at_once(kernel.shape[1])
    output = feats.new_empty(len(rows), len(kernel))
    for part, result in zip(rows.split(chunk), output.split(chunk)):
        torch.mm(_neighbourhoods(padded, part), kernel.mT, out=result)
    return output


def _multiply_then_gather(feats: Tensor, kernel: Tensor, rows: Tensor) -> Tensor:
    """As ``_convolve``; chunks of kernel offsets, whose products are added up in float32 or better."""
    padded, out_channels = _with_missing(feats), len(kernel)
    sum_dtype = torch.promote_types(feats.dtype, torch.float32)
    output = torch.zeros(len(rows), out_channels, dtype=sum_dtype, device=feats.device)
    chunk = _at_once(len(padded) * out_channels)
    for weights, neighbours in zip(kernel.split(chunk, dim=1), rows.split(chunk, dim=1)):
        offsets = weights.shape[1]
        products = padded @ weights.transpose(0, 1).flatten(0, 1).mT  # (T + 1, offsets * C_out)
        places = neighbours * offsets + torch.arange(offsets, device=rows.device)
        fetched = products.view(-1, out_channels).index_select(0, places.flatten())
        output += fetched.view(-1, offsets, out_channels).sum(1, dtype=sum_dtype)
    return output.to(feats.dtype)


def _at_once(elements: int) -> int:
    """How many items that gather so many elements each fit a chunk."""
    return max(1, _CHUNK_ELEMENTS // max(elements, 1))


def _with_missing(feats: Tensor) -> Tensor:
    """Features with a last row of zeros, which "no neighbour" points to."""
    return torch.cat([feats, feats.new_zeros(1, feats.shape[1])])


def _neighbourhoods(padded: Tensor, rows: Tensor) -> Tensor:
    """(T, k^3) rows -> (T, k^3 C) features."""
    return padded.index_select(0, rows.flatten()).view(len(rows), rows.shape[1] * padded.shape[1])
