"""Backend of one matrix product and one gather, whichever is cheaper first, on every device.

Few, large kernels.  What is gathered has k^3 times the channels of one side of the product, so the narrower
side is taken: either the neighbourhoods of all voxels are laid side by side and multiplied, or every voxel is
multiplied by the whole kernel and the products are fetched.  Voxels that copy others are multiplied once for
all copies.  Chunks bound the memory, and stay in the caches of a CPU.  The backward pass gathers again
instead of keeping; nothing there is added up by colliding writes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from trellis_modules.sparse.conv.neighbours import neighbour_rows
from trellis_modules.sparse.tensor import SparseTensor

#: Elements of neighbourhoods that are gathered at once: half a gigabyte in half precision on GPUs.
_CHUNK_ELEMENTS = {"cuda": 2**28, "cpu": 2**19}

#: Elements of products that are fetched from at once; a CPU adds up those of several offsets in one go.
_PRODUCT_ELEMENTS = {"cuda": 2**28, "cpu": 2**22}


def run(x: SparseTensor, weight: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
    """(T, C_in) features of x -> (T, C_out)."""
    rows = neighbour_rows(x, weight.shape[1], dilation)  # (T, k^3)
    feats, weight, bias = _as_autocast(x.feats, weight, bias)
    output = _Product.apply(feats, weight.flatten(1, 3), rows)
    return output if bias is None else output + bias


@torch.no_grad()
def run_copies(
    feats: Tensor, copied: SparseTensor, weight: Tensor, bias: Tensor | None, dilation: int
) -> Tensor:
    """As ``run`` of voxels that copy rows of (P, C_in) features; (T,) ``copied`` says which."""

    def rows_of_neighbours() -> Tensor:
        padded = torch.cat([copied.feats, copied.feats.new_tensor([len(feats)])])
        return padded[neighbour_rows(copied, weight.shape[1], dilation)]

    rows = copied.cached(("copied neighbours", weight.shape[1], dilation), rows_of_neighbours)
    feats, weight, bias = _as_autocast(feats, weight, bias)
    output = _multiply_then_gather(feats, weight.flatten(1, 3), rows)
    return output if bias is None else output + bias


def _as_autocast(*values: Tensor | None) -> list[Tensor | None]:
    """Features, weight and bias in the dtype of autocast, where that is on."""
    device_type = values[0].device.type
    if not torch.is_autocast_enabled(device_type):
        return list(values)
    dtype = torch.get_autocast_dtype(device_type)
    return [None if value is None else value.to(dtype) for value in values]


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
            padded, chunk = _with_missing(feats), _at_once(_CHUNK_ELEMENTS, feats, of_kernel.shape[1])
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
    padded, chunk = _with_missing(feats), _at_once(_CHUNK_ELEMENTS, feats, kernel.shape[1])
    output = feats.new_empty(len(rows), len(kernel))
    for part, result in zip(rows.split(chunk), output.split(chunk)):
        torch.mm(_neighbourhoods(padded, part), kernel.mT, out=result)
    return output


def _multiply_then_gather(feats: Tensor, kernel: Tensor, rows: Tensor) -> Tensor:
    """As ``_convolve``; chunks of kernel offsets, whose products are added up in float32 or better."""
    padded, out_channels = _with_missing(feats), len(kernel)
    sum_dtype = torch.promote_types(feats.dtype, torch.float32)
    output = torch.zeros(len(rows), out_channels, dtype=sum_dtype, device=feats.device)
    chunk = _at_once(_PRODUCT_ELEMENTS, feats, len(padded) * out_channels)
    for weights, neighbours in zip(kernel.split(chunk, dim=1), rows.split(chunk, dim=1)):
        offsets = weights.shape[1]
        products = padded @ weights.transpose(0, 1).flatten(0, 1).mT  # (T + 1, offsets * C_out)
        places = neighbours * offsets + torch.arange(offsets, device=rows.device)
        output += _sums(products.view(-1, out_channels), places, sum_dtype)
    return output.to(feats.dtype)


def _sums(products: Tensor, places: Tensor, dtype: torch.dtype) -> Tensor:
    """Sums (T, C) in a dtype of those of the products (N, C) that are at the places (T, K)."""
    if products.device.type == "cpu" and products.dtype == dtype:  # without writing them side by side first
        return F.embedding_bag(places, products, mode="sum")
    fetched = products.index_select(0, places.flatten())
    return fetched.view(*places.shape, products.shape[1]).sum(1, dtype=dtype)


def _at_once(limits: Mapping[str, int], feats: Tensor, elements: int) -> int:
    """How many items that need so many elements each fit a chunk on the device of the features."""
    return max(1, limits.get(feats.device.type, limits["cuda"]) // max(elements, 1))


def _with_missing(feats: Tensor) -> Tensor:
    """Features with a last row of zeros, which "no neighbour" points to."""
    return torch.cat([feats, feats.new_zeros(1, feats.shape[1])])


def _neighbourhoods(padded: Tensor, rows: Tensor) -> Tensor:
    """(T, k^3) rows -> (T, k^3 C) features."""
    return padded.index_select(0, rows.flatten()).view(len(rows), rows.shape[1] * padded.shape[1])
