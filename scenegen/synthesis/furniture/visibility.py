"""Removal of faces that no camera outside the object can see: drawer boxes, oven insides, joints."""

from __future__ import annotations

import numpy as np
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh

from scenegen.synthesis.furniture.records import FurnitureMesh, take_faces

NUM_DIRECTIONS = 64
# A ray starts this far (in units of the object's longest side) from its face, along its own direction.
START_OFFSET = 2e-4
# Longer faces than this get more sample points.
_LARGE_EDGE = 0.1
_FEW_POINTS = np.array([[1, 1, 1], [4, 1, 1], [1, 4, 1], [1, 1, 4]], dtype=np.float32) / [[3], [6], [6], [6]]
_RAYS_AT_ONCE = 1_000_000


def visible_faces(mesh: FurnitureMesh, num_directions: int = NUM_DIRECTIONS) -> np.ndarray:
    """Which faces can be seen from outside, from either side of the face.

    A face counts as visible when from one of its sample points (4, or 16 on large faces) a ray in one of
    `num_directions` even directions over the sphere meets nothing.

    Returns:
        (F,) bool.
    """
    triangles = np.ascontiguousarray(mesh.vertices[mesh.faces])
    scene = rtcore_scene.EmbreeScene()
    TriangleMesh(scene, triangles)
    large = np.linalg.norm(triangles - np.roll(triangles, 1, axis=1), axis=2).max(axis=1) > _LARGE_EDGE
    visible = np.zeros(len(triangles), dtype=bool)
    # Most visible faces show in the first directions; only the others are asked about the rest.
    for directions in np.split(_sphere_directions(num_directions), [4, 16]):
        for is_large, weights in ((False, _FEW_POINTS), (True, _many_points())):
            open_faces = np.flatnonzero(~visible & (large == is_large))
            batch = max(1, _RAYS_AT_ONCE // (len(weights) * max(len(directions), 1)))
            for start in range(0, len(open_faces) if len(directions) else 0, batch):
                chosen = open_faces[start : start + batch]
                points = np.einsum("sk,fkc->fsc", weights, triangles[chosen])
                visible[chosen] = _any_escape(scene, points, directions)
    return visible


def remove_hidden_faces(mesh: FurnitureMesh, num_directions: int = NUM_DIRECTIONS) -> FurnitureMesh:
    """The mesh without the faces that cannot be seen from outside; the frame is unchanged.

    A mesh of which nothing would remain (degenerate input) is returned as it is.
    """
    visible = visible_faces(mesh, num_directions)
    return take_faces(mesh, visible) if visible.any() and not visible.all() else mesh


def _any_escape(scene: rtcore_scene.EmbreeScene, points: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """(F,) whether a ray from points (F, S, 3) along one of directions (D, 3) leaves the object."""
    shape = (*points.shape[:2], len(directions), 3)
    rays = np.broadcast_to(directions.astype(np.float32), shape).reshape(-1, 3)
    origins = (
        np.broadcast_to(points[:, :, None].astype(np.float32), shape).reshape(-1, 3) + START_OFFSET * rays
    )
    hits = scene.run(np.ascontiguousarray(origins, dtype=np.float32), np.ascontiguousarray(rays))
    return (hits < 0).reshape(len(points), -1).any(axis=1)


def _sphere_directions(count: int) -> np.ndarray:
    """(count, 3) even unit directions (Fibonacci sphere), ordered so that any prefix is spread out."""
    order = np.argsort((np.arange(count) * 0.6180339887498949) % 1)
    height = 1 - (2 * order + 1) / count
    angle = order * np.pi * (3 - 5**0.5)
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(angle), height, radius * np.sin(angle)], axis=1)


def _many_points() -> np.ndarray:
    """(16, 3) barycentric weights spread over a triangle."""
    corners = (
        np.array([(i, j, 6 - i - j) for i in range(1, 6) for j in range(1, 6 - i)], dtype=np.float32) / 6
    )
    edges = (
        np.array([(8, 1, 1), (1, 8, 1), (1, 1, 8), (5, 4, 1), (1, 5, 4), (4, 1, 5)], dtype=np.float32) / 10
    )
    return np.concatenate([corners, edges])
