"""What the Triton kernels of octrees share: pixels, rays, crossings and pixel values.

A program follows the rays of some pixels of a tile through the tile's leaves, front to back, and keeps what
it adds up in registers. The backward kernels follow the rays in the same direction: with the forward pictures
they know what all samples behind the present one add up to. Samples lie, and count, as in ``torch_octree``.
"""

from __future__ import annotations

import triton
import triton.language as tl

EDGE = 8  # pixels per edge of a tile
#: Numbers of a camera: rotation by rows, eye, focal lengths, principal point, eye in the finest grid's cells.
CAMERA = 19
CHANNELS = 6  # colour and depth, times alpha, alpha, and the depth where half of the light is gone

_EDGE = tl.constexpr(EDGE)
_CHANNELS = tl.constexpr(CHANNELS)
_CAMERA = tl.constexpr(CAMERA)
_SMALLEST_SLOPE = tl.constexpr(1e-9)
_THIN = tl.constexpr(0.01)
HALF_LIGHT = tl.constexpr(0.5)


@triton.jit
def begin(tiles, cameras, height, width, PIXELS: tl.constexpr):
    """The pixels of this program, and the rays through them.

    The tiles of the lists are cut into blocks of PIXELS. Returned are the view; of the pixels the number in
    the pictures and whether they are inside; the view's camera; the world rays of camera depth 1 through
    their centres, by axis; and the lengths of the rays.
    """
    blocks: tl.constexpr = _EDGE * _EDGE // PIXELS
    tile = tl.load(tiles + tl.program_id(0) // blocks)
    columns, rows = tl.cdiv(width, _EDGE), tl.cdiv(height, _EDGE)
    local = tl.program_id(0) % blocks * PIXELS + tl.arange(0, PIXELS)
    x, y = tile % columns * _EDGE + local % _EDGE, tile // columns % rows * _EDGE + local // _EDGE
    view = tile // (columns * rows)
    camera = cameras + view * _CAMERA
    right = ((x.to(tl.float32) + 0.5) / width - tl.load(camera + 14)) / tl.load(camera + 12)
    down = ((y.to(tl.float32) + 0.5) / height - tl.load(camera + 15)) / tl.load(camera + 13)
    ray_x = right * tl.load(camera) + down * tl.load(camera + 3) + tl.load(camera + 6)
    ray_y = right * tl.load(camera + 1) + down * tl.load(camera + 4) + tl.load(camera + 7)
    ray_z = right * tl.load(camera + 2) + down * tl.load(camera + 5) + tl.load(camera + 8)
    norm = tl.sqrt(ray_x * ray_x + ray_y * ray_y + ray_z * ray_z)
    pixel, inside = (view * height + y) * width + x, (x < width) & (y < height)
    return view, pixel, inside, camera, ray_x, ray_y, ray_z, norm


@triton.jit
def list_bounds(starts, counts, PIXELS: tl.constexpr):
    """Where the leaves of this program begin and end."""
    blocks: tl.constexpr = _EDGE * _EDGE // PIXELS
    start = tl.load(starts + tl.program_id(0) // blocks)
    return start, start + tl.load(counts + tl.program_id(0) // blocks)


@triton.jit
def _clip(low, size, ray, enter, leave):
    """Cut camera depths down to those between two planes of a box."""
    slope = 1.0 / tl.where(tl.abs(ray) < _SMALLEST_SLOPE, _SMALLEST_SLOPE, ray)
    one, other = low * slope, (low + size) * slope
    return tl.maximum(enter, tl.minimum(one, other)), tl.minimum(leave, tl.maximum(one, other))


@triton.jit
def crossing(box, camera, ray_x, ray_y, ray_z, near, far):
    """Camera depths where rays enter and leave a leaf; no hit unless enter < leave."""
    enter, leave = tl.full(ray_x.shape, near, tl.float32), tl.full(ray_x.shape, far, tl.float32)
    enter, leave = _clip(tl.load(box) - tl.load(camera + 9), tl.load(box + 3), ray_x, enter, leave)
    enter, leave = _clip(tl.load(box + 1) - tl.load(camera + 10), tl.load(box + 4), ray_y, enter, leave)
    return _clip(tl.load(box + 2) - tl.load(camera + 11), tl.load(box + 5), ray_z, enter, leave)


@triton.jit
def opacity(thickness, max_alpha):
    """What a sample hides; a difference of almost equal numbers is replaced by its series."""
    thin = tl.minimum(thickness, _THIN)
    series = thin * (1.0 - 0.5 * thin * (1.0 - thin / 3.0))
    return tl.where(thickness < _THIN, series, tl.minimum(1.0 - tl.exp(-thickness), max_alpha))


@triton.jit
def store_pixel(pictures, pixel, inside, red, green, blue, depth, alpha, half_depth):
    place = pictures + pixel * _CHANNELS
    tl.store(place, red, mask=inside)
    tl.store(place + 1, green, mask=inside)
    tl.store(place + 2, blue, mask=inside)
    tl.store(place + 3, depth, mask=inside)
    tl.store(place + 4, alpha, mask=inside)
    tl.store(place + 5, half_depth, mask=inside)


@triton.jit
def load_gradient(pictures, gradients, pixel, inside):
    """Gradient by colour, depth and alpha, and its product with the picture: what all samples add up to."""
    place, value = gradients + pixel * _CHANNELS, pictures + pixel * _CHANNELS
    red, green, blue = (
        tl.load(place, mask=inside, other=0.0),
        tl.load(place + 1, mask=inside, other=0.0),
        tl.load(place + 2, mask=inside, other=0.0),
    )
    depth, alpha = tl.load(place + 3, mask=inside, other=0.0), tl.load(place + 4, mask=inside, other=0.0)
    behind = red * tl.load(value, mask=inside, other=0.0)
    behind += green * tl.load(value + 1, mask=inside, other=0.0)
    behind += blue * tl.load(value + 2, mask=inside, other=0.0)
    behind += depth * tl.load(value + 3, mask=inside, other=0.0)
    behind += alpha * tl.load(value + 4, mask=inside, other=0.0)
    return red, green, blue, depth, alpha, behind
