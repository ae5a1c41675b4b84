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
    filled = _solid_logits(logits.astype(np.float32), Closing() if watertight else _NO_OPENINGS)
    if filled.max() <= 0:
        return None
    vertices, faces, _, _ = marching_cubes(
        np.pad(filled, 1, constant_values=-LOGIT_LIMIT), level=0.0, gradient_direction="ascent"
    )
    if simplify is not None:
        max_faces = round((1 - simplify) * len(faces))
    xyz_zup = (vertices - 0.5) / logits.shape[0] - 0.5  # padded index 1 is voxel 0, whose centre is 0.5 / R
    xyz_zup, faces, _ = weld(xyz_zup.astype(np.float32), faces)
    xyz_zup, faces = solid_of_faces(xyz_zup, faces, max_faces)
    if watertight:
        xyz_zup, faces = remesh_solid(xyz_zup, faces, num_faces=max_faces)
    x, y, z = xyz_zup.T
    return trimesh.Trimesh(np.stack((x, z, -y), axis=1), faces, process=False) if len(faces) else None


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
