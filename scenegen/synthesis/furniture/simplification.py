"""Fewer faces for heavy meshes, only where the shape survives."""

from __future__ import annotations

import fast_simplification
import numpy as np
from scipy.spatial import cKDTree

from scenegen.synthesis.furniture.records import FurnitureMesh
from scenegen.synthesis.furniture.surface import sample_surface, voxel_iou
from trellis_modules.representations.mesh.triangle_arrays import weld
from trellis_modules.representations.voxels import surface_voxels

MAX_FACES = 12_000
HARD_MAX_FACES = 30_000
MIN_VOXEL_IOU = 0.9
_VOXEL_RESOLUTION = 64
_AGGRESSION = 3
_COLOUR_POINTS = 40_000
_WELD_TOLERANCE = 1e-6


def simplify(
    mesh: FurnitureMesh, max_faces: int = MAX_FACES, hard_max_faces: int = HARD_MAX_FACES
) -> FurnitureMesh:
    """Bring a mesh to about `max_faces` by quadric collapse; heavier detail stays where the shape needs it.

    When the simplified surface has a 64^3 voxel IoU below 0.9 with the original, the original is kept if it
    has at most `hard_max_faces`, else it is simplified to that number.

    Args:
        mesh: in the object frame (the voxel grid is the unit cube).

    Returns:
        The same mesh when it is small enough; otherwise a new one with face colours of the nearest surface.
    """
    if len(mesh.faces) <= max_faces:
        return mesh
    reduced = _collapse(mesh, max_faces)
    original = surface_voxels(mesh.vertices, mesh.faces, _VOXEL_RESOLUTION)
    if (
        voxel_iou(original, surface_voxels(reduced.vertices, reduced.faces, _VOXEL_RESOLUTION))
        >= MIN_VOXEL_IOU
    ):
        return reduced
    return mesh if len(mesh.faces) <= hard_max_faces else _collapse(mesh, hard_max_faces)


def _collapse(mesh: FurnitureMesh, target_faces: int) -> FurnitureMesh:
    vertices, faces = fast_simplification.simplify(
        mesh.vertices, mesh.faces, target_count=target_faces, agg=_AGGRESSION
    )
    # The optimal place of a collapsed vertex may lie outside the object where faces are nearly coplanar.
    vertices = np.clip(vertices, mesh.vertices.min(axis=0), mesh.vertices.max(axis=0))
    vertices, faces, _ = weld(vertices, faces, _WELD_TOLERANCE)
    points, index = sample_surface(mesh.vertices, mesh.faces, _COLOUR_POINTS, np.random.default_rng(0))
    centroids = mesh.vertices[mesh.faces].mean(axis=1)
    tree = cKDTree(np.concatenate([points, centroids]))
    colours = np.concatenate([mesh.face_colours[index], mesh.face_colours])
    _, nearest = tree.query(vertices[faces].mean(axis=1))
    return FurnitureMesh(vertices, faces, colours[nearest])
