"""From occupancy logits to meshes in the object y-up frame (frames: `scenegen.geometry`)."""

from __future__ import annotations

import numpy as np
import trimesh
from scipy import ndimage
from skimage.measure import marching_cubes

from trellis_modules.postprocess import remesh_solid, solid_of_faces
from trellis_modules.representations.mesh.enclosed import Closing, enclosed_points
from trellis_modules.representations.mesh.triangle_arrays import weld

LOGIT_LIMIT = 4.0
"""Logits are clipped to this before the surface is drawn: a very sure voxel would pull it off the border."""

MIN_PART_FRACTION = 0.02
"""Loose parts with fewer voxels than this share of the largest part are noise of the decoder."""

# On a grid as coarse as that of structures, filling behind openings takes away real ones: docs/solids.md.
_NO_OPENINGS = Closing(gap=0, opening=0)


def occupancy_to_mesh(
    logits: np.ndarray,
    max_faces: int | None = 20_000,
    simplify: float | None = None,
    *,
    watertight: bool = False,
) -> trimesh.Trimesh | None:
    """Draw the surface of one object's occupancy.

    What no path from outside reaches is filled first, so that a closed shell of voxels gives one outer
    surface; specks are removed.

    Args:
        logits: (R, R, R) occupancy logits, axes x, y, z of the object z-up frame; voxel i covers
            [i / R - 0.5, (i + 1) / R - 0.5] and is occupied where its logit is above 0.
        max_faces: simplify to this many triangles, within 2 %; None keeps them all.
        simplify: share of the triangles to remove, in place of ``max_faces``.
        watertight: fill cavities behind narrow openings too, and draw a surface anew that is not closed.

    Returns:
        A solid in the object y-up frame within [-0.5, 0.5]^3, manifold, faces outward; None when nothing is
        occupied.

    Raises:
        ValueError: logits is not a cube or not finite.
    """
    if logits.ndim != 3 or len(set(logits.shape)) != 1:
        raise ValueError(f"occupancy_to_mesh: expected logits (R, R, R), got {logits.shape}")
    if not np.isfinite(logits).all():
        raise ValueError(
            "occupancy_to_mesh: expected finite logits, got nan or inf; check weights and precision"
        )
    xyz_zup, faces = _surface_zup(logits, Closing() if watertight else _NO_OPENINGS)
    if simplify is not None:
        max_faces = round((1 - simplify) * len(faces))
    xyz_zup, faces, _ = weld(xyz_zup.astype(np.float32), faces)
    xyz_zup, faces = solid_of_faces(xyz_zup, faces, max_faces)
    if watertight:
        xyz_zup, faces = remesh_solid(xyz_zup, faces, num_faces=max_faces)
    return trimesh.Trimesh(_zup_to_yup(xyz_zup), faces, process=False) if len(faces) else None


def occupancy_surface(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The surface that `occupancy_to_mesh` simplifies and mends: vertices (V, 3), object y-up, faces (F, 3).

    Args:
        logits: (R, R, R), finite, see there.
    """
    xyz_zup, faces = _surface_zup(logits, _NO_OPENINGS)
    return _zup_to_yup(xyz_zup), faces


def with_voxels_at(logits: np.ndarray, points_yup: np.ndarray) -> np.ndarray:
    """A copy of logits (R, R, R) in which the voxels around points (N, 3), object y-up, are occupied.

    Points beyond the grid do not count.
    """
    filled, (x, y, z) = logits.copy(), points_yup.T
    voxels = np.floor((np.stack([x, -z, y], axis=1) + 0.5) * len(logits)).astype(int)
    inside = voxels[((voxels >= 0) & (voxels < len(logits))).all(axis=1)]
    at = tuple(inside.T)
    filled[at] = np.maximum(filled[at], LOGIT_LIMIT)
    return filled


def _surface_zup(logits: np.ndarray, closing: Closing) -> tuple[np.ndarray, np.ndarray]:
    """Zero level of filled logits, object z-up frame; empty where nothing is occupied."""
    filled = _solid_logits(logits.astype(np.float32), closing)
    if filled.max() <= 0:
        return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)
    vertices, faces, _, _ = marching_cubes(
        np.pad(filled, 1, constant_values=-LOGIT_LIMIT), level=0.0, gradient_direction="ascent"
    )
    # padded index 1 is voxel 0, whose centre is 0.5 / R
    return (vertices - 0.5) / logits.shape[0] - 0.5, faces


def _zup_to_yup(xyz_zup: np.ndarray) -> np.ndarray:
    x, y, z = xyz_zup.T
    return np.stack((x, z, -y), axis=1)


def _solid_logits(logits: np.ndarray, closing: Closing) -> np.ndarray:
    """Clip, drop specks and fill hollow interiors."""
    clipped = np.clip(logits, -LOGIT_LIMIT, LOGIT_LIMIT)
    occupied = clipped > 0
    parts, count = ndimage.label(occupied, structure=np.ones((3, 3, 3)))
    if count > 1:
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        speck = (sizes < MIN_PART_FRACTION * sizes.max())[parts] & occupied
        clipped[speck] = -LOGIT_LIMIT
        occupied &= ~speck
    clipped[enclosed_points(occupied, len(occupied), closing)] = LOGIT_LIMIT
    return clipped
