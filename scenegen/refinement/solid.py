"""Objects as solids: how much of each voxel an object fills, and the volume that two objects share.

Frames and poses are those of `scenegen.geometry`; solids live in the object y-up frame, in [-0.5, 0.5]^3.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
import trimesh
from scipy import ndimage
from scipy.spatial import ConvexHull
from torch import Tensor

from scenegen.geometry import SCALE, invert_pose, place_yup
from trellis_modules.representations.voxels import surface_voxels

SURFACE_FILL = 0.5
"""The surface passes through a voxel somewhere: on average half of it belongs to the object."""

_POINT_SPACING = 0.8  # voxels; what it misses of a surface is less than half full
_MIN_HULL_POINTS = 8


@dataclass(frozen=True)
class Solid:
    """One object.

    Attributes:
        fill: (R, R, R) float32 in [0, 1], indexed [x, y, z] of the object y-up frame; the centres of the
            first and last voxels are at -0.5 and 0.5, where the surface of most objects ends.
        points: (P, 3) float32 centres of the voxels that are not empty, in random order.
        volumes: (P,) float32 volume of the object around each point, in cubed object units.
        corners: (C, 3) float32 vertices of the mesh's convex hull, which bound it in every direction.
    """

    fill: Tensor
    points: Tensor
    volumes: Tensor
    corners: Tensor

    @property
    def voxel(self) -> float:
        """Side of a voxel in object units."""
        return 1 / (self.fill.shape[0] - 1)

    @cached_property
    def volume(self) -> float:
        """Volume of the object in cubed object units."""
        return float(self.volumes.sum())

    def fill_at(self, points: Tensor) -> Tensor:
        """How full (...) the object is at points (..., 3) of its frame: linear between voxels, 0 outside."""
        # grid_sample takes its volume as [z, y, x] and its points as (x, y, z) in [-1, 1].
        grid = 2 * points.reshape(1, -1, 1, 1, 3)
        sampled = F.grid_sample(self.fill.permute(2, 1, 0)[None, None], grid, align_corners=True)
        return sampled.view(points.shape[:-1])


def solid_of(mesh: trimesh.Trimesh, resolution: int) -> Solid:
    """Voxelise a mesh and fill what it encloses.

    Furniture meshes are rarely watertight, so cracks narrower than two voxels count as closed, and so does an
    open underside: nothing gets into a sofa through the floor. The space below a table stays empty.

    Args:
        mesh: object y-up frame, in [-0.5, 0.5]^3, at least one face.
        resolution: voxels along the unit cube, R.
    """
    voxels_per_unit = resolution - 1
    shrunk = np.asarray(mesh.vertices) * (voxels_per_unit / resolution)
    shell = surface_voxels(shrunk, np.asarray(mesh.faces), resolution, _POINT_SPACING)
    fill = _enclosed(shell).astype(np.float32)
    fill[shell] = SURFACE_FILL
    # Shuffled, so that the first few points are a fair sample of all.
    cells = np.random.default_rng(0).permutation(np.argwhere(fill))
    return Solid(
        fill=torch.from_numpy(fill),
        points=torch.from_numpy(cells / voxels_per_unit - 0.5).float(),
        volumes=torch.from_numpy(fill[tuple(cells.T)]) / voxels_per_unit**3,
        corners=torch.from_numpy(_hull_vertices(np.asarray(mesh.vertices))).float(),
    )


def _enclosed(shell: np.ndarray) -> np.ndarray:
    """Which voxels (R, R, R) cannot be reached from outside, those of the shell included; axis 1 is up."""
    padded = np.pad(shell, 2)
    closed = ndimage.binary_closing(padded, np.ones((3, 3, 3)))
    lowest = np.flatnonzero(closed.any(axis=(0, 2)))[0]
    closed[:, lowest - 1] = True
    regions, _ = ndimage.label(~closed)
    return (regions != regions[0, -1, 0])[2:-2, 2:-2, 2:-2] & _above(shell)


def _above(shell: np.ndarray) -> np.ndarray:
    """Which voxels lie in the layers from the lowest one of the shell upwards: (1, R, 1) bool."""
    return np.maximum.accumulate(shell.any(axis=(0, 2)))[None, :, None]


def _hull_vertices(vertices: np.ndarray) -> np.ndarray:
    if len(vertices) <= _MIN_HULL_POINTS:
        return vertices
    # "QJ" shakes the points a little while it looks for the hull, so that flat objects have one too.
    return vertices[ConvexHull(vertices, qhull_options="QJ").vertices]


def shared_volume(first: Solid, first_pose: Tensor, second: Solid, second_pose: Tensor) -> float:
    """Volume, in cubed scene units, that two objects at poses (8,) both fill."""
    if float(first_pose[SCALE]) * first.voxel > float(second_pose[SCALE]) * second.voxel:
        first, first_pose, second, second_pose = second, second_pose, first, first_pose  # finer grid's points
    points = place_yup(first.points, first_pose)
    near = inside_box(points, *scene_box(second, second_pose))
    within = second.fill_at(to_object(points[near], second_pose))
    return float((first.volumes[near] * within).sum() * first_pose[SCALE] ** 3)


def scene_box(solid: Solid, pose: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest and highest corner, (3,) each, of an object at a pose (8,)."""
    corners = place_yup(solid.corners, pose)
    return corners.amin(dim=0), corners.amax(dim=0)


def inside_box(points: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Which points (..., 3) lie in a box: (...) bool."""
    return ((points >= low) & (points <= high)).all(dim=-1)


def to_object(points: Tensor, pose: Tensor) -> Tensor:
    """Take scene points (..., N, 3) into the frame of objects at poses (..., 8)."""
    return place_yup(points, invert_pose(pose))
