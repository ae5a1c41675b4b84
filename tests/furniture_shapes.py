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
