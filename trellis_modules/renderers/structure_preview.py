"""Pictures of sparse structures: voxels of objects and of scenes, each in the colour of its place."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from trellis_modules.renderers.four_views import four_views
from trellis_modules.renderers.octree_renderer import render_octree
from trellis_modules.representations.octree import OctreeNodes, VoxelOctree

OBJECT_SIZE, SCENE_SIZE = 512, 1024  # pixels per edge of a view
_SSAA = 4
_SCENE_DEPTH = 9  # halvings of the scene's cube down to a voxel
_MARGIN = 0.05  # of the scene's cube, on each side of what is in it
_AXIS_LENGTH, _AXIS_VOXELS = 0.3, 50


def structure_preview(
    coords: Tensor,
    resolution: int,
    *,
    size: int = OBJECT_SIZE,
    ssaa: int = _SSAA,
    generator: torch.Generator | None = None,
    backend: str = "auto",
) -> Tensor:
    """Four views of the solid voxels of one object on black, as a grid of two by two.

    A voxel is drawn where it is, and its colour is its centre in units of the object's cube. (The released
    previews put the middle of every voxel at its lowest corner, half a voxel off the meshes.)

    Args:
        coords: (N, 3) integer voxels in [0, resolution).
        resolution: voxels per edge, a power of two.
        size: pixels per edge of a view.
        ssaa: samples per pixel and axis.
        generator: of the angles of the views, on the CPU; None: always the same.
        backend: of ``render_octree``.

    Returns:
        (2 * size, 2 * size, 3) uint8.

    Raises:
        ValueError: voxels or resolution are out of range, see ``OctreeNodes.from_coords``.
    """
    if coords.ndim != 2 or coords.shape[1] != 3:
        raise ValueError(f"structure_preview: expected coords (N, 3), got {tuple(coords.shape)}")
    nodes = OctreeNodes.from_coords(coords, resolution)
    octree = VoxelOctree(nodes, leaf_colours=nodes.position)
    return _grid_of_views(octree, size, ssaa, generator, backend)


def scene_preview(
    objects: Sequence[Tensor],
    resolution: int,
    object_to_scene: Tensor,
    *,
    size: int = SCENE_SIZE,
    ssaa: int = _SSAA,
    generator: torch.Generator | None = None,
    backend: str = "auto",
) -> Tensor:
    """Four views of the voxels of all objects of a scene, with its axes, as a grid of two by two.

    The centres of the voxels are placed in the scene and fitted to a cube; each becomes a voxel of a grid of
    512^3, in the colour of its place there. Axes go from the middle of the cube along x (red), y (green) and
    z (blue).

    Args:
        objects: B times (N, 3) integer voxels in [0, resolution), N may be 0.
        resolution: voxels per edge of an object's cube.
        object_to_scene: (B, 4, 4), from object frames ([-0.5, 0.5]^3) to that of the scene, z up.
        size, ssaa, generator, backend: as in ``structure_preview``.

    Returns:
        (2 * size, 2 * size, 3) uint8.

    Raises:
        ValueError: shapes do not fit, or a placement is not finite.
    """
    shapes = [tuple(coords.shape) for coords in objects]
    if tuple(object_to_scene.shape) != (len(objects), 4, 4) or any(len(s) != 2 or s[1] != 3 for s in shapes):
        raise ValueError(
            f"scene_preview: expected {len(objects)} objects (N, 3) and object_to_scene "
            f"({len(objects)}, 4, 4), got {shapes} and {tuple(object_to_scene.shape)}"
        )
    if not object_to_scene.isfinite().all():
        raise ValueError(
            "scene_preview: expected finite object_to_scene, got nan or inf; check the placements"
        )
    points = [
        ((coords + 0.5) / resolution - 0.5) @ pose[:3, :3].T + pose[:3, 3]
        for coords, pose in zip(objects, object_to_scene.float())
    ]
    places = _fit(torch.cat([object_to_scene.new_zeros((0, 3)).float(), *points]))
    axes, axis_colours = _axes(places)
    nodes, kept = _scene_nodes(torch.cat([axes, places]))
    colours = torch.cat([axis_colours, places])[kept]
    return _grid_of_views(VoxelOctree(nodes, leaf_colours=colours), size, ssaa, generator, backend)


def _fit(points: Tensor) -> Tensor:
    """Points (N, 3) moved and scaled into the unit cube."""
    if not len(points):
        return points
    low, high = points.amin(0), points.amax(0)
    extent = (high - low).max().clamp_min(torch.finfo(points.dtype).eps)
    return (points - (low + high) / 2) / extent * (1 - 2 * _MARGIN) + 0.5


def _axes(like: Tensor) -> tuple[Tensor, Tensor]:
    """Places and colours (M, 3) of the voxels of the three axes."""
    directions = torch.eye(3, device=like.device, dtype=like.dtype)
    ways = torch.linspace(0, _AXIS_LENGTH, _AXIS_VOXELS, device=like.device, dtype=like.dtype)
    places = 0.5 + ways[:, None, None] * directions  # (voxels, axes, 3)
    return places.flatten(0, 1), directions.expand(_AXIS_VOXELS, 3, 3).flatten(0, 1)


def _scene_nodes(places: Tensor) -> tuple[OctreeNodes, Tensor]:
    """Leaves at places (N, 3) of the unit cube, and the place (M,) of each; the first of those in a cell."""
    cells = 1 << _SCENE_DEPTH
    cell = (places * cells).long().clamp(0, cells - 1)
    keys = (cell[:, 0] * cells + cell[:, 1]) * cells + cell[:, 2]
    order = keys.argsort(stable=True)
    first = torch.ones_like(order, dtype=torch.bool)
    first[1:] = keys[order[1:]] != keys[order[:-1]]
    kept = order[first]
    return OctreeNodes.from_coords(cell[kept], cells), kept


def _grid_of_views(
    octree: VoxelOctree, size: int, ssaa: int, generator: torch.Generator | None, backend: str
) -> Tensor:
    """Draw from all four sides, turned and tilted by chance."""
    draw = partial(render_octree, octree, size=size, ssaa=ssaa, backend=backend)
    return four_views(lambda pose, intrinsics: draw(pose, intrinsics).colour[0], generator)
