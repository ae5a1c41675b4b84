"""The z-buffer's inner loop as one Triton kernel: a program a triangle, atomic minima into the picture."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_PIXELS_AT_ONCE = 128


@triton.jit
def _keep_nearest(
    planes,
    first,
    extent,
    images,
    numbers,
    buffer,
    height,
    width,
    PERSPECTIVE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Draw one triangle: walk over the pixels of its box, keep depth bits and face where it is nearest."""
    triangle = tl.program_id(0).to(tl.int64)
    plane = planes + triangle * 9
    a_u, b_u, c_u = tl.load(plane), tl.load(plane + 1), tl.load(plane + 2)
    a_v, b_v, c_v = tl.load(plane + 3), tl.load(plane + 4), tl.load(plane + 5)
    a_d, b_d, c_d = tl.load(plane + 6), tl.load(plane + 7), tl.load(plane + 8)
    left, top = tl.load(first + triangle * 2), tl.load(first + triangle * 2 + 1)
    box_width, box_height = tl.load(extent + triangle * 2), tl.load(extent + triangle * 2 + 1)
    number = tl.load(numbers + triangle)
    picture = buffer + tl.load(images + triangle) * height * width
    count = box_width * box_height
    for start in range(0, count, BLOCK):
        local = start + tl.arange(0, BLOCK)
        column, row = left + local % box_width, top + local // box_width
        x, y = column.to(tl.float32) + 0.5, row.to(tl.float32) + 0.5
        u, v = a_u * x + b_u * y + c_u, a_v * x + b_v * y + c_v
        inside = (local < count) & (u >= 0) & (v >= 0) & (u + v <= 1)
        depth = a_d * x + b_d * y + c_d
        if PERSPECTIVE:
            depth = 1.0 / depth
        key = (depth.to(tl.int32, bitcast=True).to(tl.int64) << 32) | number
        tl.atomic_min(picture + row * width + column, key, mask=inside, sem="relaxed")


def draw(
    buffer: Tensor,
    planes: Tensor,
    first: Tensor,
    extent: Tensor,
    images: Tensor,
    numbers: Tensor,
    size: tuple[int, int],
    perspective: bool,
) -> None:
    """Keep the nearest triangle of every pixel.

    Args:
        buffer: (B * H * W,) int64 on a CUDA device, changed in place: high half the bits of the depth, low
            half the face.
        planes: (F, 3, 3) float32, two barycentric coordinates and the depth function, as a*x + b*y + c.
        first, extent: (F, 2) int64, first pixel and size of each box as (x, y).
        images, numbers: (F,) int64, picture and face number of each triangle.
        size: H, W.
        perspective: the depth function is 1 / depth.
    """
    if not len(planes):
        return
    with torch.cuda.device(buffer.device):
        _keep_nearest[(len(planes),)](
            planes.contiguous(),
            first.contiguous(),
            extent.contiguous(),
            images.contiguous(),
            numbers.contiguous(),
            buffer,
            *size,
            PERSPECTIVE=perspective,
            BLOCK=_PIXELS_AT_ONCE,
            num_warps=1,
        )
