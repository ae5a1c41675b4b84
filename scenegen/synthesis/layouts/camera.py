"""Cameras from which every item of a group is seen."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scenegen.synthesis.layouts.footprints import Item
from scenegen.synthesis.layouts.options import ComposerOptions, Range
from scenegen.synthesis.layouts.scene_layout import Camera, Wall, cross, vector3, yaw_matrix

NEAREST_WALL_M = 0.2
"""The camera is at least so far in front of a wall."""

_BOX_CORNERS = np.array(list(itertools.product((-0.5, 0.5), repeat=3)))
_BOX_SAMPLES = np.array(
    list(itertools.product((-0.42, 0.0, 0.42), (-0.42, -0.14, 0.14, 0.42), (-0.42, 0.0, 0.42)))
)
_NEAREST_CORNER_M = 0.25
_LOWEST_CAMERA_M = 0.15
_OUTERMOST = 0.98  # part of the half image that corners may reach after the group is moved off the centre
_OFF_CENTRE = 0.4  # part of the room for that move that is used
_LOW_IN_FRAME = (-0.2, 0.95)  # part of the room for a move down, for groups that are small in the picture
_OCCLUDER_SHRINK = 0.85  # a box overstates what its furniture hides


@dataclass(frozen=True)
class _Style:
    """What is drawn once for a scene, before its cameras are."""

    elevation_deg: Range
    fov_deg: Range
    fill: Range
    is_small: bool  # the group is moved low in the frame
    is_cut: bool
    is_hidden: bool

    @classmethod
    def draw(cls, rng: np.random.Generator, options: ComposerOptions) -> _Style:
        def happens(probability: float) -> bool:
            return probability > 0 and bool(rng.random() < probability)

        is_low, is_wide = happens(options.low_probability), happens(options.wide_probability)
        is_small, is_cut = happens(options.small_probability), happens(options.cut_probability)
        fill = options.cut_fill if is_cut else options.small_fill if is_small else options.fill
        return cls(
            options.low_elevation_deg if is_low else options.elevation_deg,
            options.wide_fov_deg if is_wide else options.fov_deg,
            fill,
            is_small and not is_cut,
            is_cut,
            happens(options.hidden_probability),
        )


def find_camera(
    rng: np.random.Generator,
    items: Sequence[Item],
    options: ComposerOptions,
    walls: Sequence[Wall] = (),
    ceiling_m: float | None = None,
) -> Camera | None:
    """Draw cameras until one sees every item; None after a few.

    Args:
        walls, ceiling_m: the camera is in front of these walls and below the ceiling.
    """
    style = _Style.draw(rng, options)
    centres = np.array([item.centre for item in items])
    sizes = np.array([item.size for item in items])
    rotations = yaw_matrix(np.array([item.yaw for item in items]))
    corners = _box_points(_BOX_CORNERS, centres, sizes, rotations)  # (N, 8, 3)
    samples = _box_points(_BOX_SAMPLES, centres, sizes, rotations)  # (N, P, 3)
    least, most = options.hidden_visible_fraction if style.is_hidden else (options.min_visible_fraction, 1.0)
    if style.is_cut:
        least *= options.min_in_frame
    found = None
    for _ in range(4):
        camera = _draw_camera(rng, corners.reshape(-1, 3), items[0].yaw, style)
        if not _is_inside(camera, walls, ceiling_m) or _smallest_extent(camera, corners) < options.min_extent:
            continue
        visible = _visible_samples(np.asarray(camera.position), samples, centres, sizes, rotations)
        if style.is_cut:
            in_frame = _in_frame(camera, samples)
            if in_frame.mean(axis=1).min() < options.min_in_frame:
                continue
            visible &= in_frame
        fraction = visible.mean(axis=1).min()
        if least <= fraction <= most:
            return camera
        if fraction > most:
            found = found or camera
    return found


def _is_inside(camera: Camera, walls: Sequence[Wall], ceiling_m: float | None) -> bool:
    """Whether the camera is above the floor, in front of the walls and below the ceiling."""
    x, y, z = camera.position
    if y < _LOWEST_CAMERA_M or (ceiling_m is not None and y > ceiling_m - _LOWEST_CAMERA_M):
        return False
    return all(
        (x - wall.point[0]) * wall.normal[0] + (z - wall.point[2]) * wall.normal[2] > NEAREST_WALL_M
        for wall in walls
    )


def _draw_camera(rng: np.random.Generator, corners: np.ndarray, anchor_yaw: float, style: _Style) -> Camera:
    """Draw direction and lens, then the nearest place from which all corners (P, 3) are in view.

    With a fill above 1 they reach that far out of the frame.
    """
    elevation = math.radians(rng.uniform(*style.elevation_deg))
    from_front = rng.normal(0.0, math.radians(45)) if rng.random() < 0.75 else rng.uniform(-math.pi, math.pi)
    azimuth = anchor_yaw + from_front
    fov_deg = rng.uniform(*style.fov_deg)
    level = math.cos(elevation)
    back = np.array([math.sin(azimuth) * level, math.sin(elevation), math.cos(azimuth) * level])  # to camera
    right = np.array([math.cos(azimuth), 0.0, -math.sin(azimuth)])
    up = cross(back, right)
    centre = (corners.min(axis=0) + corners.max(axis=0)) / 2
    towards = (corners - centre) @ back
    aside = [(corners - centre) @ axis for axis in (right, up)]
    half_image = math.tan(math.radians(fov_deg) / 2)
    near_reach = half_image * rng.uniform(*style.fill)
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
        is_lowered = style.is_small and axis is up
        move = rng.uniform(*(_LOW_IN_FRAME if is_lowered else (-_OFF_CENTRE, _OFF_CENTRE)))
        target += ((low + high) / 2 + (high - low) / 2 * move) * axis
    return Camera(position=vector3(target + distance * back), target=vector3(target), fov_deg=float(fov_deg))


def _smallest_extent(camera: Camera, corners: np.ndarray) -> float:
    """Longest side of each projected box over the image side, smallest over the items; corners (N, 8, 3)."""
    extrinsics = camera.extrinsics()
    seen = corners @ extrinsics[:3, :3].T + extrinsics[:3, 3]
    image = seen[..., :2] / (seen[..., 2:] * 2 * math.tan(math.radians(camera.fov_deg) / 2))
    return float((image.max(axis=1) - image.min(axis=1)).max(axis=1).min())


def box_shares(camera: Camera, items: Sequence[Item]) -> tuple[np.ndarray, np.ndarray]:
    """Parts (N,) of each item's box, as sample points: not behind others, and not cut off by the frame."""
    centres = np.array([item.centre for item in items])
    sizes = np.array([item.size for item in items])
    rotations = yaw_matrix(np.array([item.yaw for item in items]))
    samples = _box_points(_BOX_SAMPLES, centres, sizes, rotations)
    visible = _visible_samples(np.asarray(camera.position), samples, centres, sizes, rotations)
    return visible.mean(axis=1), _in_frame(camera, samples).mean(axis=1)


def _in_frame(camera: Camera, points: np.ndarray) -> np.ndarray:
    """Which of the points (N, P, 3) the picture shows when nothing is before them; returns (N, P)."""
    extrinsics = camera.extrinsics()
    seen = points @ extrinsics[:3, :3].T + extrinsics[:3, 3]
    reach = seen[..., 2:] * math.tan(math.radians(camera.fov_deg) / 2)
    return (np.abs(seen[..., :2]) <= reach).all(axis=-1)


def _visible_samples(
    eye: np.ndarray, samples: np.ndarray, centres: np.ndarray, sizes: np.ndarray, rotations: np.ndarray
) -> np.ndarray:
    """Which of each item's sample points (N, P, 3) are not behind another item's (shrunk) box; (N, P)."""
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
    return ~blocked.any(axis=2)


def _box_points(
    unit_points: np.ndarray, centres: np.ndarray, sizes: np.ndarray, rotations: np.ndarray
) -> np.ndarray:
    """Map points of the unit box (P, 3) into each item's box; returns (N, P, 3)."""
    return np.einsum("nij,npj->npi", rotations, unit_points[None] * sizes[:, None]) + centres[:, None]
