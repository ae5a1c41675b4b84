"""Backend for Hopper GPUs in Gluon, Triton's lower level (CUDA, half precision, heads of 64 channels).

One warp has blocks of keys and values copied to shared memory; three warpgroups of 64 queries each multiply,
and take the softmax of one block's scores while the matrix units work on another. Anything else is left to
SDPA, and segments to the kernel of PyTorch.

Source: FlashAttention-3, arXiv:2407.08608.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from trellis_modules.attention.backends import torch_sdpa
from trellis_modules.attention.backends.torch_varlen import run_segments

__all__ = ["run", "run_segments"]

_HOPPER = (9, 0)
_WIDTH = 64  # channels of a head
_ROWS = 64  # queries of a warpgroup
_KEYS = 128  # of a block
_STAGES = 2  # blocks in shared memory
_CONSUMERS = 3  # warpgroups that multiply; the kernel names each of them
_REGISTERS, _LOADING_REGISTERS = 160, 24  # of a thread that multiplies, and of one that loads
_LOG2_E = 1.4426950408889634
_LAYOUT = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)


@gluon.jit
def _load(
    q_rows, k_rows, v_rows, q, k, v, q_ready, k_ready, v_ready, k_free, v_free,
    first_query, first_key, column, blocks,
    ROWS: gl.constexpr, KEYS: gl.constexpr, WIDTH: gl.constexpr, STAGES: gl.constexpr,
    CONSUMERS: gl.constexpr,
):  # fmt: skip
    """Copy the queries once, and blocks of keys and values whenever their place is free."""
    mbarrier.expect(q_ready, CONSUMERS * ROWS * WIDTH * 2)
    for consumer in gl.static_range(CONSUMERS):
        tma.async_copy_global_to_shared(
            q_rows, [first_query + consumer * ROWS, column], q_ready, q.index(consumer)
        )
    for number in range(blocks):
        stage = number % STAGES
        free = ((number // STAGES) & 1) ^ 1
        # The last block comes first: only it can be a part.
        row = first_key + gl.where(number == 0, blocks - 1, number - 1) * KEYS
        mbarrier.wait(k_free.index(stage), free)
        mbarrier.expect(k_ready.index(stage), KEYS * WIDTH * 2)
        tma.async_copy_global_to_shared(k_rows, [row, column], k_ready.index(stage), k.index(stage))
        mbarrier.wait(v_free.index(stage), free)
        mbarrier.expect(v_ready.index(stage), KEYS * WIDTH * 2)
        tma.async_copy_global_to_shared(v_rows, [row, column], v_ready.index(stage), v.index(stage))


@gluon.jit
def _softmax(scores, top, total, factor):
    """Powers of scores relative to their largest so far, that, what earlier sums shrink by, and the sum."""
    highest = gl.maximum(top, gl.max(scores, 1) * factor)
    powers = gl.exp2(scores * factor - highest[:, None])
    shrink = gl.exp2(top - highest)
    return powers, highest, shrink, total * shrink + gl.sum(powers, 1)


@gluon.jit
def _multiply(
    output, q, k, v, q_ready, k_ready, v_ready, k_free, v_free,
    queries, keys, blocks, first_query, base, factor, row_stride, CONSUMER: gl.constexpr,
    ROWS: gl.constexpr, KEYS: gl.constexpr, WIDTH: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """The attention of the queries of one warpgroup."""
    SCORES: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, KEYS, 16])
    SUMS: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, WIDTH, 16])
    LEFT: gl.constexpr = gl.DotOperandLayout(operand_index=0, parent=SUMS, k_width=2)
    own = q.index(CONSUMER)
    zero = gl.zeros([ROWS, KEYS], gl.float32, SCORES)
    sums = gl.zeros([ROWS, WIDTH], gl.float32, SUMS)
    top = gl.full([ROWS], float("-inf"), gl.float32, gl.SliceLayout(1, SCORES))
    total = gl.full([ROWS], 0.0, gl.float32, gl.SliceLayout(1, SCORES))
    mbarrier.wait(q_ready, 0)
    mbarrier.wait(k_ready.index(0), 0)
    scores = warpgroup_mma(own, k.index(0).permute((1, 0)), zero, use_acc=False, is_async=True)
    scores = warpgroup_mma_wait(0, deps=[scores])
    mbarrier.arrive(k_free.index(0), count=1)
    key = (blocks - 1) * KEYS + gl.arange(0, KEYS, layout=gl.SliceLayout(0, SCORES))
    scores = gl.where((key < keys)[None, :], scores, float("-inf"))
    powers, top, shrink, total = _softmax(scores, top, total, factor)
    left = gl.convert_layout(powers.to(output.dtype.element_ty), LEFT)
    for number in range(1, blocks):
        stage, before = number % STAGES, (number - 1) % STAGES
        mbarrier.wait(k_ready.index(stage), (number // STAGES) & 1)
        coming = warpgroup_mma(own, k.index(stage).permute((1, 0)), zero, use_acc=False, is_async=True)
        mbarrier.wait(v_ready.index(before), ((number - 1) // STAGES) & 1)
        adding = warpgroup_mma(left, v.index(before), sums, is_async=True)
        scores = warpgroup_mma_wait(1, deps=[coming])
        mbarrier.arrive(k_free.index(stage), count=1)
        powers, top, shrink, total = _softmax(scores, top, total, factor)
        sums = warpgroup_mma_wait(0, deps=[adding])
        mbarrier.arrive(v_free.index(before), count=1)
        sums = sums * gl.convert_layout(shrink, gl.SliceLayout(1, SUMS))[:, None]
        left = gl.convert_layout(powers.to(output.dtype.element_ty), LEFT)
    last = (blocks - 1) % STAGES
    mbarrier.wait(v_ready.index(last), ((blocks - 1) // STAGES) & 1)
    adding = warpgroup_mma(left, v.index(last), sums, is_async=True)
    sums = warpgroup_mma_wait(0, deps=[adding])
    sums = sums / gl.convert_layout(total, gl.SliceLayout(1, SUMS))[:, None]
    row = first_query + CONSUMER * ROWS + gl.arange(0, ROWS, layout=gl.SliceLayout(1, SUMS))
    place = row[:, None] * row_stride + gl.arange(0, WIDTH, layout=gl.SliceLayout(0, SUMS))[None, :]
    gl.store(output + base + place, sums.to(output.dtype.element_ty), mask=(row < queries)[:, None])


@gluon.jit
def _attention(
    q_rows, k_rows, v_rows, output, heads, queries, keys, blocks, factor, row_stride,
    ROWS: gl.constexpr, KEYS: gl.constexpr, WIDTH: gl.constexpr, STAGES: gl.constexpr,
    CONSUMERS: gl.constexpr, REGISTERS: gl.constexpr, LOADING_REGISTERS: gl.constexpr,
):  # fmt: skip
    gl.static_assert(CONSUMERS == 3)
    dtype: gl.constexpr = output.dtype.element_ty
    first = gl.program_id(0) * (ROWS * CONSUMERS)
    batch, head = gl.program_id(1) // heads, gl.program_id(1) % heads
    q = gl.allocate_shared_memory(dtype, [CONSUMERS, ROWS, WIDTH], q_rows.layout)
    k = gl.allocate_shared_memory(dtype, [STAGES, KEYS, WIDTH], k_rows.layout)
    v = gl.allocate_shared_memory(dtype, [STAGES, KEYS, WIDTH], v_rows.layout)
    q_ready = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    k_ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    v_ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    k_free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    v_free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    mbarrier.init(q_ready, count=1)
    for stage in gl.static_range(STAGES):
        mbarrier.init(k_ready.index(stage), count=1)
        mbarrier.init(v_ready.index(stage), count=1)
        mbarrier.init(k_free.index(stage), count=CONSUMERS)
        mbarrier.init(v_free.index(stage), count=CONSUMERS)
    fence_async_shared()
    column = head * WIDTH
    base = batch.to(gl.int64) * queries * row_stride + column
    gl.warp_specialize(
        [
            (_multiply, (
                output, q, k, v, q_ready, k_ready, v_ready, k_free, v_free,
                queries, keys, blocks, first, base, factor, row_stride, 0, ROWS, KEYS, WIDTH, STAGES,
            )),
            (_multiply, (
                output, q, k, v, q_ready, k_ready, v_ready, k_free, v_free,
                queries, keys, blocks, first, base, factor, row_stride, 1, ROWS, KEYS, WIDTH, STAGES,
            )),
            (_multiply, (
                output, q, k, v, q_ready, k_ready, v_ready, k_free, v_free,
                queries, keys, blocks, first, base, factor, row_stride, 2, ROWS, KEYS, WIDTH, STAGES,
            )),
            (_load, (
                q_rows, k_rows, v_rows, q, k, v, q_ready, k_ready, v_ready, k_free, v_free,
                batch * queries + first, batch * keys, column, blocks,
                ROWS, KEYS, WIDTH, STAGES, CONSUMERS,
            )),
        ],
        [4, 4, 1],
        [REGISTERS, REGISTERS, LOADING_REGISTERS],
    )  # fmt: skip


def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(B, L, H, d) queries against (B, M, H, d) keys and values."""
    if not fits(q, k, v):
        return torch_sdpa.run(q, k, v)
    batch, queries, heads, width = q.shape
    output = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    keys = k.shape[1]
    grid = (triton.cdiv(queries, _ROWS * _CONSUMERS), batch * heads)
    with torch.cuda.device_of(q):
        _attention[grid](
            _rows(q, _ROWS), _rows(k, _KEYS), _rows(v, _KEYS), output,
            heads, queries, keys, triton.cdiv(keys, _KEYS), width**-0.5 * _LOG2_E, heads * width,
            ROWS=_ROWS, KEYS=_KEYS, WIDTH=width, STAGES=_STAGES, CONSUMERS=_CONSUMERS, REGISTERS=_REGISTERS,
            LOADING_REGISTERS=_LOADING_REGISTERS, num_warps=4,
        )  # fmt: skip
    return output


def fits(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether the kernel takes these tensors: it has no gradients, and reads tokens of equal distances."""
    needs_gradient = torch.is_grad_enabled() and any(part.requires_grad for part in (q, k, v))
    return (
        q.shape[-1] == _WIDTH
        and q.numel() > 0
        and k.shape[1] > 0
        and not needs_gradient
        and torch.cuda.get_device_capability(q.device) == _HOPPER
        and all(_is_regular(part) for part in (q, k, v))
    )


def _is_regular(x: Tensor) -> bool:
    batch, length, _, width = x.shape
    return (
        x.stride()[2:] == (width, 1)
        and (batch == 1 or x.stride(0) == length * x.stride(1))
        and x.data_ptr() % 16 == 0
        and x.stride(1) % 8 == 0
    )


def _rows(x: Tensor, block: int) -> TensorDescriptor:
    """(B, L, H, d) as the rows (B L, H d) that the copy engine reads, ``block`` at a time, of one head."""
    batch, length, heads, width = x.shape
    flat = x.as_strided((batch * length, heads * width), (x.stride(1), 1))
    return TensorDescriptor(flat, list(flat.shape), list(flat.stride()), [block, width], _LAYOUT)
