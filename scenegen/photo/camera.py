"""The photo's camera: a pinhole without roll, in the frame of the query object.

Furniture stands upright, so a camera without roll is enough: azimuth, elevation, focal length and position.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

SILHOUETTE_SIZE = 48
"""Cells across the photo on which the silhouettes of points are compared with masks."""

MIN_DEPTH = 0.05
"""In units of the query frame: what is nearer, or behind the camera, counts as this far away."""


@dataclass(frozen=True)
class PhotoCamera:
    """A pinhole camera without roll, in the query frame.

    Attributes:
        extrinsics: (4, 4) float64, query frame to camera (x right, y down, z forward).
        focal: focal length in units of the photo's width; the principal point is the centre.
        aspect: height of the photo over its width.
        overlap: mean intersection over union of the silhouettes of objects alone and their masks, see
            `mask_overlap`; None where it is not known.
        modal_overlap: the same of what is seen of the objects, nearer ones in front.
    """

    extrinsics: np.ndarray
    focal: float
    aspect: float
    overlap: float | None = 0.0
    modal_overlap: float | None = None

    def project(self, xyz_query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Project points (..., 3): positions (..., 2) in widths from the centre, y down, and depths (...)."""
        xyz = xyz_query @ self.extrinsics[:3, :3].T + self.extrinsics[:3, 3]
        depth = np.maximum(xyz[..., 2], MIN_DEPTH)
        return self.focal * xyz[..., :2] / depth[..., None], depth

    def intrinsics(self) -> np.ndarray:
        """(3, 3), to units of the photo's size: the first row in widths, the second in heights."""
        return np.array([[self.focal, 0.0, 0.5], [0.0, self.focal / self.aspect, 0.5], [0.0, 0.0, 1.0]])

    def silhouette(self, xyz_query: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Cells (H, W) bool of a grid over the photo that points (N, 3) cover, small gaps closed."""
        uv, _ = self.project(xyz_query)
        cells = np.floor((uv + [0.5, 0.5 * self.aspect]) * shape[1]).astype(int)
        inside = ((cells >= 0) & (cells < shape[::-1])).all(axis=1)
        shown = np.zeros(shape, bool)
        shown[cells[inside, 1], cells[inside, 0]] = True
        return shown | ndimage.binary_closing(shown)

    def direction_deg(self) -> tuple[float, float]:
        """Azimuth (0 = from +z, positive towards +x) and elevation from which the camera looks."""
        x, y, z = -self.extrinsics[2, :3]
        return float(np.rad2deg(np.arctan2(x, z))), float(np.rad2deg(np.arcsin(np.clip(y, -1, 1))))

    def position(self) -> np.ndarray:
        """Where the camera is, (3,) in the query frame."""
        return -self.extrinsics[:3, :3].T @ self.extrinsics[:3, 3]


def mask_cells(mask: np.ndarray, across: int = SILHOUETTE_SIZE) -> np.ndarray:
    """A mask (H, W) on a coarse grid of so many cells across the photo, see `PhotoCamera.silhouette`."""
    height, width = mask.shape
    rows = (np.arange(round(across * height / width)) + 0.5) * width / across
    columns = (np.arange(across) + 0.5) * width / across
    return mask[np.ix_(np.minimum(rows.astype(int), height - 1), columns.astype(int))]


def rotation_of(azimuth: float | np.ndarray, elevation: float | np.ndarray) -> np.ndarray:
    """World-to-camera rotations (..., 3, 3) of cameras that look from these directions (radians).

    Azimuth 0 looks along -z of the y-up frame and positive ones move the camera towards +x.
    """
    sin_a, cos_a, sin_e, cos_e = np.sin(azimuth), np.cos(azimuth), np.sin(elevation), np.cos(elevation)
    none = np.zeros_like(sin_a)
    return _matrix(
        (cos_a, none, -sin_a),
        (sin_e * sin_a, -cos_e, sin_e * cos_a),
        (-sin_a * cos_e, -sin_e, -cos_a * cos_e),
    )


def rotation_derivatives(azimuth: np.ndarray, elevation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives (..., 3, 3) of `rotation_of` by the azimuth and by the elevation."""
    sin_a, cos_a, sin_e, cos_e = np.sin(azimuth), np.cos(azimuth), np.sin(elevation), np.cos(elevation)
    none = np.zeros_like(sin_a)
    by_azimuth = _matrix(
        (-sin_a, none, -cos_a),
        (sin_e * cos_a, none, -sin_e * sin_a),
        (-cos_a * cos_e, none, sin_a * cos_e),
    )
    by_elevation = _matrix(
        (none, none, none),
        (cos_e * sin_a, sin_e, cos_e * cos_a),
        (sin_a * sin_e, -cos_e, cos_a * sin_e),
    )
    return by_azimuth, by_elevation


def _matrix(*rows: tuple[np.ndarray, ...]) -> np.ndarray:
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
