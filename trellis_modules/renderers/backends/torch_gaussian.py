"""Splatting of Gaussians in plain PyTorch, on any device, with gradients.

Pictures are cut into small tiles. Each tile lists the Gaussians that may touch it, front to back; a layer of
``_LAYER`` Gaussians of many tiles is blended at once in dense arithmetic, and a tile is left when its Gaussians
are used up or nothing shines through any more. The exponent of a Gaussian is a quadratic polynomial of the
place in the tile, so that the exponents of a layer are one matrix product. With gradients a layer is computed
again in the backward pass: memory grows with the number of layers, not with that of pixels times Gaussians.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from trellis_modules.renderers.backends import BlendedViews, ragged
from trellis_modules.renderers.cameras import to_camera, to_pixels
from trellis_modules.renderers.spherical_harmonics import sh_to_rgb
from trellis_modules.representations.gaussian import Gaussian
from trellis_modules.representations.rotation import quaternion_to_matrix

_TILE = 8  # pixels per edge
_LAYER = 32  # Gaussians of a tile that are blended at once
_MAX_ALPHA = 0.99
_MIN_ALPHA = 1 / 255  # below it a Gaussian does not count at a pixel
_OPAQUE = 1e-4  # transmittance below which a tile is finished
_FILTER_FLOOR = 1e-6  # keeps the gradient of the filter's factor finite for Gaussians seen edge-on
_FIELD_MARGIN = 0.3  # of the picture: the projection is linearised no further outside than this
_NOTHING = -1e4  # exponent of an empty place in a layer

# (evaluations of a Gaussian at a pixel at once, Gaussians of all views that are projected at once)
_LIMITS = {"cuda": (1 << 25, 1 << 22), "cpu": (1 << 18, 1 << 16)}


@dataclass(frozen=True)
class _Splats:
    """M Gaussians of all views as they appear in pictures, those out of sight left out."""

    view: Tensor  # (M,) int64
    centre: Tensor  # (M, 2) pixels
    conic: Tensor  # (M, 3), xx, xy, yy of the inverse covariance
    log_opacity: Tensor  # (M,), the filter's factor included
    values: Tensor  # (M, 5), colour, depth, 1
    first: Tensor  # (M, 2) int64, first tile (x, y) that may be touched
    extent: Tensor  # (M, 2) int64, tiles along x and y


@dataclass(frozen=True)
class _TileLists:
    """The splats of each touched tile, front to back, one list after the other."""

    splat: Tensor  # (P,) int64
    tile: Tensor  # (L,) int64, row of the tile in all views
    start: Tensor  # (L,) int64, where the list of a tile starts
    count: Tensor  # (L,) int64


def run(
    gaussian: Gaussian,
    extrinsics: Tensor,
    intrinsics: Tensor,
    size: int,
    near: float,
    far: float,
    kernel_size: float,
) -> BlendedViews:
    """Backend entry point, see ``renderers.backends``."""
    at_once = max(1, _LIMITS.get(extrinsics.device.type, _LIMITS["cpu"])[1] // max(len(gaussian), 1))
    pictures = [
        _run_views(gaussian, views, lenses, size, near, far, kernel_size)
        for views, lenses in zip(extrinsics.split(at_once), intrinsics.split(at_once))
    ]
    merged = torch.cat(pictures)
    return BlendedViews(merged[..., :3], merged[..., 3], merged[..., 4])


def _run_views(
    gaussian: Gaussian, extrinsics: Tensor, intrinsics: Tensor, size: int, *limits: float
) -> Tensor:
    """(V, S, S, 5) blended colour, depth and alpha."""
    splats = _splat(gaussian, extrinsics, intrinsics, size, *limits)
    tiles_per_edge = -(-size // _TILE)
    lists = _tile_lists(splats, tiles_per_edge)
    num_tiles = len(extrinsics) * tiles_per_edge**2
    tiles = _blend(splats, lists, num_tiles, tiles_per_edge)  # (V * Y * X, 5, T * T)
    shape = (len(extrinsics), tiles_per_edge, tiles_per_edge, -1, _TILE, _TILE)
    pictures = tiles.view(shape).permute(0, 1, 4, 2, 5, 3)  # (V, Y, T, X, T, 5)
    edge = tiles_per_edge * _TILE
    return pictures.reshape(len(extrinsics), edge, edge, -1)[:, :size, :size]


def _splat(
    gaussian: Gaussian,
    extrinsics: Tensor,
    intrinsics: Tensor,
    size: int,
    near: float,
    far: float,
    kernel_size: float,
) -> _Splats:
    """Project Gaussians and keep what is in front of the cameras and wide and opaque enough to touch a pixel.

    The covariance gets ``kernel_size`` on its diagonal and the opacity what that spreads over more pixels.

    Source: Zwicker et al., "EWA splatting", 2002; Yu et al., "Mip-Splatting", arXiv:2311.16493, eq. 9.
    """
    camera = to_camera(gaussian.xyz, extrinsics)  # (V, N, 3)
    centre = to_pixels(camera, intrinsics, size)
    axes = quaternion_to_matrix(gaussian.rotation) * gaussian.scaling[:, None]  # (N, 3, 3)
    horizontal, vertical = (_jacobian(camera, extrinsics, intrinsics, size) @ axes).unbind(-2)
    xx, xy, yy = horizontal.square().sum(-1), (horizontal * vertical).sum(-1), vertical.square().sum(-1)
    sharp = torch.linalg.cross(horizontal, vertical).square().sum(-1)  # the determinant, without cancellation
    wide = sharp + kernel_size * (xx + yy) + kernel_size**2
    wide = wide.clamp_min(torch.finfo(wide.dtype).tiny)
    xx, yy = xx + kernel_size, yy + kernel_size
    log_opacity = gaussian.opacity[:, 0].log() + 0.5 * (sharp / wide + _FILTER_FLOOR).log()

    with torch.no_grad():
        reach = 2 * (log_opacity - math.log(_MIN_ALPHA))  # squared, in standard deviations
        half = (reach.clamp_min(0)[..., None] * torch.stack([xx, yy], dim=-1)).sqrt()
        # the pixels whose centres lie within reach
        first = torch.ceil(centre[..., :2] - half - 0.5).clamp(0, size)
        last = torch.floor(centre[..., :2] + half - 0.5).clamp(-1, size - 1)
        depth = centre[..., 2]
        seen = (depth > near) & (depth < far) & (reach > 0) & (last >= first).all(-1)
        view, number = seen.nonzero(as_tuple=True)
        first, last = (edge[view, number].long() // _TILE for edge in (first, last))

    colour = sh_to_rgb(gaussian.features[:, 0]).clamp_min(0)[number]
    depth = centre[view, number, 2]
    inverse = torch.stack([yy, -xy, xx], dim=-1)[view, number] / wide[view, number, None]
    values = torch.cat([colour, depth[:, None], torch.ones_like(depth)[:, None]], dim=1)
    return _Splats(
        view, centre[view, number, :2], inverse, log_opacity[view, number], values, first, last - first + 1
    )


def _jacobian(camera: Tensor, extrinsics: Tensor, intrinsics: Tensor, size: int) -> Tensor:
    """Derivative (V, N, 2, 3) of pixel coordinates by world coordinates at camera-frame points (V, N, 3)."""
    focal = intrinsics.diagonal(dim1=-2, dim2=-1)[:, None, :2]
    centre = intrinsics[:, None, :2, 2]
    slope = camera[..., :2] / camera[..., 2:]
    low, high = -(centre + _FIELD_MARGIN * 0.5) / focal, (1 - centre + _FIELD_MARGIN * 0.5) / focal
    slope = torch.maximum(torch.minimum(slope, high), low)
    across, forward = extrinsics[:, None, :2, :3], extrinsics[:, None, 2:3, :3]
    return (across - slope[..., None] * forward) * (size * focal / camera[..., 2:])[..., None]


@torch.no_grad()
def _tile_lists(splats: _Splats, tiles_per_edge: int) -> _TileLists:
    """Find and sort the splats of every tile."""
    order = splats.values[:, 3].argsort()  # by depth
    first, extent, view = splats.first[order], splats.extent[order], splats.view[order]
    rank, local = ragged.expand(extent.prod(1))
    width = extent[rank, 0]
    column, row = first[rank, 0] + local % width, first[rank, 1] + local // width
    tile = (view[rank] * tiles_per_edge + row) * tiles_per_edge + column
    # the number of a splat in order of depth makes every key unique: the result does not depend on the sort
    keys = (tile * len(order) + rank).sort().values
    tile, count = torch.unique_consecutive(keys // max(len(order), 1), return_counts=True)
    return _TileLists(order[keys % max(len(order), 1)], tile, count.cumsum(0) - count, count)


def _blend(splats: _Splats, lists: _TileLists, num_tiles: int, tiles_per_edge: int) -> Tensor:
    """(num_tiles, 5, T * T): for every pixel of every tile the weighted sum of the splats' values."""
    pixels = splats.values.new_zeros((num_tiles, splats.values.shape[1], _TILE * _TILE))
    if not len(lists.tile):
        return pixels
    longest_first = lists.count.argsort(descending=True)
    limit = _LIMITS.get(pixels.device.type, _LIMITS["cpu"])[0]
    table = torch.cat([splats.centre, splats.conic, splats.log_opacity[:, None], splats.values], dim=1)
    for part in longest_first.split(max(1, limit // (_LAYER * _TILE * _TILE))):
        blended = _blend_tiles(table, lists, part, tiles_per_edge)
        pixels = pixels.index_copy(0, lists.tile[part], blended)
    return pixels


def _blend_tiles(table: Tensor, lists: _TileLists, part: Tensor, tiles_per_edge: int) -> Tensor:
    """(L, 5, T * T) blended values of the tiles ``part`` (L,) of the lists, layer by layer."""
    tile, start, count = lists.tile[part], lists.start[part], lists.count[part]
    corner = torch.stack([tile % tiles_per_edge, tile // tiles_per_edge % tiles_per_edge], dim=1)
    middle = (corner + 0.5) * _TILE
    transmittance = table.new_ones((len(part), 1, _TILE * _TILE))
    blended = table.new_zeros((len(part), 5, _TILE * _TILE))
    active = torch.arange(len(part), device=part.device)
    steps = torch.arange(_LAYER, device=part.device)
    for layer in range(0, int(count.max()), _LAYER):
        place = layer + steps
        filled = place < count[active, None]
        splat = lists.splat[torch.where(filled, start[active, None] + place, 0)]
        inputs = (table, splat, filled, middle[active], transmittance)
        if torch.is_grad_enabled() and table.requires_grad:
            added, transmittance = checkpoint(_blend_layer, *inputs, use_reentrant=False)
        else:
            added, transmittance = _blend_layer(*inputs)
        blended = blended.index_add(0, active, added)
        open_tiles = (count[active] > layer + _LAYER) & (transmittance.detach().amax((1, 2)) > _OPAQUE)
        kept = open_tiles.nonzero()[:, 0]
        if not len(kept):
            break
        active, transmittance = active[kept], transmittance[kept]
    return blended


def _blend_layer(
    table: Tensor, splat: Tensor, filled: Tensor, middle: Tensor, transmittance: Tensor
) -> tuple[Tensor, Tensor]:
    """Blend one layer of splats behind what covers the tiles so far.

    Args:
        table: (M, 11) centre, conic, logarithm of the opacity and values of all splats.
        splat: (L, K) rows of the table, front to back.
        filled: (L, K) whether there is a splat at this place.
        middle: (L, 2) pixel coordinates of the tiles' centres.
        transmittance: (L, 1, T * T), what the splats in front let through.

    Returns:
        weighted sum (L, 5, T * T) of the layer's values and the remaining transmittance (L, 1, T * T).
    """
    rows = table.index_select(0, splat.flatten()).view(*splat.shape, -1)
    centre, conic, log_opacity, values = rows.split([2, 3, 1, 5], dim=-1)
    x, y = (centre - middle[:, None]).unbind(-1)
    xx, xy, yy = conic.unbind(-1)
    constant = log_opacity[..., 0] - 0.5 * (xx * x * x + yy * y * y) - xy * x * y
    constant = torch.where(filled, constant, _NOTHING)
    coefficients = torch.stack(
        [-0.5 * xx, -xy, -0.5 * yy, xx * x + xy * y, xy * x + yy * y, constant], dim=-1
    )
    with _full_precision():
        exponent = coefficients @ _monomials(table)
    alpha = torch.nn.functional.threshold(exponent.clamp_max(math.log(_MAX_ALPHA)).exp(), _MIN_ALPHA, 0.0)
    through = transmittance * torch.cumprod(1 - alpha, dim=1)
    weights = torch.cat([transmittance, through[:, :-1]], dim=1) * alpha
    return values.mT @ weights, through[:, -1:]


def _monomials(like: Tensor) -> Tensor:
    """(6, T * T): xx, xy, yy, x, y, 1 at the pixel centres of a tile, from the tile's centre."""
    axis = torch.arange(_TILE, device=like.device, dtype=like.dtype) - (_TILE - 1) / 2
    y, x = (grid.flatten() for grid in torch.meshgrid(axis, axis, indexing="ij"))
    return torch.stack([x * x, x * y, y * y, x, y, torch.ones_like(x)])


@contextmanager
def _full_precision() -> Iterator[None]:
    """Keep matrix products in float32: the exponent is a difference of large numbers."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
