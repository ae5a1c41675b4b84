"""Octrees and cameras that tests of the octree backends share."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from trellis_modules.renderers import Rendering, render_octree
from trellis_modules.renderers.cameras import fov_intrinsics, multiview_cameras
from trellis_modules.representations.octree import OBJECT_AABB, OctreeNodes, VoxelOctree
from trellis_modules.representations.strivec import Strivec

LENS = fov_intrinsics(math.radians(40))
BACKGROUND = (0.2, 0.5, 1.0)


def cameras(count: int) -> Tensor:
    """Extrinsics (count, 4, 4) around the object."""
    return multiview_cameras(count, radius=1.7, offset=(0.5, 0.05))[0]


def mixed_nodes(resolution: int = 8, share: float = 0.5, seed: int = 0) -> OctreeNodes:
    """One of eight octants whole, the others of small leaves, a part of them missing."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.cartesian_prod(*[torch.arange(resolution)] * 3)
    small = small[(small >= resolution // 2).any(1)]
    small = small[torch.rand(len(small), generator=generator) < share]
    position = torch.cat([torch.full((1, 3), 0.25), (small + 0.5) / resolution])
    depth = torch.full((len(position), 1), resolution.bit_length() - 1, dtype=torch.uint8)
    depth[0] = 1
    return OctreeNodes(position, depth, torch.tensor(OBJECT_AABB))


def voxel_parameters(nodes: OctreeNodes, degree: int = 0) -> dict[str, Tensor]:
    """Random values of a VoxelOctree's fields."""
    generator = torch.Generator().manual_seed(1)
    count = len(nodes)
    values = {
        "features_dc": torch.randn(count, 1, 3, generator=generator),
        "hidden_density": 3 + 2 * torch.randn(count, 1, generator=generator),
    }
    if degree:
        values["features_rest"] = torch.randn(count, (degree + 1) ** 2 - 1, 3, generator=generator)
    return values


def field_parameters(nodes: OctreeNodes, rank: int = 3, dim: int = 4, degree: int = 0) -> dict[str, Tensor]:
    """Random values of a Strivec's fields."""
    generator = torch.Generator().manual_seed(2)
    count = len(nodes)
    values = {
        "trivec": 1 + 0.5 * torch.randn(count, rank, 3, dim, generator=generator),
        "density": -3 + 12 * torch.rand(count, rank, generator=generator),
        "features_dc": 2 * torch.randn(count, rank, 1, 3, generator=generator),
    }
    if degree:
        rest = (degree + 1) ** 2 - 1
        values["features_rest"] = 0.5 * torch.randn(count, rank, rest, 3, generator=generator)
    return values


def draw_and_differentiate(
    octree: VoxelOctree | Strivec,
    parameters: dict[str, Tensor],
    extrinsics: Tensor,
    size,
    counted: Tensor | None = None,
    **options,
) -> tuple[Rendering, dict[str, Tensor]]:
    """A picture of the octree with other parameters, and the gradient of a sum over all of its values.

    Of the values, only those of pixels in ``counted`` (V, H, W) are added up.
    """
    leaves = {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}
    picture = render_octree(
        replace(octree, **leaves), extrinsics, LENS, size, background=BACKGROUND, **options
    )
    generator = torch.Generator().manual_seed(3)
    layers = picture.colour, picture.depth * picture.alpha, picture.alpha
    if counted is not None:
        layers = tuple(layer[counted] for layer in layers)
    loss = sum((layer * torch.randn(layer.shape, generator=generator).to(layer)).sum() for layer in layers)
    return picture, dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()))))


def octree_of(nodes: OctreeNodes, parameters: dict[str, Tensor], **options) -> VoxelOctree | Strivec:
    """The octree that the parameters are of."""
    return (Strivec if "trivec" in parameters else VoxelOctree)(nodes, **parameters, **options)
