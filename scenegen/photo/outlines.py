"""Outlines of objects and masks, and the cameras under which they agree, by Gauss-Newton steps.

An outline is told by how far it reaches in some directions of the picture, as a box is in four. How far an
object reaches under a camera is known from its outermost points, and so are the derivatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from scenegen.photo.camera import MIN_DEPTH, rotation_derivatives, rotation_of

DIRECTIONS = 16
"""Of the picture, the four of a box among them."""

SPACE_DIRECTIONS = 400
"""In which the outermost points of an object are looked for."""

AZIMUTH, ELEVATION, LOG_FOCAL, POSITION = 0, 1, 2, slice(3, 6)
"""Places in the parameters (..., 6) of a camera: radians, radians, focal length in widths, translation."""

LOWEST = np.array([-np.inf, np.deg2rad(-5), np.log(0.45), -np.inf, -np.inf, -np.inf])
HIGHEST = np.array([np.inf, np.deg2rad(80), np.log(3.0), np.inf, np.inf, np.inf])
"""Of the parameters of a camera."""

_SMALLEST_CURVATURE = 1e-9
_POINTS_AT_ONCE = 1 << 15
_NEIGHBOUR_SHARE = 0.01  # of the photo's width, between masks of which one may hide the other
_UNSEEN_WEIGHT = 0.15  # of reaching further than a mask where its object may go on unseen
_FORGIVEN = 0.01  # photo widths beyond which differences count less than by their square
# Shapes and places are estimates and say little about the lens. One that is not usual, in the logarithm of
# its focal length by d, counts as if outlines were off by a share of d^2 / 2 more; where outlines agree, as
# they do for true shapes, they alone decide.
_LENS_SHARE, _USUAL_LOG_FOCAL = 1.5, 0.0  # 53 degrees across the photo


def outermost_points(cloud: np.ndarray) -> np.ndarray:
    """The outermost points (`SPACE_DIRECTIONS`, 3) of a cloud (N, 3), one in each direction."""
    steps = np.arange(SPACE_DIRECTIONS) + 0.5
    height, turn = 1 - 2 * steps / SPACE_DIRECTIONS, np.pi * (1 + 5**0.5) * steps  # Fibonacci's lattice
    level = np.sqrt(1 - height**2)
    directions = np.stack([level * np.cos(turn), height, level * np.sin(turn)], axis=1).astype(np.float32)
    found = cloud[:0]
    for start in range(0, len(cloud), _POINTS_AT_ONCE):
        part = np.concatenate([found, cloud[start : start + _POINTS_AT_ONCE]])
        found = part[(directions @ part.T.astype(np.float32)).argmax(axis=1)]
    return found


@dataclass(frozen=True)
class MaskOutlines:
    """How far the masks of a photo reach; lengths in widths of the photo from its centre, y down.

    Attributes:
        reach: (N, `DIRECTIONS`) of each mask.
        may_go_on: (N, `DIRECTIONS`) whether the object may reach further unseen: its mask ends at the frame
            or beside another mask.
        aspect: height of the photo over its width.
    """

    reach: np.ndarray
    may_go_on: np.ndarray
    aspect: float

    @classmethod
    def of(cls, masks: Sequence[np.ndarray]) -> MaskOutlines:
        """Those of masks (H, W) bool, none of them empty."""
        height, width = masks[0].shape
        covered = np.sum(masks, axis=0)
        radius = max(round(_NEIGHBOUR_SHARE * width), 1)
        reaches, open_ends = [], []
        for mask in masks:
            ends = _row_ends(mask)  # (P, 2) x, y in pixels
            along = ends @ picture_directions().T
            last = ends[along.argmax(axis=0)]  # (D, 2)
            reaches.append(along.max(axis=0))
            at_frame = (last <= 1).any(axis=1) | (last >= [width - 1, height - 1]).any(axis=1)
            others = ndimage.maximum_filter(covered - mask > 0, 2 * radius + 1)
            columns, rows = np.minimum(last, [width - 1, height - 1]).astype(int).T
            open_ends.append(at_frame | others[rows, columns])
        middle = picture_directions() @ [width / 2, height / 2]
        return cls((np.array(reaches) - middle) / width, np.array(open_ends), height / width)

    def box_reach(self) -> np.ndarray:
        """(N, 4) how far each mask reaches to the right, down, left and up."""
        return self.reach[:, :: DIRECTIONS // 4]


def picture_directions() -> np.ndarray:
    """Unit vectors (`DIRECTIONS`, 2) of the picture, x right and y down; every fourth is along an axis."""
    turns = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)
    return np.stack([np.cos(turns), np.sin(turns)], axis=1)


def _row_ends(mask: np.ndarray) -> np.ndarray:
    """Corners (P, 2), x and y in pixels, of the first and last pixels of a mask's rows."""
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - mask[rows, ::-1].argmax(axis=1)
    return np.concatenate([np.stack([x, rows + low], axis=1) for x in (first, last) for low in (0, 1)])


def box_differences(parameters: np.ndarray, points: np.ndarray, masks: MaskOutlines) -> np.ndarray:
    """How much further objects reach than their masks along the axes of the picture, up to its frame.

    Args:
        parameters: (K, 6) cameras.
        points: (N, P, 3) outermost points of the objects, query frame.

    Returns:
        (K, N, 4) right, down, left and up, in widths of the photo.
    """
    uv, _ = _projected(parameters, points)
    reach = np.concatenate([uv.max(axis=2), -uv.min(axis=2)], axis=-1)  # right, down, left, up
    frame = np.array([0.5, masks.aspect / 2, 0.5, masks.aspect / 2])
    return np.minimum(reach, frame) - masks.box_reach()


def outline_differences(
    parameters: np.ndarray, points: np.ndarray, masks: MaskOutlines
) -> tuple[np.ndarray, np.ndarray]:
    """How much further objects reach than their masks under cameras.

    Args:
        parameters: (K, 6) cameras.
        points: (N, P, 3) outermost points of the objects, query frame.

    Returns:
        (K, N, `DIRECTIONS`) differences in widths of the photo, and their derivatives (..., 6).
    """
    uv, depth = _projected(parameters, points)
    directions = picture_directions()
    along = directions @ uv.swapaxes(2, 3)  # (K, N, D, P)
    last = along.argmax(axis=3)  # (K, N, D)
    reach = np.take_along_axis(along, last[..., None], axis=3)[..., 0]
    row = np.arange(points.shape[0])[:, None]
    at = np.arange(len(parameters))[:, None, None], row, last
    place, point = uv[at], points[row, last]  # (K, N, D, ...)
    focal = np.exp(parameters[:, LOG_FOCAL])[:, None, None]
    to_xyz = np.empty((*place.shape[:-1], 3))  # derivative of the reach by the place in the camera's frame
    to_xyz[..., :2] = directions
    to_xyz[..., 2] = -(place * directions).sum(axis=-1) / focal
    to_xyz *= (focal / depth[at])[..., None]
    by = np.empty((*reach.shape, 6))
    turned = rotation_derivatives(parameters[:, AZIMUTH], parameters[:, ELEVATION])
    for index, turn in zip((AZIMUTH, ELEVATION), turned):
        by[..., index] = np.einsum("kndi,kij,kndj->knd", to_xyz, turn, point, optimize=True)
    by[..., LOG_FOCAL] = reach
    by[..., POSITION] = to_xyz
    return reach - masks.reach, by


def _projected(parameters: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places (K, N, P, 2) of points (N, P, 3) in the photo, and their depths (K, N, P)."""
    turns = rotation_of(parameters[:, AZIMUTH], parameters[:, ELEVATION])
    xyz = np.einsum("kij,npj->knpi", turns, points, optimize=True)
    xyz += parameters[:, None, None, POSITION]
    depth = np.maximum(xyz[..., 2], MIN_DEPTH)
    focal = np.exp(parameters[:, LOG_FOCAL])[:, None, None, None]
    return focal * xyz[..., :2] / depth[..., None], depth


def match_outlines(
    parameters: np.ndarray, points: np.ndarray, masks: MaskOutlines, iterations: int
) -> tuple[np.ndarray, np.ndarray]:
    """Improve cameras until the outlines of the objects lie on those of their masks.

    Args:
        parameters: (K, 6) starts.
        points: (N, P, 3) outermost points of the objects, query frame.
        masks: N masks.
        iterations: Levenberg-Marquardt steps.

    Returns:
        (K, 6) cameras, and how far (K,) their outlines are off and their lenses unusual.
    """
    best = np.clip(parameters, LOWEST, HIGHEST)
    state = _Linearised.at(best, points, masks)
    damping = np.full(len(best), 1e-2)
    for _ in range(iterations):
        tried = np.clip(best + state.step(damping), LOWEST, HIGHEST)
        new = _Linearised.at(tried, points, masks)
        better = new.cost < state.cost
        best = np.where(better[:, None], tried, best)
        state = state.replaced(new, better)
        damping = np.clip(np.where(better, damping / 3, damping * 4), 1e-6, 1e6)
    return best, state.cost


def outline_costs(parameters: np.ndarray, points: np.ndarray, masks: MaskOutlines) -> np.ndarray:
    """How far outlines are off and lenses unusual under cameras (K, 6): (K,), as in `match_outlines`."""
    return _Linearised.at(parameters, points, masks).cost


@dataclass(frozen=True)
class _Linearised:
    """What K cameras cost, and the normal equations of the squared differences around them."""

    cost: np.ndarray  # (K,)
    hessian: np.ndarray  # (K, 6, 6)
    gradient: np.ndarray  # (K, 6)

    @classmethod
    def at(cls, parameters: np.ndarray, points: np.ndarray, masks: MaskOutlines) -> _Linearised:
        differences, by = outline_differences(parameters, points, masks)
        share = np.where(masks.may_go_on & (differences > 0), _UNSEEN_WEIGHT, 1.0)
        root = np.sqrt(1 + (differences / _FORGIVEN) ** 2)  # the loss is that of soft_l1
        weights = share / root / _FORGIVEN / differences[0].size
        hessian = np.einsum("knd,kndi,kndj->kij", weights, by, by, optimize=True)
        gradient = np.einsum("knd,kndi,knd->ki", weights, by, differences, optimize=True)
        off = (share * _FORGIVEN * (root - 1)).mean(axis=(1, 2))
        unusual = parameters[:, LOG_FOCAL] - _USUAL_LOG_FOCAL
        hessian[:, LOG_FOCAL, LOG_FOCAL] += _LENS_SHARE * off
        gradient[:, LOG_FOCAL] += _LENS_SHARE * off * unusual
        cost = off * (1 + _LENS_SHARE * unusual**2 / 2)
        return cls(cost, hessian, gradient)

    def step(self, damping: np.ndarray) -> np.ndarray:
        """Damped Gauss-Newton steps (K, 6)."""
        diagonal = np.einsum("kii->ki", self.hessian)
        damped = self.hessian + np.eye(6) * (damping[:, None] * diagonal + _SMALLEST_CURVATURE)[:, None]
        return -np.linalg.solve(damped, self.gradient[..., None])[..., 0]

    def replaced(self, new: _Linearised, chosen: np.ndarray) -> _Linearised:
        """Those of the cameras ``chosen`` (K,) bool taken from another one."""
        return _Linearised(
            np.where(chosen, new.cost, self.cost),
            np.where(chosen[:, None, None], new.hessian, self.hessian),
            np.where(chosen[:, None], new.gradient, self.gradient),
        )
