"""Find the photo's camera from generated objects and their masks.

The network places objects in the query's frame and says nothing about the camera. Furniture stands upright,
so a camera without roll remains: azimuth, elevation, focal length and position. For each choice of the first
three the position follows from the mask boxes by linear least squares; the best choices are refined on the
boxes and the winner is the one whose silhouettes overlap the masks most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage, optimize

AZIMUTHS_DEG = np.arange(0.0, 360.0, 15.0)
ELEVATIONS_DEG = np.array([4.0, 12.0, 20.0, 28.0, 36.0, 46.0])
FOCALS = np.array([0.75, 1.0, 1.35, 1.8])  # fields of view of 67, 53, 41 and 31 degrees
MAX_POINTS = 1500
SILHOUETTE_SIZE = 48

_SEARCH_POINTS = 150
_MIN_DEPTH = 0.05


@dataclass(frozen=True)
class PhotoCamera:
    """A pinhole camera without roll, in the query frame.

    Attributes:
        extrinsics: (4, 4) float64, query frame to camera (x right, y down, z forward).
        focal: focal length in units of the photo's width; the principal point is the centre.
        aspect: height of the photo over its width.
        overlap: mean intersection over union of projected silhouettes and masks.
    """

    extrinsics: np.ndarray
    focal: float
    aspect: float
    overlap: float = 0.0

    def project(self, xyz_query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Project points (..., 3): positions (..., 2) in widths from the centre, y down, and depths (...)."""
        xyz = xyz_query @ self.extrinsics[:3, :3].T + self.extrinsics[:3, 3]
        depth = np.maximum(xyz[..., 2], _MIN_DEPTH)
        return self.focal * xyz[..., :2] / depth[..., None], depth

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


def fit_photo_camera(clouds: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> PhotoCamera:
    """Fit the camera under which each object's points cover its mask.

    Args:
        clouds: per object, surface points (N, 3) in the query frame, y up; at least one object.
        masks: per object, (H, W) bool, not empty, all of one size.
    """
    rng = np.random.default_rng(0)
    clouds = [_thin(cloud, MAX_POINTS, rng) for cloud in clouds]
    few = np.stack([_resize(cloud, _SEARCH_POINTS, rng) for cloud in clouds])
    boxes = np.stack([_mask_box(mask) for mask in masks])
    height, width = masks[0].shape
    aspect = height / width
    views = [_refine(start, few, boxes, aspect) for start in _search(few, boxes, aspect)]
    silhouettes = [mask_cells(mask) for mask in masks]
    scored = [replace(view, overlap=_overlap(view, clouds, silhouettes)) for view in views]
    return max(scored, key=lambda view: view.overlap)


def rotation_of(azimuth: float, elevation: float) -> np.ndarray:
    """World-to-camera rotation (3, 3) of a camera that looks at the origin from this direction (radians).

    Azimuth 0 looks along -z of the y-up frame and positive ones move the camera towards +x.
    """
    sin_a, cos_a, sin_e, cos_e = np.sin(azimuth), np.cos(azimuth), np.sin(elevation), np.cos(elevation)
    right = [cos_a, 0.0, -sin_a]
    down = [sin_e * sin_a, -cos_e, sin_e * cos_a]
    forward = [-sin_a * cos_e, -sin_e, -cos_a * cos_e]
    return np.array([right, down, forward])


def _thin(cloud: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    return cloud if len(cloud) <= count else cloud[rng.choice(len(cloud), count, replace=False)]


def _resize(cloud: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """So many points of a cloud, repeated where it has fewer."""
    return np.resize(_thin(cloud, count, rng), (count, 3))


def _mask_box(mask: np.ndarray) -> np.ndarray:
    """Box (left, top, right, bottom) of a mask in widths from the image centre."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    pixels = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float64)
    return (pixels - np.array([width, height, width, height]) / 2) / width


def _solve_position(extents: np.ndarray, boxes: np.ndarray, focal: float) -> np.ndarray:
    """Camera translation (3,) that puts turned objects at their mask boxes, by least squares.

    An object at depth z shows its centre at focal * x / z and its width w as focal * w / z: both are linear
    in the translation after multiplication by z.

    Args:
        extents: (B, 6) low and high corners of the objects, turned into the camera's axes.
        boxes: (B, 4) mask boxes.
    """
    centre, size = (extents[:, :3] + extents[:, 3:]) / 2, extents[:, 3:] - extents[:, :3]
    box_centre, box_size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    rows, values = [], []
    for axis in range(2):
        unit = np.eye(3)[axis]
        rows.append(box_centre[:, axis, None] * np.eye(3)[2] - focal * unit)
        values.append(focal * centre[:, axis] - box_centre[:, axis] * centre[:, 2])
        rows.append(box_size[:, axis, None] * np.eye(3)[2])
        values.append(focal * size[:, axis] - box_size[:, axis] * centre[:, 2])
    return np.linalg.lstsq(np.concatenate(rows), np.concatenate(values), rcond=None)[0]


def _shown_boxes(parameters: np.ndarray, clouds: np.ndarray, aspect: float) -> np.ndarray:
    """Boxes (B, 4) in the photo of objects (B, P, 3), cut at its frame."""
    uv, _ = _view(parameters, aspect).project(clouds)
    limit = np.array([0.5, aspect / 2, 0.5, aspect / 2])
    return np.clip(_boxes(uv), -limit, limit)


def _boxes(points: np.ndarray) -> np.ndarray:
    """Low and high corners (B, 2 D) of clouds (B, P, D)."""
    return np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)


def _search(clouds: np.ndarray, boxes: np.ndarray, aspect: float) -> list[np.ndarray]:
    """Best start of each azimuth: parameters (azimuth, elevation, log focal, translation)."""
    starts = []
    for azimuth in np.deg2rad(AZIMUTHS_DEG):
        candidates = []
        for elevation in np.deg2rad(ELEVATIONS_DEG):
            rotation = rotation_of(azimuth, elevation)
            extents = _boxes(clouds @ rotation.T)
            for focal in FOCALS:
                position = _solve_position(extents, boxes, focal)
                parameters = np.array([azimuth, elevation, np.log(focal), *position])
                error = np.abs(_shown_boxes(parameters, clouds, aspect) - boxes).sum()
                candidates.append((error, parameters))
        starts.append(min(candidates, key=lambda candidate: candidate[0])[1])
    return starts


def _refine(start: np.ndarray, clouds: np.ndarray, boxes: np.ndarray, aspect: float) -> PhotoCamera:
    """Minimise the distance of box edges; the soft loss forgives masks cut by other objects."""

    def residuals(parameters: np.ndarray) -> np.ndarray:
        return (_shown_boxes(parameters, clouds, aspect) - boxes).ravel()

    bounds = (
        [-np.inf, np.deg2rad(-5), np.log(0.5), -np.inf, -np.inf, -np.inf],
        [np.inf, np.deg2rad(80), np.log(3.0), np.inf, np.inf, np.inf],
    )
    fit = optimize.least_squares(residuals, start, bounds=bounds, loss="soft_l1", f_scale=0.02, max_nfev=12)
    return _view(fit.x, aspect)


def _view(parameters: np.ndarray, aspect: float) -> PhotoCamera:
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = rotation_of(parameters[0], parameters[1])
    extrinsics[:3, 3] = parameters[3:]
    return PhotoCamera(extrinsics, float(np.exp(parameters[2])), aspect)


def mask_cells(mask: np.ndarray, across: int = SILHOUETTE_SIZE) -> np.ndarray:
    """A mask (H, W) on a coarse grid of so many cells across the photo, see `PhotoCamera.silhouette`."""
    height, width = mask.shape
    rows = (np.arange(round(across * height / width)) + 0.5) * width / across
    columns = (np.arange(across) + 0.5) * width / across
    return mask[np.ix_(np.minimum(rows.astype(int), height - 1), columns.astype(int))]


def _overlap(view: PhotoCamera, clouds: Sequence[np.ndarray], silhouettes: Sequence[np.ndarray]) -> float:
    """Mean intersection over union of the masks with projected points, closed to silhouettes."""
    overlaps = []
    for cloud, mask in zip(clouds, silhouettes, strict=True):
        shown = view.silhouette(cloud, mask.shape)
        overlaps.append((shown & mask).sum() / max((shown | mask).sum(), 1))
    return float(np.mean(overlaps))
