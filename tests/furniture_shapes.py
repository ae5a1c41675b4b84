"""Simple closed furniture for tests."""

from __future__ import annotations

import numpy as np
import trimesh


def table() -> trimesh.Trimesh:
    """A table of longest side 1 around the origin, y up: a top on four legs, one closed surface."""
    filled = np.zeros((20, 14, 20), bool)
    filled[:, 12:] = True
    for x in (slice(0, 2), slice(18, 20)):
        for z in (slice(0, 2), slice(18, 20)):
            filled[x, :, z] = True
    boxes = trimesh.voxel.VoxelGrid(filled).marching_cubes
    boxes.vertices = (boxes.vertices - boxes.bounds.mean(axis=0)) / boxes.extents.max()
    if boxes.volume < 0:
        boxes.invert()
    return boxes


def shell(width: float, height: float, depth: float, wall: float) -> trimesh.Trimesh:
    """A box without a front, as a shower or a shelf has none, around the origin: one closed surface."""
    outer = np.array([width, height, depth]) / 2
    inner = outer - wall
    inside = np.array(
        [[x, y, z] for x in (-inner[0], inner[0]) for y in (-inner[1], inner[1]) for z in (0, 1)]
    )
    inside[:, 2] = np.where(inside[:, 2] == 0, wall - outer[2], outer[2])  # open where z is greatest
    outside = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * outer
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4)]  # of a box, but z = 1
    faces = [tri for a, b, c, d in quads for tri in ((a, b, c), (a, c, d))]
    turned = [(a + 8, c + 8, b + 8) for a, b, c in faces]
    front = [(1, 5), (5, 7), (7, 3), (3, 1)]
    rim = [tri for a, b in front for tri in ((a, b, b + 8), (a, b + 8, a + 8))]
    return trimesh.Trimesh(np.concatenate([outside, inside]), [*faces, *turned, *rim], process=False)
