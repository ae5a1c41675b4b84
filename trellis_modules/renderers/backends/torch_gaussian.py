"""Splatting of Gaussians in plain PyTorch.

The exponent of a Gaussian is a quadratic polynomial of the place in a tile, so that the exponents of a layer
of Gaussians in many tiles are one matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from trellis_modules.quaternions import quaternion_to_matrix
from trellis_modules.renderers.backends import BlendedViews
from trellis_modules.renderers.backends.tiles import Layering, TileGrid, blend, tile_lists
from trellis_modules.renderers.cameras import Cameras, covered_pixels, to_camera, to_pixels
from trellis_modules.renderers.spherical_harmonics import sh_to_rgb
from trellis_modules.representations.gaussian import Gaussian

_EDGE = 8  # pixels per edge of a tile
_CHANNELS = 5  # colour and depth, times alpha, and alpha
_LAYERING = Layering(depth=32, width=1, channels=_CHANNELS, least_light=1e-4)
_MAX_ALPHA = 0.99
_MIN_ALPHA = 1 / 255  # below it a Gaussian does not count at a pixel
_FILTER_FLOOR = 1e-6  # keeps the gradient of the filter's factor finite for Gaussians seen edge-on
_FIELD_MARGIN = 0.15  # of the picture: the projection is linearised no further outside than this
_NOTHING = -1e30  # exponent of an empty place in a layer, whatever the rest of the polynomial

_MAX_PROJECTIONS = {"cuda": 1 << 22, "cpu": 1 << 16}  # of Gaussians in all the views that are drawn at once


@dataclass(frozen=True)
class _Splats:
    """M Gaussians of all views as they appear in pictures, those out of sight left out."""

    view: Tensor  # (M,) int64
    centre: Tensor  # (M, 2) pixels
    conic: Tensor  # (M, 3), xx, xy, yy of the inverse covariance
    log_opacity: Tensor  # (M,), the filter's factor included
    values: Tensor  # (M, 5), colour, depth, 1
    first: Tensor  # (M, 2) int64, first pixel (x, y) that may be touched
    last: Tensor  # (M, 2) int64


def run(gaussian: Gaussian, cameras: Cameras, kernel_size: float) -> BlendedViews:
    """Backend entry point, see ``renderers.backends``."""
    limit = _MAX_PROJECTIONS.get(cameras.extrinsics.device.type, _MAX_PROJECTIONS["cpu"])
    parts = [
        _run_views(gaussian, part, kernel_size) for part in cameras.split(limit // max(len(gaussian), 1))
    ]
    pictures = torch.cat(parts)
    return BlendedViews(pictures[..., :3], pictures[..., 3], pictures[..., 4])


def _run_views(gaussian: Gaussian, cameras: Cameras, kernel_size: float) -> Tensor:
    """Pictures (V, H, W, _CHANNELS)."""
    splats = _splat(gaussian, cameras, kernel_size)
    by_depth = splats.values[:, 3].argsort()
    grid = TileGrid(len(cameras), *cameras.shape, _EDGE)
    lists = tile_lists(grid, splats.view, splats.first, splats.last, by_depth)
    table = torch.cat([splats.centre, splats.conic, splats.log_opacity[:, None], splats.values], dim=1)
    return blend(table, lists, partial(_blend_layer, grid=grid), grid, _LAYERING)


def _splat(gaussian: Gaussian, cameras: Cameras, kernel_size: float) -> _Splats:
    """Project Gaussians and keep what is in front of the cameras and wide and opaque enough to touch a pixel.

    The covariance gets ``kernel_size`` on its diagonal and the opacity falls as that spreads it.

    Source: Zwicker et al., "EWA splatting", 2002; Yu et al., "Mip-Splatting", arXiv:2311.16493.
    """
    camera = to_camera(gaussian.xyz, cameras.extrinsics)  # (V, N, 3)
    centre = to_pixels(camera, cameras.intrinsics, cameras.shape)
    axes = quaternion_to_matrix(gaussian.rotation) * gaussian.scaling[:, None]  # (N, 3, 3)
    horizontal, vertical = (_jacobian(camera, cameras) @ axes).unbind(-2)
    xx, xy, yy = horizontal.square().sum(-1), (horizontal * vertical).sum(-1), vertical.square().sum(-1)
    sharp = torch.linalg.cross(horizontal, vertical).square().sum(-1)  # determinant, without cancellation
    wide = (sharp + kernel_size * (xx + yy) + kernel_size**2).clamp_min(torch.finfo(sharp.dtype).tiny)
    xx, yy = xx + kernel_size, yy + kernel_size
    opacity = gaussian.opacity[:, 0].clamp_min(torch.finfo(sharp.dtype).tiny)
    log_opacity = opacity.log() + 0.5 * (sharp / wide + _FILTER_FLOOR).log()

    with torch.no_grad():
        reach = 2 * (log_opacity - math.log(_MIN_ALPHA))  # squared, in standard deviations
        half = (reach.clamp_min(0)[..., None] * torch.stack([xx, yy], dim=-1)).sqrt()
        # the pixels whose centres lie within reach
        first, last = covered_pixels(centre[..., :2] - half, centre[..., :2] + half, cameras.shape)
        depth = centre[..., 2]
        seen = (depth > cameras.near) & (depth < cameras.far) & (reach > 0) & (last >= first).all(-1)
        view, number = seen.nonzero(as_tuple=True)

    colour = sh_to_rgb(gaussian.features[:, 0]).clamp_min(0)[number]
    depth = centre[view, number, 2:]
    return _Splats(
        view=view,
        centre=centre[view, number, :2],
        conic=torch.stack([yy, -xy, xx], dim=-1)[view, number] / wide[view, number, None],
        log_opacity=log_opacity[view, number],
        values=torch.cat([colour, depth, torch.ones_like(depth)], dim=1),
        first=first[view, number],
        last=last[view, number],
    )


def _jacobian(camera: Tensor, cameras: Cameras) -> Tensor:
    """Derivative (V, N, 2, 3) of pixel coordinates by world coordinates at camera-frame points (V, N, 3)."""
    focal = cameras.intrinsics.diagonal(dim1=-2, dim2=-1)[:, None, :2]
    centre = cameras.intrinsics[:, None, :2, 2]
    depth = camera[..., 2:].clamp_min(cameras.near)  # what is nearer is not drawn
    slope = camera[..., :2] / depth
    low, high = -(centre + _FIELD_MARGIN) / focal, (1 - centre + _FIELD_MARGIN) / focal
    slope = torch.maximum(torch.minimum(slope, high), low)
    across, forward = cameras.extrinsics[:, None, :2, :3], cameras.extrinsics[:, None, 2:3, :3]
    focal = torch.stack([focal[..., 0] * cameras.width, focal[..., 1] * cameras.height], dim=-1)
    return (across - slope[..., None] * forward) * (focal / depth)[..., None]


def _blend_layer(
    rows: Tensor, filled: Tensor, tile: Tensor, transmittance: Tensor, grid: TileGrid
) -> tuple[Tensor, Tensor]:
    """Blend one layer of splats, see ``tiles.Layer``; a row holds the columns of :class:`_Splats`."""
    centre, conic, log_opacity, values = rows.split([2, 3, 1, _CHANNELS], dim=-1)
    middle = grid.first_pixels(tile) + 0.5 * _EDGE
    x, y = (centre - middle[:, None]).unbind(-1)
    xx, xy, yy = conic.unbind(-1)
    constant = log_opacity[..., 0] - 0.5 * (xx * x * x + yy * y * y) - xy * x * y
    constant = torch.where(filled, constant, _NOTHING)
    coefficients = torch.stack(
        [-0.5 * xx, -xy, -0.5 * yy, xx * x + xy * y, xy * x + yy * y, constant], dim=-1
    )
    with _full_precision():
        exponent = coefficients @ _monomials(rows)
    # exponentials of numbers far below the smallest alpha are slow
    exponent = exponent.clamp(2 * math.log(_MIN_ALPHA), math.log(_MAX_ALPHA))
    alpha = torch.nn.functional.threshold(exponent.exp(), _MIN_ALPHA, 0.0)
    through = torch.cumprod(1 - alpha, dim=1)
    # weight k is through[k - 1] - through[k]; summed by parts, so that the weights need not be formed
    steps = torch.cat([values[:, 1:] - values[:, :-1], -values[:, -1:]], dim=1)
    added = values[:, 0, :, None] + steps.mT @ through
    return transmittance * added, transmittance * through[:, -1:]


def _monomials(like: Tensor) -> Tensor:
    """(6, _EDGE * _EDGE): xx, xy, yy, x, y, 1 at the pixel centres of a tile, from the tile's centre."""
    axis = torch.arange(_EDGE, device=like.device, dtype=like.dtype) - (_EDGE - 1) / 2
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
