"""Triton kernels that draw leaves of local tensors and differentiate the pictures.

Vectors are stored as (N, 3, D, R), so that the components of one place lie side by side. The ``mix`` of a
leaf has four rows of R numbers: what the components count in the density and in the three colours, or, PLAIN,
in the last three rows numbers that add up to the final colours. Blocks are (PIXELS, RANKS), RANKS the next
power of two from R. No value of a sample is written to memory.
"""

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

_TINY = tl.constexpr(1e-3)  # the logarithm of 1 + less loses digits


@triton.jit
def _samples(enter, leave, norm, box, offset, count, comb, COMB: tl.constexpr):
    """Samples of a crossing lie at depths origin + (lead + j) * step for j < number."""
    if COMB:
        step = tl.load(box + 3) / comb / norm
        lead = tl.ceil(enter / step - offset)
        number = (tl.floor(leave / step - offset) - lead).to(tl.int32) + 1
        lead += offset
        origin = tl.zeros_like(enter)
    else:
        step = (leave - enter) / count
        lead = tl.full(enter.shape, 0.5, tl.float32)
        number = tl.full(enter.shape, count, tl.int32)
        origin = enter
    return origin, lead, step, number


@triton.jit
def _place(z, ray, box, axis: tl.constexpr, camera, DIM: tl.constexpr):
    """Index of the value before a depth on an axis of a leaf, and how far the depth is from it, in values."""
    low = tl.load(box + axis) - tl.load(camera + 9 + axis)
    along = (z * ray - low) / tl.load(box + 3 + axis)
    along = tl.minimum(tl.maximum(along, 0.0), 1.0) * DIM - 0.5
    index = tl.minimum(tl.maximum(along.to(tl.int32), 0), DIM - 2)
    return index, along - index.to(tl.float32)


@triton.jit
def _value(vectors, index, share, axis: tl.constexpr, rank, taken, RANK: tl.constexpr, DIM: tl.constexpr):
    """Values (PIXELS, RANKS) of the components on an axis."""
    place = (axis * DIM + index[:, None]) * RANK + rank[None, :]  # 32 bits, unlike a pointer
    before = tl.load(vectors + place, mask=taken, other=0.0)
    behind = tl.load(vectors + place + RANK, mask=taken, other=0.0)
    return before + share[:, None] * (behind - before)


@triton.jit
def _load_mix(mix, rank, RANK: tl.constexpr):
    used = rank < RANK
    return (
        tl.load(mix + rank, mask=used, other=0.0),
        tl.load(mix + RANK + rank, mask=used, other=0.0),
        tl.load(mix + 2 * RANK + rank, mask=used, other=0.0),
        tl.load(mix + 3 * RANK + rank, mask=used, other=0.0),
    )


@triton.jit
def _softplus(x, linear):
    """log(1 + exp(x)), and x itself above ``linear``; with the derivative."""
    grown = tl.exp(tl.minimum(x, linear))
    curve = tl.where(grown < _TINY, grown - 0.5 * grown * grown, tl.log(1.0 + grown))
    return tl.where(x > linear, x, curve), tl.where(x > linear, 1.0, grown / (1.0 + grown))


@triton.jit
def _colour(product, weights, PLAIN: tl.constexpr):
    """A colour channel of the samples (PIXELS,), from products of the components and the row of the mix."""
    if PLAIN:
        colour = tl.sum(product * 0.0 + weights[None, :], 1)
    else:
        colour = tl.sigmoid(tl.sum(product * weights[None, :], 1))
    return colour


@triton.jit
def _look_up(
    z, ray_x, ray_y, ray_z, box, camera, vectors, rank, taken, RANK: tl.constexpr, DIM: tl.constexpr
):
    """Indices, shares and values of the samples on the three axes."""
    both = taken[:, None] & (rank < RANK)[None, :]
    index_x, share_x = _place(z, ray_x, box, 0, camera, DIM)
    index_y, share_y = _place(z, ray_y, box, 1, camera, DIM)
    index_z, share_z = _place(z, ray_z, box, 2, camera, DIM)
    value_x = _value(vectors, index_x, share_x, 0, rank, both, RANK, DIM)
    value_y = _value(vectors, index_y, share_y, 1, rank, both, RANK, DIM)
    value_z = _value(vectors, index_z, share_z, 2, rank, both, RANK, DIM)
    return index_x, share_x, value_x, index_y, share_y, value_y, index_z, share_z, value_z


@triton.jit
def draw_trivecs(
    items, starts, counts, tiles, cameras, boxes, vectors, mix, offsets, pictures,
    view_stride, height, width, near, far, count, comb, shift, ramp, linear, max_alpha, least_light,
    COMB: tl.constexpr, PLAIN: tl.constexpr, RANK: tl.constexpr, RANKS: tl.constexpr, DIM: tl.constexpr,
    PIXELS: tl.constexpr,
):  # fmt: skip
    """Colour, depth and alpha of a radiance field."""
    view, pixel, inside, camera, ray_x, ray_y, ray_z, norm = begin(tiles, cameras, height, width, PIXELS)
    offset = tl.load(offsets + pixel, mask=inside & COMB, other=0.0)
    rank = tl.arange(0, RANKS)
    place, end = list_bounds(starts, counts, PIXELS)
    light = tl.where(inside, 1.0, 0.0)
    red, green, blue = tl.zeros_like(light), tl.zeros_like(light), tl.zeros_like(light)
    depth, alpha, half_depth = tl.zeros_like(light), tl.zeros_like(light), tl.zeros_like(light)
    while (place < end) & (tl.max(light, 0) >= least_light):
        leaf = tl.load(items + place)
        box = boxes + leaf * 6
        enter, leave = crossing(box, camera, ray_x, ray_y, ray_z, near, far)
        hit = (leave > enter) & (light >= least_light)
        if tl.max(hit.to(tl.int32), 0) > 0:
            origin, lead, step, steps = _samples(enter, leave, norm, box, offset, count, comb, COMB)
            weights, mix_r, mix_g, mix_b = _load_mix(mix + view * view_stride + leaf * 4 * RANK, rank, RANK)
            leaf_vectors = vectors + leaf * 3 * DIM * RANK
            j, most = 0, tl.max(tl.where(hit, steps, 0), 0)
            while j < most:
                taken = hit & (j < steps) & (light >= least_light)
                z = origin + (lead + j) * step
                _, _, value_x, _, _, value_y, _, _, value_z = _look_up(
                    z, ray_x, ray_y, ray_z, box, camera, leaf_vectors, rank, taken, RANK, DIM
                )
                product = value_x * value_y * value_z
                density, _ = _softplus(tl.sum(product * weights[None, :], 1) - shift, linear)
                hidden = tl.where(taken, opacity(ramp * density * step * norm, max_alpha), 0.0)
                weight = light * hidden
                red += weight * _colour(product, mix_r, PLAIN)
                green += weight * _colour(product, mix_g, PLAIN)
                blue += weight * _colour(product, mix_b, PLAIN)
                depth += tl.where(taken, weight * z, 0.0)
                alpha += weight
                after = light * (1.0 - hidden)
                half_depth += tl.where(taken & (light >= HALF_LIGHT) & (after < HALF_LIGHT), z, 0.0)
                light = after
                j += 1
        place += 1
    store_pixel(pictures, pixel, inside, red, green, blue, depth, alpha, half_depth)


@triton.jit
def _scatter(total, index, share, by_value, NODES: tl.constexpr):
    """Add the gradient by values at samples (PIXELS, RANKS) to that by the vectors' values (NODES, RANKS)."""
    node = tl.arange(0, NODES)[:, None]
    counts = tl.where(node == index[None, :], 1.0 - share[None, :], 0.0)
    counts = tl.where(node == index[None, :] + 1, share[None, :], counts)
    return tl.dot(counts, by_value, total, input_precision="ieee")


@triton.jit
def _rows(first, second, third, fourth, ROWS: tl.constexpr):
    """Four rows (PIXELS,) as the first of (ROWS, PIXELS)."""
    row = tl.arange(0, ROWS)[:, None]
    rows = tl.where(row == 0, first[None, :], 0.0)
    rows = tl.where(row == 1, second[None, :], rows)
    rows = tl.where(row == 2, third[None, :], rows)
    return tl.where(row == 3, fourth[None, :], rows)


@triton.jit
def _by_mix(
    total, product, by_density, red, green, blue, by_red, by_green, by_blue, mix_r, mix_g, mix_b,
    PLAIN: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Add the gradient by the mix (ROWS, RANKS), and give that by the products through the colours.

    Given are the gradients by the density before its activation and by the colours (PIXELS,).
    """
    if PLAIN:
        nothing = tl.zeros_like(by_density)
        total = tl.dot(
            _rows(by_density, nothing, nothing, nothing, ROWS), product, total, input_precision="ieee"
        )
        total += tl.sum(_rows(nothing, by_red, by_green, by_blue, ROWS), 1)[:, None]
        by_product = tl.zeros_like(product)
    else:
        by_red *= red * (1.0 - red)
        by_green *= green * (1.0 - green)
        by_blue *= blue * (1.0 - blue)
        rows = _rows(by_density, by_red, by_green, by_blue, ROWS)
        total = tl.dot(rows, product, total, input_precision="ieee")
        by_product = by_red[:, None] * mix_r[None, :] + by_green[:, None] * mix_g[None, :]
        by_product += by_blue[:, None] * mix_b[None, :]
    return total, by_product


@triton.jit
def _add_to_leaf(
    by_vectors, by_mix, total_x, total_y, total_z, total_mix, rank,
    RANK: tl.constexpr, DIM: tl.constexpr, NODES: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Add what the rays of this program bring to the gradients of a leaf."""
    node, used = tl.arange(0, NODES)[:, None], (rank < RANK)[None, :]
    place, taken = node * RANK + rank[None, :], (node < DIM) & used
    tl.atomic_add(by_vectors + place, total_x, mask=taken, sem="relaxed")
    tl.atomic_add(by_vectors + DIM * RANK + place, total_y, mask=taken, sem="relaxed")
    tl.atomic_add(by_vectors + 2 * DIM * RANK + place, total_z, mask=taken, sem="relaxed")
    row = tl.arange(0, ROWS)[:, None]
    tl.atomic_add(by_mix + row * RANK + rank[None, :], total_mix, mask=(row < 4) & used, sem="relaxed")


@triton.jit
def differentiate_trivecs(
    items, starts, counts, tiles, cameras, boxes, vectors, mix, offsets, pictures, gradients,
    by_vectors, by_mix,
    view_stride, height, width, near, far, count, comb, shift, ramp, linear, max_alpha, least_light,
    COMB: tl.constexpr, PLAIN: tl.constexpr, RANK: tl.constexpr, RANKS: tl.constexpr, DIM: tl.constexpr,
    NODES: tl.constexpr, ROWS: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """Add the gradients by vectors and mix of ``draw_trivecs``, a leaf's once for a program's rays."""
    view, pixel, inside, camera, ray_x, ray_y, ray_z, norm = begin(tiles, cameras, height, width, PIXELS)
    offset = tl.load(offsets + pixel, mask=inside & COMB, other=0.0)
    by_red, by_green, by_blue, by_depth, by_alpha, behind = load_gradient(pictures, gradients, pixel, inside)
    rank = tl.arange(0, RANKS)
    place, end = list_bounds(starts, counts, PIXELS)
    light = tl.where(inside, 1.0, 0.0)
    while (place < end) & (tl.max(light, 0) >= least_light):
        leaf = tl.load(items + place)
        box = boxes + leaf * 6
        enter, leave = crossing(box, camera, ray_x, ray_y, ray_z, near, far)
        hit = (leave > enter) & (light >= least_light)
        if tl.max(hit.to(tl.int32), 0) > 0:
            origin, lead, step, steps = _samples(enter, leave, norm, box, offset, count, comb, COMB)
            mix_place, vectors_place = view * view_stride + leaf * 4 * RANK, leaf * 3 * DIM * RANK
            weights, mix_r, mix_g, mix_b = _load_mix(mix + mix_place, rank, RANK)
            total_x = tl.zeros((NODES, RANKS), tl.float32)
            total_y, total_z = tl.zeros_like(total_x), tl.zeros_like(total_x)
            total_mix = tl.zeros((ROWS, RANKS), tl.float32)
            j, most = 0, tl.max(tl.where(hit, steps, 0), 0)
            while j < most:
                taken = hit & (j < steps) & (light >= least_light)
                z = tl.where(taken, origin + (lead + j) * step, 0.0)
                index_x, share_x, value_x, index_y, share_y, value_y, index_z, share_z, value_z = _look_up(
                    z, ray_x, ray_y, ray_z, box, camera, vectors + vectors_place, rank, taken, RANK, DIM
                )
                product = value_x * value_y * value_z
                density, slope = _softplus(tl.sum(product * weights[None, :], 1) - shift, linear)
                hidden = tl.where(taken, opacity(ramp * density * step * norm, max_alpha), 0.0)
                weight, after = light * hidden, light * (1.0 - hidden)
                red, green = _colour(product, mix_r, PLAIN), _colour(product, mix_g, PLAIN)
                blue = _colour(product, mix_b, PLAIN)
                value = by_red * red + by_green * green + by_blue * blue + by_depth * z + by_alpha
                behind -= weight * value
                by_density = tl.where(taken, (after * value - behind) * step * norm * ramp * slope, 0.0)
                total_mix, by_product = _by_mix(
                    total_mix, product, by_density, red, green, blue, weight * by_red, weight * by_green,
                    weight * by_blue, mix_r, mix_g, mix_b, PLAIN, ROWS,
                )  # fmt: skip
                by_product += by_density[:, None] * weights[None, :]
                total_x = _scatter(total_x, index_x, share_x, by_product * value_y * value_z, NODES)
                total_y = _scatter(total_y, index_y, share_y, by_product * value_x * value_z, NODES)
                total_z = _scatter(total_z, index_z, share_z, by_product * value_x * value_y, NODES)
                light = after
                j += 1
            _add_to_leaf(
                by_vectors + vectors_place, by_mix + mix_place, total_x, total_y, total_z, total_mix, rank,
                RANK, DIM, NODES, ROWS,
            )  # fmt: skip
        place += 1
