"""Volume rendering of octree leaves in plain PyTorch: voxels and radiance fields of local tensors.

Each ray has a list of the leaves that it crosses, front to back. A layer of leaves of many rays is evaluated
at once; a ray is left when its leaves are used up or next to nothing shines through any more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from trellis_modules.renderers.backends import BlendedViews, RaySamples
from trellis_modules.renderers.backends.octree_views import (
    COMB_STEPS,
    LEAST_LIGHT,
    MAX_ALPHA,
    SOFTPLUS_LINEAR,
    TrivecParameters,
    finite_leaves,
    leaf_colours,
    octant_order,
    pixel_boxes,
)
from trellis_modules.renderers.backends.tiles import Layering, TileGrid, TileLists, blend, tile_lists
from trellis_modules.renderers.cameras import Cameras, camera_rays, eye_positions
from trellis_modules.representations.octree import VoxelOctree
from trellis_modules.representations.strivec import Strivec

_CHANNELS = 6  # colour and depth, times alpha, alpha, and the depth where half of the light is gone
_SMALLEST_SLOPE = 1e-9  # of a ray along an axis, so that its reciprocal is finite
_HALF_LIGHT = 0.5
_SERIES = 0.5  # optical thickness below which a difference of large numbers is replaced by its series
_LARGEST_EXPONENT = 80.0  # exponentials of more overflow when they are differentiated

# Pairs of leaf and pixel that are sorted at once; about 100 bytes each.
_MAX_PAIRS = {"cuda": 1 << 26, "cpu": 1 << 23}


@dataclass(frozen=True)
class _Field:
    """What fills the leaves.

    Attributes:
        table: (N, C) parameters of the leaves.
        samples: places along a ray where a leaf is evaluated, at most.
        comb: steps an edge of a leaf, or None for places spread evenly over each crossing.
        depth: leaves of a ray that are blended at once.
        width: numbers that ``evaluate`` computes for a leaf on a ray.
        evaluate: rows (L, K, C) of the table and places (L, K, samples, 3) in units of the leaf -> density
            (L, K, samples) and colour (L, K, samples, 3).
        inside: how deep the light of a sample lies in its length on the mean, as a share of it, from the
            optical thickness (L, K, samples).
    """

    table: Tensor
    samples: int
    comb: int | None
    depth: int
    width: int
    evaluate: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    inside: Callable[[Tensor], Tensor | float]


class _Opacity(torch.autograd.Function):
    """1 - exp(-thickness), at most MAX_ALPHA, with the derivative 1 - alpha of the result in both ranges.

    So leaves that hide all can become thinner in training; the true derivative would be 0.
    """

    @staticmethod
    def forward(ctx: Any, thickness: Tensor) -> Tensor:
        alpha = (-torch.expm1(-thickness)).clamp_max(MAX_ALPHA)
        ctx.save_for_backward(alpha)
        return alpha

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (alpha,) = ctx.saved_tensors
        return gradient * (1 - alpha)


@dataclass(frozen=True)
class _Layer:
    """Blends one layer of leaves of single pixels, see ``tiles.Layer``.

    A row of the table holds the lowest corner from the eye, edges, and parameters of the field.

    Attributes:
        field: what fills the leaves.
        rays: (pixels, 3), of camera depth 1, in the world's axes.
        offsets: (pixels,), shift of the comb in steps, or None.
        camera: whose picture it is.
    """

    field: _Field
    rays: Tensor
    offsets: Tensor | None
    camera: Cameras

    def __call__(
        self, rows: Tensor, filled: Tensor, tile: Tensor, transmittance: Tensor
    ) -> tuple[Tensor, Tensor]:
        low, size, parameters = rows[..., :3], rows[..., 3:6], rows[..., 6:]
        ray = self.rays[tile]
        enter, leave = _crossing(low, size, ray, self.camera)
        start, step, met = self._places(enter, leave, size, ray, tile)
        middle = start + step / 2  # (L, K, S)
        place = (middle[..., None] * ray[:, None, None] - low[:, :, None]) / size[:, :, None]
        # the clamp mends rounding, and keeps numbers finite where a ray misses a leaf
        density, colour = self.field.evaluate(parameters, place.clamp(0, 1))
        length = torch.where(met & filled[..., None], step * ray.norm(dim=-1)[:, None, None], 0)
        thickness = density * length
        depth = start + step * self.field.inside(thickness)
        flat = (_Opacity.apply(thickness).flatten(1), depth.flatten(1), colour.flatten(1, 2))
        return _composite(*flat, transmittance[:, 0])

    def _places(
        self, enter: Tensor, leave: Tensor, size: Tensor, ray: Tensor, tile: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Where samples (L, K, S) start, how long they are, both in camera depth, and which there are.

        Given are crossings (L, K), edges (L, K, 3), rays (L, 3) and pixels (L,).
        """
        number = torch.arange(self.field.samples, device=ray.device, dtype=ray.dtype)
        if self.field.comb is None:
            step = ((leave - enter) / self.field.samples)[..., None]
            return enter[..., None] + step * number, step, (step > 0).expand(-1, -1, len(number))
        step = size[..., 0] / self.field.comb / ray.norm(dim=-1)[:, None]
        offset = self.offsets[tile, None]
        first, last = torch.ceil(enter / step - offset), torch.floor(leave / step - offset)
        number = first[..., None] + number
        start = (number + offset[..., None] - 0.5) * step[..., None]
        met = (leave > enter)[..., None] & (number <= last[..., None])
        return start, step[..., None], met


def _composite(alpha: Tensor, depth: Tensor, colour: Tensor, light: Tensor) -> tuple[Tensor, Tensor]:
    """Blend samples (L, M) and colours (L, M, 3) behind what lets ``light`` (L, 1) through."""
    after = light * torch.cumprod(1 - alpha, dim=1)
    before = torch.cat([light, after[:, :-1]], dim=1)
    weights = torch.where(before.detach() >= LEAST_LIGHT, before * alpha, 0)
    with torch.no_grad():
        halving = (before >= _HALF_LIGHT) & (after < _HALF_LIGHT)
        half_depth = torch.where(halving, depth, 0).sum(1, keepdim=True)
    added = [
        torch.bmm(weights[:, None], colour)[:, 0],
        (weights * depth).sum(1, keepdim=True),
        weights.sum(1, keepdim=True),
        half_depth,
    ]
    return torch.cat(added, dim=1)[..., None], after[:, -1:, None]


def run(octree: VoxelOctree | Strivec, cameras: Cameras, samples: RaySamples) -> BlendedViews:
    """Backend entry point, see ``renderers.backends``."""
    finite = finite_leaves(octree)
    views = [_run_view(octree, finite, camera, samples.view(v)) for v, camera in enumerate(cameras.split(1))]
    pictures = torch.cat(views)
    return BlendedViews(pictures[..., :3], *pictures[..., 3:].unbind(-1))


def _run_view(octree: VoxelOctree | Strivec, finite: Tensor, camera: Cameras, samples: RaySamples) -> Tensor:
    """The picture (1, H, W, channels) of one camera, or no picture of no camera."""
    nodes = octree.nodes
    if not len(camera):
        return nodes.position.new_zeros((0, *camera.shape, _CHANNELS))
    eyes = eye_positions(camera.extrinsics)
    seen, first, last = (values[0] for values in pixel_boxes(nodes, camera))
    order = octant_order(nodes, eyes)[0]
    front_to_back = order[(seen & finite)[order]]
    field = _field(octree, eyes[0], samples)
    table = torch.cat([nodes.xyz - nodes.size / 2 - eyes[0], nodes.size, field.table], dim=1)
    rays = camera_rays(camera.intrinsics[0], camera.shape) @ camera.extrinsics[0, :3, :3]
    pairs = int((last - first + 1)[front_to_back].prod(1).sum())
    limit = _MAX_PAIRS.get(table.device.type, _MAX_PAIRS["cpu"])
    rows = max(1, camera.height * limit // max(pairs, limit))
    layering = Layering(field.depth, field.width, _CHANNELS, LEAST_LIGHT)
    bands = []
    for top in range(0, camera.height, rows):
        band = slice(top, top + rows)
        offsets = None if samples.offsets is None else samples.offsets[0, band].flatten()
        layer = _Layer(field, rays[band].flatten(0, 1), offsets, camera)
        grid = TileGrid(1, len(rays[band]), camera.width, 1)
        lists = _ray_lists(grid, layer, table.detach(), (first, last), front_to_back, top)
        bands.append(blend(table, lists, layer, grid, layering))
    return torch.cat(bands, dim=1)


def _ray_lists(
    grid: TileGrid,
    layer: _Layer,
    table: Tensor,
    boxes: tuple[Tensor, Tensor],
    front_to_back: Tensor,
    top: int,
) -> TileLists:
    """The leaves that the rays of some rows of a picture cross, from the pixel boxes (N, 2) of all leaves."""
    first, last = (box - box.new_tensor([0, top]) for box in boxes)
    within = (last[:, 1] >= 0) & (first[:, 1] < grid.height)
    bounds = first.new_tensor([grid.width - 1, grid.height - 1])
    first, last = first.clamp_min(0), torch.minimum(last, bounds)

    def meets(item: Tensor, pixel: Tensor) -> Tensor:
        low, size = table[item, None, :3], table[item, None, 3:6]
        enter, leave = _crossing(low, size, layer.rays[pixel], layer.camera)
        return (leave > enter)[:, 0]

    front_to_back = front_to_back[within[front_to_back]]
    return tile_lists(grid, torch.zeros_like(first[:, 0]), first, last, front_to_back, meets)


def _crossing(low: Tensor, size: Tensor, ray: Tensor, camera: Cameras) -> tuple[Tensor, Tensor]:
    """Camera depths (L, K) where rays (L, 3) enter and leave boxes (L, K, 3); no hit unless enter < leave."""
    slope = 1 / torch.where(ray.abs() < _SMALLEST_SLOPE, _SMALLEST_SLOPE, ray)
    one, other = low * slope[:, None], (low + size) * slope[:, None]
    enter = torch.minimum(one, other).amax(-1).clamp_min(camera.near)
    return enter, torch.maximum(one, other).amin(-1).clamp_max(camera.far)


def _mean_way(thickness: Tensor) -> Tensor:
    """Share of the way after which light is absorbed, on the mean, in a medium of this optical thickness."""
    thin = thickness < _SERIES
    small, large = torch.where(thin, thickness, 0), thickness.clamp_min(_SERIES)
    square = small * small
    series = 0.5 - small * (1 / 12 - square * (1 / 720 - square * (1 / 30240 - square / 1209600)))
    return torch.where(thin, series, 1 / large - 1 / torch.expm1(large.clamp_max(_LARGEST_EXPONENT)))


@singledispatch
def _field(octree: object, eye: Tensor, samples: RaySamples) -> _Field:
    raise TypeError(f"render_octree: expected a VoxelOctree or a Strivec, got {type(octree).__name__}")


@_field.register
def _(octree: VoxelOctree, eye: Tensor, samples: RaySamples) -> _Field:
    """Constant density and colour in each leaf."""

    def evaluate(rows: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        return rows[..., :1], rows[..., None, 1:]

    table = torch.cat([octree.density, leaf_colours(octree, eye)], dim=1)
    return _Field(table, samples=1, comb=None, depth=4, width=32, evaluate=evaluate, inside=_mean_way)


@_field.register
def _(octree: Strivec, eye: Tensor, samples: RaySamples) -> _Field:
    """Sums over components of products of three vectors, see :class:`Strivec`."""
    trivec, colours = TrivecParameters.of(octree), leaf_colours(octree, eye)
    axes, resolution, rank = trivec.vectors.shape[1:]
    sizes = [axes * resolution * rank, rank, colours[0].numel() if len(colours) else 3 * rank]
    comb, count = None, samples.count
    if samples.offsets is not None:
        comb = COMB_STEPS * resolution
        diagonal, edge = torch.stack([octree.nodes.aabb[3:].norm(), octree.nodes.aabb[3]]).tolist()
        count = math.ceil(comb * diagonal / edge) + 1  # steps along the diagonal of a leaf, both ends counted

    def evaluate(rows: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        vectors, weights, colour = rows.flatten(0, 1).split(sizes, dim=-1)
        shares = _shares(place.flatten(0, 1).mT.flatten(0, 1), resolution)  # (M * 3, S, D)
        values = torch.bmm(shares, vectors.reshape(-1, resolution, rank)).unflatten(0, (-1, axes))
        product = values[:, 0] * values[:, 1] * values[:, 2]  # (M, S, R)
        total = torch.bmm(product, weights[..., None])[..., 0]
        density = trivec.ramp * softplus(total - trivec.shift, threshold=SOFTPLUS_LINEAR)
        if octree.leaf_colours is None:
            colour = torch.bmm(product, colour.unflatten(-1, (rank, 3))).sigmoid()
        else:
            colour = colour[:, None].expand(-1, place.shape[2], 3)
        return density.view(place.shape[:3]), colour.unflatten(0, place.shape[:2])

    table = torch.cat([trivec.vectors.flatten(1), trivec.weights, colours.flatten(1)], dim=1)
    width = 2 * count * rank
    return _Field(table, count, comb, depth=4, width=width, evaluate=evaluate, inside=lambda thickness: 0.5)


@torch.no_grad()
def _shares(place: Tensor, resolution: int) -> Tensor:
    """How much each of ``resolution`` values counts (M, S, D) at places (M, S) of a leaf's edge, in [0, 1].

    The values lie at (i + 0.5) / D; beyond the outer ones the line through the nearest two goes on.
    """
    place = place * resolution - 0.5
    inner = place.clamp(0, resolution - 1)
    shares = (1 - (inner[..., None] - torch.arange(resolution, device=place.device)).abs()).clamp_min(0)
    below, above = (place - inner).clamp_max(0), (place - inner).clamp_min(0)
    shares[..., 0] -= below
    shares[..., 1] += below
    shares[..., -1] += above
    shares[..., -2] -= above
    return shares
