"""Cameras from which every item of a group is seen."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from scenegen.synthesis.layouts.footprints import Item
from scenegen.synthesis.layouts.options import ComposerOptions
from scenegen.synthesis.layouts.scene_layout import Camera, vector3, yaw_matrix

_BOX_CORNERS = np.array(list(itertools.product((-0.5, 0.5), repeat=3)))
_BOX_SAMPLES = np.array(
    list(itertools.product((-0.42, 0.0, 0.42), (-0.42, -0.14, 0.14, 0.42), (-0.42, 0.0, 0.42)))
)
_NEAREST_CORNER_M = 0.25
_LOWEST_CAMERA_M = 0.15
_OUTERMOST = 0.98  # part of the half image that corners may reach after the group is moved off the centre
_OFF_CENTRE = 0.4  # part of the room for that move that is used
_OCCLUDER_SHRINK = 0.85  # a box overstates what its furniture hides


def find_camera(rng: np.random.Generator, items: Sequence[Item], options: ComposerOptions) -> Camera | None:
    """Draw cameras until one sees every item; None after a few."""
    centres = np.array([item.centre for item in items])
    sizes = np.array([item.size for item in items])
    rotations = yaw_matrix(np.array([item.yaw for item in items]))
    corners = _box_points(_BOX_CORNERS, centres, sizes, rotations)  # (N, 8, 3)
    samples = _box_points(_BOX_SAMPLES, centres, sizes, rotations)  # (N, P, 3)
    for _ in range(4):
        camera = _draw_camera(rng, corners.reshape(-1, 3), items[0].yaw, options)
        if camera.position[1] < _LOWEST_CAMERA_M or _smallest_extent(camera, corners) < options.min_extent:
            continue
        visible = _visible_fractions(np.asarray(camera.position), samples, centres, sizes, rotations)
        if visible.min() >= options.min_visible_fraction:
            return camera
    return None


def _draw_camera(
    rng: np.random.Generator, corners: np.ndarray, anchor_yaw: float, options: ComposerOptions
) -> Camera:
    """Draw direction and lens, then the nearest place from which all corners (P, 3) are in view."""
    elevation = math.radians(rng.uniform(*options.elevation_deg))
    from_front = rng.normal(0.0, math.radians(45)) if rng.random() < 0.75 else rng.uniform(-math.pi, math.pi)
    azimuth = anchor_yaw + from_front
    fov_deg = rng.uniform(*options.fov_deg)
    level = math.cos(elevation)
    back = np.array([math.sin(azimuth) * level, math.sin(elevation), math.cos(azimuth) * level])  # to camera
    right = np.array([math.cos(azimuth), 0.0, -math.sin(azimuth)])
    up = np.cross(back, right)
    centre = (corners.min(axis=0) + corners.max(axis=0)) / 2
    towards = (corners - centre) @ back
    aside = [(corners - centre) @ axis for axis in (right, up)]
    half_image = math.tan(math.radians(fov_deg) / 2)
    near_reach = half_image * rng.uniform(*options.fill)
    distance = towards.max() + _NEAREST_CORNER_M
    for offsets in aside:
        # A corner is in view from the shift s when |offset - s| <= reach * (distance - towards).
        least, most = (offsets / near_reach + towards).max(), (towards - offsets / near_reach).max()
        distance = max(distance, (least + most) / 2)
    target = centre.copy()
    for axis, offsets in zip((right, up), aside):
        reach = half_image * _OUTERMOST
        low = (offsets - reach * (distance - towards)).max()
        high = (offsets + reach * (distance - towards)).min()
        target += ((low + high) / 2 + (high - low) / 2 * rng.uniform(-_OFF_CENTRE, _OFF_CENTRE)) * axis
    return Camera(position=vector3(target + distance * back), target=vector3(target), fov_deg=float(fov_deg))


def _smallest_extent(camera: Camera, corners: np.ndarray) -> float:
    """Longest side of each projected box over the image side, smallest over the items; corners (N, 8, 3)."""
    extrinsics = camera.extrinsics()
    seen = corners @ extrinsics[:3, :3].T + extrinsics[:3, 3]
    image = seen[..., :2] / (seen[..., 2:] * 2 * math.tan(math.radians(camera.fov_deg) / 2))
    return float((image.max(axis=1) - image.min(axis=1)).max(axis=1).min())


def _visible_fractions(
    eye: np.ndarray, samples: np.ndarray, centres: np.ndarray, sizes: np.ndarray, rotations: np.ndarray
) -> np.ndarray:
    """Part of each item's sample points (N, P, 3) not behind another item's (shrunk) box; returns (N,)."""
    count, per_item = samples.shape[:2]
    scale = 2.0 / (_OCCLUDER_SHRINK * sizes)  # box-local coordinates with the box as [-1, 1]^3
    starts = np.einsum("bji,bj->bi", rotations, eye - centres) * scale  # (B, 3)
    ends = np.einsum("bji,pbj->pbi", rotations, samples.reshape(-1, 1, 3) - centres) * scale  # (N*P, B, 3)
    steps = ends - starts
    steps[np.abs(steps) < 1e-9] = 1e-9
    first, second = (-1.0 - starts) / steps, (1.0 - starts) / steps
    enter = np.minimum(first, second).max(axis=-1)
    leave = np.maximum(first, second).min(axis=-1)
    blocked = ((enter < leave) & (leave > 0) & (enter < 1.0)).reshape(count, per_item, count)
    blocked[np.arange(count), :, np.arange(count)] = False
    return 1.0 - blocked.any(axis=2).mean(axis=1)


def _box_points(
    unit_points: np.ndarray, centres: np.ndarray, sizes: np.ndarray, rotations: np.ndarray
) -> np.ndarray:
    """Map points of the unit box (P, 3) into each item's box; returns (N, P, 3)."""
    return np.einsum("nij,npj->npi", rotations, unit_points[None] * sizes[:, None]) + centres[:, None]
