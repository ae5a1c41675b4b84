"""Files of occupied voxels: their centres as the vertices of a PLY, in the unit cube around the origin."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trellis_modules.files import atomic_write
from trellis_modules.representations.ply import read_ply_vertices, write_ply_vertices

RESOLUTION = 64
_TOLERANCE = 0.02  # of a voxel, for centres that other programs rounded


def write_voxels(path: Path, indices: np.ndarray, resolution: int = RESOLUTION) -> None:
    """Write the voxels (N, 3) of a grid, z up, as points ``(index + 0.5) / resolution - 0.5``."""
    centres = (indices + 0.5) / resolution - 0.5
    with atomic_write(path) as temporary:
        write_ply_vertices(temporary, dict(zip("xyz", centres.T)))


def read_voxels(path: Path, resolution: int = RESOLUTION) -> np.ndarray:
    """Read voxels back.

    Returns:
        (N, 3) int64 indices in [0, resolution), in the order of the file.

    Raises:
        ValueError: the file is missing, cut off, empty or holds other points than centres of voxels.
    """
    if not path.is_file():
        raise ValueError(f"{path}: expected voxels, found no such file; run voxelize")
    table = read_ply_vertices(path)
    if not {"x", "y", "z"} <= set(table.dtype.names) or not len(table):
        raise ValueError(
            f"{path}: expected the centres of voxels, got {len(table)} points; voxelize it again"
        )
    places = (np.stack([table[axis] for axis in "xyz"], axis=1).astype(np.float64) + 0.5) * resolution
    indices = np.floor(places)
    if (
        not (np.abs(places - indices - 0.5) < _TOLERANCE).all()
        or indices.min() < 0
        or indices.max() >= resolution
    ):
        raise ValueError(
            f"{path}: expected the centres of voxels in a grid of {resolution}; voxelize it again"
        )
    return indices.astype(np.int64)
