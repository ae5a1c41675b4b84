"""Volume rendering of octree leaves in plain PyTorch: voxels and radiance fields of local tensors.

A leaf is entered and left by every ray through the pixel centres of the tiles that it may touch. Leaves hide
each other in the order of their octants as seen from the eye, which is exact for any mixture of sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch

import torch
from torch import Tensor

from trellis_modules.renderers.backends import BlendedViews, tiles
from trellis_modules.renderers.cameras import Cameras, camera_rays, eye_positions, to_camera, to_pixels
from trellis_modules.renderers.spherical_harmonics import sh_to_rgb
from trellis_modules.representations.octree import MAX_DEPTH, OctreeNodes, VoxelOctree
from trellis_modules.representations.strivec import Strivec

_TRIVEC_SAMPLES = 4  # along a ray inside a leaf
_SMALLEST_SLOPE = 1e-9  # of a ray along an axis, so that its reciprocal is finite


@dataclass(frozen=True)
class _Field:
    """What fills the leaves.

    Attributes:
        table: (N, C) parameters of the leaves.
        samples: places along a ray where a leaf is evaluated.
        layer: leaves of a tile that are blended at once.
        width: numbers that ``evaluate`` computes for a leaf at a pixel.
        evaluate: rows (L, K, C) of the table and places (L, K * samples, P, 3) in [0, 1] of the leaf ->
            density (L, K * samples, P or 1) and colour (L, K * samples, P or 1, 3).
    """

    table: Tensor
    samples: int
    layer: int
    width: int
    evaluate: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def run(octree: VoxelOctree | Strivec, cameras: Cameras) -> BlendedViews:
    """Backend entry point, see ``renderers.backends``."""
    parts = [_run_view(octree.nodes, _field(octree), camera) for camera in cameras.split(1)]
    return BlendedViews(*(torch.cat(pictures) for pictures in zip(*parts)))


def _run_view(nodes: OctreeNodes, field: _Field, camera: Cameras) -> BlendedViews:
    """Draw the picture of one camera, or no picture of no camera."""
    if not len(camera):
        empty = nodes.position.new_zeros((0, camera.size, camera.size))
        return BlendedViews(empty[..., None].expand(0, camera.size, camera.size, 3), empty, empty)
    eye = eye_positions(camera.extrinsics)[0]
    seen, first, last = _pixel_boxes(nodes, camera)
    seen &= field.table.detach().isfinite().all(dim=1)
    order = _octant_order(nodes, eye)
    lists = tiles.tile_lists(torch.zeros_like(order), first, last, order[seen[order]], camera.size)
    rays = _tile_rays(camera)
    low = nodes.xyz - nodes.size / 2 - eye
    table = torch.cat([low, nodes.size, field.table], dim=1)

    def layer(rows: Tensor, filled: Tensor, tile: Tensor, behind: Tensor) -> tuple[Tensor, Tensor]:
        return _blend_layer(rows, filled, rays[tile], behind, field, camera)

    return tiles.blend(table, lists, layer, camera, depth=field.layer, width=field.width)


def _blend_layer(
    rows: Tensor, filled: Tensor, ray: Tensor, transmittance: Tensor, field: _Field, camera: Cameras
) -> tuple[Tensor, Tensor]:
    """Blend one layer of leaves, see ``tiles.Layer``.

    Args:
        rows: (L, K, 6 + C), lowest corner from the eye, edges, and parameters of the field.
        ray: (L, P, 3) of camera depth 1.
    """
    low, size, parameters = rows[..., :3], rows[..., 3:6], rows[..., 6:]
    enter, leave = _crossing(low, size, ray, camera.near, camera.far)
    length = torch.where(filled[..., None], (leave - enter).clamp_min(0), 0) / field.samples  # (L, K, P)
    number = torch.arange(field.samples, device=rows.device, dtype=rows.dtype)[:, None]
    start = (enter[:, :, None] + length[:, :, None] * number).flatten(1, 2)  # (L, K * samples, P)
    length = length.repeat_interleave(field.samples, dim=1)
    spread = [tensor.repeat_interleave(field.samples, dim=1)[:, :, None] for tensor in (low, size)]
    place = ((start + length / 2)[..., None] * ray[:, None] - spread[0]) / spread[1]
    density, colour = field.evaluate(parameters, place.clamp(0, 1))
    thickness = density * length * ray.norm(dim=-1)[:, None]
    alpha = 1 - torch.exp(-thickness)
    depth = start + length * _mean_way(thickness)
    through = transmittance * torch.cumprod(1 - alpha, dim=1)
    weights = torch.cat([transmittance, through[:, :-1]], dim=1) * alpha
    added = torch.cat(
        [
            (weights[..., None] * colour).sum(1).mT,
            (weights * depth).sum(1, keepdim=True),
            weights.sum(1, keepdim=True),
        ],
        dim=1,
    )
    return added, through[:, -1:]


def _mean_way(thickness: Tensor) -> Tensor:
    """Share of the way after which light is absorbed, on the mean, in a medium of this optical thickness."""
    thin = thickness < 0.01
    safe = torch.where(thin, 1, thickness)
    return torch.where(thin, 0.5 - thickness / 12, 1 / safe - 1 / torch.expm1(safe))


def _crossing(low: Tensor, size: Tensor, ray: Tensor, near: float, far: float) -> tuple[Tensor, Tensor]:
    """Camera depths (L, K, P) where rays (L, P, 3) enter and leave boxes (L, K, 3); enter > leave: no hit."""
    slope = 1 / torch.where(ray.abs() < _SMALLEST_SLOPE, _SMALLEST_SLOPE, ray)
    enter, leave = low.new_tensor(near), low.new_tensor(far)
    for axis in range(3):
        along = slope[:, None, :, axis]
        one, other = low[..., axis, None] * along, (low + size)[..., axis, None] * along
        enter = torch.maximum(enter, torch.minimum(one, other))
        leave = torch.minimum(leave, torch.maximum(one, other))
    return enter, leave


def _tile_rays(camera: Cameras) -> Tensor:
    """World rays (tiles, P, 3) of camera depth 1 through the pixel centres of each tile of one picture."""
    per_edge = tiles.tiles_per_edge(camera.size)
    padded = per_edge * tiles.EDGE
    # a larger picture with the same rays, so that the last tiles are whole
    lens = camera.intrinsics[0].clone()
    lens[:2] *= camera.size / padded
    rays = camera_rays(lens, padded) @ camera.extrinsics[0, :3, :3]
    rays = rays.view(per_edge, tiles.EDGE, per_edge, tiles.EDGE, 3).transpose(1, 2)
    return rays.reshape(per_edge**2, tiles.EDGE**2, 3)


@torch.no_grad()
def _pixel_boxes(nodes: OctreeNodes, camera: Cameras) -> tuple[Tensor, Tensor, Tensor]:
    """Which leaves (N,) may be in a picture, and the first and last pixel (N, 2) of each."""
    signs = torch.cartesian_prod(*[nodes.position.new_tensor([-0.5, 0.5])] * 3)
    corners = nodes.xyz[:, None] + signs * nodes.size[:, None]  # (N, 8, 3)
    screen = to_pixels(
        to_camera(corners.flatten(0, 1), camera.extrinsics), camera.intrinsics, camera.size
    ).view(-1, 8, 3)
    depth = screen[..., 2]
    # a leaf that reaches behind the eye may be anywhere
    whole = (depth.amin(1) <= 0)[:, None]
    first = torch.where(whole, 0, torch.ceil(screen[..., :2].amin(1) - 0.5).clamp(0, camera.size))
    last = torch.floor(screen[..., :2].amax(1) - 0.5).clamp(-1, camera.size - 1)
    last = torch.where(whole, camera.size - 1, last)
    seen = (depth.amax(1) > camera.near) & (depth.amin(1) < camera.far) & (last >= first).all(1)
    return seen, first.long(), last.long()


@torch.no_grad()
def _octant_order(nodes: OctreeNodes, eye: Tensor) -> Tensor:
    """Leaves (N,) from front to back.

    At each halving of the box a ray from the eye meets, along each axis, the half on the eye's side first.
    """
    eye = (eye - nodes.aabb[:3]) / nodes.aabb[3:]
    key = torch.zeros(len(nodes), dtype=torch.int64, device=eye.device)
    for depth in range(MAX_DEPTH):
        middle = (torch.floor(nodes.position * 2**depth) + 0.5) / 2**depth
        far_side = (nodes.position > middle) != (eye > middle)
        for axis in range(3):
            key = key * 2 + far_side[:, axis]
    return key.argsort()


@singledispatch
def _field(octree: object) -> _Field:
    raise TypeError(f"render_octree: expected a VoxelOctree or a Strivec, got {type(octree).__name__}")


@_field.register
def _(octree: VoxelOctree) -> _Field:
    """Constant density and colour in each leaf."""
    colour = sh_to_rgb(octree.features_dc[:, 0]).clamp_min(0)

    def evaluate(rows: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        return rows[..., :1], rows[..., None, 1:]

    return _Field(torch.cat([octree.density, colour], dim=1), samples=1, layer=32, width=3, evaluate=evaluate)


@_field.register
def _(octree: Strivec) -> _Field:
    """Sums over components of products of three vectors, interpolated linearly from end to end of a leaf.

    The density is the weighted sum, at least 0; the harmonic coefficients are weighted by the products alike.
    """
    rank, resolution = octree.rank, octree.samples_per_axis
    shapes = [(rank, 3, resolution), (rank,), (rank, 3)]
    table = torch.cat([octree.trivec.flatten(1), octree.density, octree.features_dc.flatten(1)], dim=1)

    def evaluate(rows: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        sizes = [torch.Size(shape).numel() for shape in shapes]
        vectors, density, features = (
            part.unflatten(-1, shape) for part, shape in zip(rows.split(sizes, dim=-1), shapes)
        )
        # (L, K, samples * P, 3), so that one matrix product interpolates all places of a leaf
        place = place.unflatten(1, (rows.shape[1], -1))
        nodes = torch.arange(resolution, device=rows.device, dtype=rows.dtype)
        hats = (1 - (place[..., None] * (resolution - 1) - nodes).abs()).clamp_min(0)
        product = torch.ones((), device=rows.device, dtype=rows.dtype)
        for axis in range(3):
            product = product * torch.einsum("lkrd,lkspd->lkspr", vectors[:, :, :, axis], hats[..., axis, :])
        total = torch.einsum("lkspr,lkr->lksp", product, density).clamp_min(0)
        colour = sh_to_rgb(torch.einsum("lkspr,lkrc->lkspc", product, features)).clamp_min(0)
        return total.flatten(1, 2), colour.flatten(1, 2)

    return _Field(table, samples=_TRIVEC_SAMPLES, layer=4, width=_TRIVEC_SAMPLES * rank, evaluate=evaluate)
