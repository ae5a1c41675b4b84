"""Triton kernels that draw leaves of constant density and differentiate the pictures."""

from __future__ import annotations

import triton
import triton.language as tl

from trellis_modules.renderers.backends.triton_rays import (
    HALF_LIGHT,
    begin,
    crossing,
    list_bounds,
    load_gradient,
    opacity,
    store_pixel,
)

_SERIES = tl.constexpr(0.5)  # optical thickness below which a difference of large numbers becomes its series


@triton.jit
def _mean_way(thickness):
    """As in ``torch_octree``, and its derivative."""
    small = tl.minimum(thickness, _SERIES)
    square = small * small
    series = 0.5 - small * (1 / 12 - square * (1 / 720 - square * (1 / 30240 - square / 1209600)))
    series_slope = -1 / 12 + square * (1 / 240 - square * (1 / 6048 - square / 172800))
    large = tl.maximum(thickness, _SERIES)
    through = tl.exp(-large)
    hidden = 1.0 - through
    way = 1.0 / large - through / hidden
    slope = through / (hidden * hidden) - 1.0 / large / large
    thin = thickness < _SERIES
    return tl.where(thin, series, way), tl.where(thin, series_slope, slope)


@triton.jit
def draw_voxels(
    items, starts, counts, tiles, cameras, boxes, table, pictures,
    view_stride, height, width, near, far, max_alpha, least_light,
    PIXELS: tl.constexpr,
):  # fmt: skip
    """Colour, depth and alpha of leaves of constant density; a row of the table is density and colour."""
    view, pixel, inside, camera, ray_x, ray_y, ray_z, norm = begin(tiles, cameras, height, width, PIXELS)
    place, end = list_bounds(starts, counts, PIXELS)
    light = tl.where(inside, 1.0, 0.0)
    red, green, blue = tl.zeros_like(light), tl.zeros_like(light), tl.zeros_like(light)
    depth, alpha, half_depth = tl.zeros_like(light), tl.zeros_like(light), tl.zeros_like(light)
    while (place < end) & (tl.max(light, 0) >= least_light):
        leaf = tl.load(items + place)
        enter, leave = crossing(boxes + leaf * 6, camera, ray_x, ray_y, ray_z, near, far)
        row = table + view * view_stride + leaf * 4
        length = tl.where(light >= least_light, tl.maximum(leave - enter, 0.0), 0.0)
        thickness = tl.load(row) * length * norm
        hidden = opacity(thickness, max_alpha)
        way, _ = _mean_way(thickness)
        z = enter + length * way
        weight = light * hidden
        red += weight * tl.load(row + 1)
        green += weight * tl.load(row + 2)
        blue += weight * tl.load(row + 3)
        depth += tl.where(weight > 0, weight * z, 0.0)
        alpha += weight
        after = light * (1.0 - hidden)
        half_depth += tl.where((light >= HALF_LIGHT) & (after < HALF_LIGHT) & inside, z, 0.0)
        light = after
        place += 1
    store_pixel(pictures, pixel, inside, red, green, blue, depth, alpha, half_depth)


@triton.jit
def differentiate_voxels(
    items, starts, counts, tiles, cameras, boxes, table, pictures, gradients, table_gradient,
    view_stride, height, width, near, far, max_alpha, least_light,
    PIXELS: tl.constexpr,
):  # fmt: skip
    """Add the gradient by the table of ``draw_voxels``."""
    view, pixel, inside, camera, ray_x, ray_y, ray_z, norm = begin(tiles, cameras, height, width, PIXELS)
    place, end = list_bounds(starts, counts, PIXELS)
    by_red, by_green, by_blue, by_depth, by_alpha, behind = load_gradient(pictures, gradients, pixel, inside)
    light = tl.where(inside, 1.0, 0.0)
    while (place < end) & (tl.max(light, 0) >= least_light):
        leaf = tl.load(items + place)
        enter, leave = crossing(boxes + leaf * 6, camera, ray_x, ray_y, ray_z, near, far)
        offset = view * view_stride + leaf * 4
        row = table + offset
        hit = (leave > enter) & (light >= least_light)
        if tl.max(hit.to(tl.int32), 0) > 0:
            length = tl.where(hit, leave - enter, 0.0)
            thickness = tl.load(row) * length * norm
            hidden = opacity(thickness, max_alpha)
            way, way_slope = _mean_way(thickness)
            z = tl.where(hit, enter + length * way, 0.0)
            weight = light * hidden
            value = by_red * tl.load(row + 1) + by_green * tl.load(row + 2) + by_blue * tl.load(row + 3)
            value += by_depth * z + by_alpha
            after = light * (1.0 - hidden)
            behind -= weight * value
            by_thickness = after * value - behind + weight * by_depth * length * way_slope
            target = table_gradient + offset
            tl.atomic_add(target, tl.sum(tl.where(hit, by_thickness * length * norm, 0.0), 0), sem="relaxed")
            tl.atomic_add(target + 1, tl.sum(weight * by_red, 0), sem="relaxed")
            tl.atomic_add(target + 2, tl.sum(weight * by_green, 0), sem="relaxed")
            tl.atomic_add(target + 3, tl.sum(weight * by_blue, 0), sem="relaxed")
            light = after
        place += 1
