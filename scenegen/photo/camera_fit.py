"""Find the photo's camera from generated objects and their masks.

The network places objects in the query's frame and says nothing about the camera. For each choice of azimuth,
elevation and focal length the position follows from the boxes of the masks by linear least squares. The best
choices are improved on the outlines of objects and masks (`outlines`). Of these the camera is taken that sees
the objects where their masks are, by casting rays at the meshes, and polished on what it sees (`polish`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from scenegen.photo.camera import PhotoCamera, rotation_of
from scenegen.photo.mask_overlap import Sight, overlaps_alone
from scenegen.photo.outlines import (
    AZIMUTH,
    ELEVATION,
    LOG_FOCAL,
    POSITION,
    MaskOutlines,
    box_differences,
    match_outlines,
    outermost_points,
    outline_costs,
)
from scenegen.photo.polish import polish
from scenegen.photo.silhouettes import Surface, simplified

AZIMUTHS_DEG = np.arange(0.0, 360.0, 15.0)
ELEVATIONS_DEG = np.array([2.0, 8.0, 14.0, 20.0, 28.0, 36.0, 46.0])
FOCALS = np.array([0.6, 0.75, 1.0, 1.35, 1.8])  # fields of view of 80, 67, 53, 41 and 31 degrees

_ROUNDS = ((10, 6), (6, 12))  # how many cameras are kept after so many steps
_OUTLINE_WEIGHT = 10.0  # of what outlines are off, against an overlap: of generated shapes it tells more
_WIDTH = 64  # pixels across the pictures that are compared


def fit_photo_camera(surfaces: Sequence[Surface], masks: Sequence[np.ndarray]) -> PhotoCamera:
    """Fit the camera under which what is seen of each object covers its mask.

    Args:
        surfaces: of the objects, in the query frame, y up; at least one object, each with a vertex.
        masks: per object, (H, W) bool, not empty, all of one size.

    Returns:
        The camera with both its overlaps.
    """
    points = np.stack([outermost_points(surface.vertices) for surface in surfaces])
    outlines = MaskOutlines.of(masks)
    found = _search(points, outlines)
    for count, iterations in _ROUNDS:
        found, costs = match_outlines(found, points, outlines, iterations)
        found = found[np.argsort(costs)[:count]]
    sight = Sight([simplified(surface) for surface in surfaces], masks, _WIDTH)

    def score(parameters: np.ndarray) -> np.ndarray:
        views = [camera_of(row, outlines.aspect) for row in parameters]
        off = outline_costs(parameters, points, outlines)
        return sight.overlaps(views).mean(axis=1) - _OUTLINE_WEIGHT * off

    start = found[score(found).argmax()]
    found = [camera_of(row, outlines.aspect) for row in (start, polish(start, points, outlines, score))]
    # What is simplified and small misses fine differences, so the polished camera has to prove itself.
    modal = Sight(surfaces, masks).overlaps(found).mean(axis=1)
    camera = found[modal.argmax()]
    alone = float(np.mean(overlaps_alone(camera, surfaces, masks)))
    return replace(camera, overlap=alone, modal_overlap=float(modal.max()))


def camera_of(parameters: np.ndarray, aspect: float) -> PhotoCamera:
    """The camera of parameters (6,), see `outlines`."""
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = rotation_of(parameters[AZIMUTH], parameters[ELEVATION])
    extrinsics[:3, 3] = parameters[POSITION]
    return PhotoCamera(extrinsics, float(np.exp(parameters[LOG_FOCAL])), aspect)


def _search(points: np.ndarray, outlines: MaskOutlines) -> np.ndarray:
    """The best start of each azimuth: parameters (A, 6)."""
    starts = []
    for azimuth in np.deg2rad(AZIMUTHS_DEG):
        choices = np.array(list(product(np.deg2rad(ELEVATIONS_DEG), np.log(FOCALS))))
        parameters = np.zeros((len(choices), 6))
        parameters[:, AZIMUTH] = azimuth
        parameters[:, [ELEVATION, LOG_FOCAL]] = choices
        parameters[:, POSITION] = _positions(parameters, points, outlines)
        errors = np.abs(box_differences(parameters, points, outlines)).sum(axis=(1, 2))
        starts.append(parameters[errors.argmin()])
    return np.array(starts)


def _positions(parameters: np.ndarray, points: np.ndarray, outlines: MaskOutlines) -> np.ndarray:
    """Translations (K, 3) that put turned objects at their mask boxes, by least squares.

    An object at depth z shows its centre at focal * x / z and its width w as focal * w / z: both are linear
    in the translation after multiplication by z.
    """
    turns, rows = np.unique(parameters[:, [AZIMUTH, ELEVATION]], axis=0, return_inverse=True)
    xyz = np.einsum("kij,npj->knpi", rotation_of(*turns.T), points, optimize=True)
    low, high = xyz.min(axis=2)[rows.ravel()], xyz.max(axis=2)[rows.ravel()]  # (K, N, 3)
    centre, size = (low + high) / 2, high - low
    focal = np.exp(parameters[:, LOG_FOCAL])[:, None]
    right, down, left, up = outlines.box_reach().T
    seen = ((right - left) / 2, right + left), ((down - up) / 2, down + up)  # centres and sizes
    lines, values = np.zeros((*centre.shape[:2], 4, 3)), np.zeros((*centre.shape[:2], 4))
    for axis, (middle, length) in enumerate(seen):
        lines[:, :, axis, axis], lines[:, :, axis, 2] = -focal, middle
        values[:, :, axis] = focal * centre[..., axis] - middle * centre[..., 2]
        lines[:, :, 2 + axis, 2] = length
        values[:, :, 2 + axis] = focal * size[..., axis] - length * centre[..., 2]
    lines, values = lines.reshape(len(lines), -1, 3), values.reshape(len(values), -1)
    normal = np.einsum("kri,krj->kij", lines, lines) + 1e-9 * np.eye(3)
    return np.linalg.solve(normal, np.einsum("kri,kr->ki", lines, values)[..., None])[..., 0]
