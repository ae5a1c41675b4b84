"""Backend of the norms in Triton: every number is read once and written once."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from trellis_modules.norms.backends import torch_norms
from trellis_modules.norms.backends.torch_norms import MIN_LENGTH

_MAX_CHANNELS = 8192  # of a row that one program holds
_ROW_ELEMENTS = 4096  # of the rows that one program norms
_HEAD_ELEMENTS = 4096
_WARPS = 4


@triton.jit
def _layer_norm(
    x, weight, bias, shift, scale, output,
    rows, length, channels, eps, batch_stride, row_stride, modulation_stride,
    AFFINE: tl.constexpr, MODULATED: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, CHANNELS)
    batch = row // length
    inside = (row < rows)[:, None] & (column < channels)[None, :]
    place = (batch * batch_stride + (row % length) * row_stride)[:, None] + column[None, :]
    values = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    centred = tl.where(inside, values - (tl.sum(values, 1) / channels)[:, None], 0.0)
    variance = tl.sum(centred * centred, 1) / channels
    normed = centred * (1.0 / tl.sqrt(variance + eps))[:, None]
    if AFFINE:
        known = column < channels
        factor = tl.load(weight + column, mask=known, other=0.0).to(tl.float32)
        summand = tl.load(bias + column, mask=known, other=0.0).to(tl.float32)
        normed = normed * factor[None, :] + summand[None, :]
    if MODULATED:
        place = (batch * modulation_stride)[:, None] + column[None, :]
        factor = tl.load(scale + place, mask=inside, other=0.0).to(tl.float32)
        summand = tl.load(shift + place, mask=inside, other=0.0).to(tl.float32)
        normed = normed * (1.0 + factor) + summand
    place = row[:, None] * channels + column[None, :]
    tl.store(output + place, normed.to(output.dtype.element_ty), mask=inside)


@triton.jit
def _head_rms_norm(
    x, gamma, output,
    rows, heads, width, token_stride, head_stride, root, min_length,
    ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    head = row % heads
    inside = (row < rows)[:, None] & (column < width)[None, :]
    place = ((row // heads) * token_stride + head * head_stride)[:, None] + column[None, :]
    values = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    size = tl.maximum(tl.sqrt(tl.sum(values * values, 1)), min_length)
    factor = tl.load(gamma + head[:, None] * width + column[None, :], mask=inside, other=0.0).to(tl.float32)
    normed = values / size[:, None] * (factor * root)
    place = row[:, None] * width + column[None, :]
    tl.store(output + place, normed.to(output.dtype.element_ty), mask=inside)


def layer_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    shift: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    """See ``trellis_modules.norms.layer_norm``; what the kernel does not take is left to PyTorch."""
    channels = x.shape[-1]
    rows = x if x.ndim == 3 else x.unsqueeze(1)  # every row of (T, C) is a batch element of its own
    modulation = None if shift is None else _modulation(shift, scale, rows)
    if channels > _MAX_CHANNELS or x.ndim not in (2, 3) or x.stride(-1) != 1 or modulation is False:
        return torch_norms.layer_norm(x, weight, bias, eps, shift, scale)
    output = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    count = rows.shape[0] * rows.shape[1]
    if not count:
        return output
    block = triton.next_power_of_2(channels)
    at_once = max(1, _ROW_ELEMENTS // block)
    shift, scale, stride = modulation or (x, x, 0)
    with torch.cuda.device_of(x):
        _layer_norm[(triton.cdiv(count, at_once),)](
            x, x if weight is None else weight, x if bias is None else bias, shift, scale, output,
            count, rows.shape[1], channels, eps, rows.stride(0), rows.stride(1), stride,
            AFFINE=weight is not None, MODULATED=modulation is not None, ROWS=at_once, CHANNELS=block,
            num_warps=_WARPS,
        )  # fmt: skip
    return output


def _modulation(shift: Tensor, scale: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, int] | bool:
    """Shift and scale of (B, L, C) rows and the step between batch elements; False where they do not fit."""
    batch, _, channels = rows.shape
    shift, scale = (part if part.ndim == 3 else part.unsqueeze(1) for part in (shift, scale))
    fits = all(
        part.shape in ((batch, 1, channels), (1, 1, channels)) and part.stride(-1) == 1
        for part in (shift, scale)
    )
    if not fits or shift.shape != scale.shape or shift.stride(0) != scale.stride(0):
        return False
    return shift, scale, 0 if len(shift) == 1 else shift.stride(0)


def head_rms_norm(x: Tensor, gamma: Tensor) -> Tensor:
    """See ``trellis_modules.norms.head_rms_norm``; what the kernel does not take is left to PyTorch."""
    heads, width = x.shape[-2:]
    stride = _token_stride(x)
    if stride is None or x.stride(-1) != 1 or not gamma.is_contiguous():
        return torch_norms.head_rms_norm(x, gamma)
    output = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    count = x.numel() // width
    if not count:
        return output
    block = triton.next_power_of_2(width)
    at_once = max(1, _HEAD_ELEMENTS // block)
    with torch.cuda.device_of(x):
        _head_rms_norm[(triton.cdiv(count, at_once),)](
            x, gamma, output,
            count, heads, width, stride, x.stride(-2), width**0.5, MIN_LENGTH,
            ROWS=at_once, WIDTH=block, num_warps=_WARPS,
        )  # fmt: skip
    return output


def _token_stride(x: Tensor) -> int | None:
    """The step between tokens of (..., H, d), None where it is not the same between all neighbours."""
    sizes, strides = x.shape[:-2], x.stride()[:-2]
    expected = None
    for size, stride in zip(reversed(sizes), reversed(strides)):
        if size == 1:
            continue
        if expected is None:
            step = expected = stride
        elif stride != expected:
            return None
        expected = expected * size
    return 0 if expected is None else step
