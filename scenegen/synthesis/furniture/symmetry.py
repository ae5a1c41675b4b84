"""Order of a mesh's symmetry about the vertical axis, from points on its surface and their colours."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from scenegen.geometry import CONTINUOUS_SYMMETRY
from scenegen.synthesis.furniture.records import FurnitureMesh
from scenegen.synthesis.furniture.surface import sample_surface

# Half a voxel of a 64 grid is 0.008; twice that forgives sampling and small asymmetries such as handles.
DISTANCE = 0.02
COLOUR_DISTANCE = 60
AGREEMENT = 0.95
# Dense enough that a surface of area 6 has a point within DISTANCE of any of its places.
NUM_POINTS = 40_000
NUM_QUERIES = 4_000
_NEIGHBOURS = 8
# Angles that together exclude every finite order a piece of furniture has (3 to 8 legs or wheels).
_CONTINUOUS_DEGREES = (17.0, 32.0, 45.0, 77.0)


def symmetry_order(mesh: FurnitureMesh) -> int:
    """Find the yaw symmetry: 1 none, 2 half turn, 4 quarter turn, 0 any angle.

    Two poses of the mesh agree when 95 % of the surface meets surface of a similar colour within 2 % of the
    longest side, about the axis through the box centre.
    """
    rng = np.random.default_rng(0)  # fixed: the order is a property of the mesh
    points, index = sample_surface(mesh.vertices, mesh.faces, NUM_POINTS, rng)
    colours = mesh.face_colours[index].astype(np.float64)
    tree = cKDTree(points)
    queries = rng.permutation(NUM_POINTS)[:NUM_QUERIES]

    def agrees(degrees: float) -> bool:
        return _agreement(tree, colours, points[queries], colours[queries], np.deg2rad(degrees)) >= AGREEMENT

    if not agrees(180):
        return 1
    if not agrees(90):
        return 2
    return CONTINUOUS_SYMMETRY if all(agrees(degrees) for degrees in _CONTINUOUS_DEGREES) else 4


def _agreement(
    tree: cKDTree, colours: np.ndarray, points: np.ndarray, point_colours: np.ndarray, angle: float
) -> float:
    """Share of points (Q, 3) that, turned by `angle` about y, meet a tree point of a similar colour."""
    cosine, sine = np.cos(angle), np.sin(angle)
    turned = points @ np.array([[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]])
    _, nearest = tree.query(turned, k=_NEIGHBOURS, distance_upper_bound=DISTANCE)
    padded = np.concatenate([colours, np.full((1, 3), np.inf)])  # index N marks "none within reach"
    similar = np.abs(padded[nearest] - point_colours[:, None]).max(axis=2) <= COLOUR_DISTANCE
    return float(similar.any(axis=1).mean())
