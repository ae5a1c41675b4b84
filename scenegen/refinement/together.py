"""The photo's camera and the places of the objects, found together from outlines.

A camera that is fitted to objects where the network put them takes the errors of their places over into
itself: seen from near the floor, objects that stand too far back look like a camera that is too high. Here
every object but the query may also move along the floor and turn, and how far it moves counts against that.
Heights stay, because what stands on the floor stands on it, and sizes stay, because an outline cannot tell a
large object far away from a small one nearby.

The unknowns are those of a camera (see `scenegen.photo.outlines`) and three for each object: its shift along
x and z in the query frame, and its turn about y in radians.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scenegen.photo.camera import PhotoCamera, rotation_derivatives, rotation_of
from scenegen.photo.camera_fit import camera_of, parameters_of
from scenegen.photo.outlines import (
    AZIMUTH,
    ELEVATION,
    HIGHEST,
    LOWEST,
    POSITION,
    MaskOutlines,
    NormalEquations,
    outermost_points,
    outline_differences,
)
from scenegen.photo.silhouettes import Surface
from scenegen.refinement.settings import RefinementSettings

_CAMERA, _MOVE = 6, 3  # unknowns of the camera and of an object
_ITERATIONS = 25
_LEAST = 1e-9


def fit_together(
    view: PhotoCamera,
    surfaces: Sequence[Surface],
    centres: np.ndarray,
    masks: Sequence[np.ndarray],
    query: int,
    settings: RefinementSettings,
) -> tuple[PhotoCamera, np.ndarray]:
    """Improve a camera and the places of objects until outlines lie on those of the masks.

    Args:
        view: where the camera begins.
        surfaces: of N objects, in the query frame, y up.
        centres: (N, 3) about which they turn.
        masks: per object, (H, W) bool.
        query: the object that stays where it is.
        settings: what moves cost.

    Returns:
        The camera, and the moves (N, 3) along x and z and about y in radians.
    """
    points = np.stack([outermost_points(surface.vertices) for surface in surfaces])
    problem = _Problem(points, centres, MaskOutlines.of(masks), query, settings)
    found = problem.solve(np.concatenate([parameters_of(view), np.zeros(_MOVE * len(surfaces))]))
    return camera_of(found[:_CAMERA], view.aspect), found[_CAMERA:].reshape(-1, _MOVE)


def moved(points: np.ndarray, centres: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Points (N, P, 3) of objects after moves (N, 3) about centres (N, 3)."""
    cos, sin = np.cos(moves[:, 2]), np.sin(moves[:, 2])
    none, one = np.zeros_like(cos), np.ones_like(cos)
    turns = np.stack([cos, none, sin, none, one, none, -sin, none, cos], axis=1).reshape(-1, 3, 3)
    turned = np.einsum("nij,npj->npi", turns, points - centres[:, None]) + centres[:, None]
    turned[..., 0] += moves[:, None, 0]
    turned[..., 2] += moves[:, None, 1]
    return turned


class _Problem:
    """What a camera and moves cost, and the normal equations around them."""

    def __init__(
        self,
        points: np.ndarray,
        centres: np.ndarray,
        outlines: MaskOutlines,
        query: int,
        settings: RefinementSettings,
    ) -> None:
        self.points, self.centres, self.outlines = points, centres, outlines
        count = len(points)
        reach = np.linalg.norm((centres - centres[query])[:, ::2], axis=1)
        shift = settings.typical_shift * (1 + settings.shift_growth * reach)
        turn = np.full(count, np.deg2rad(settings.typical_turn_deg))
        self.stiffness = settings.move_weight / count / np.stack([shift, shift, turn], axis=1).ravel() ** 2
        self.is_free = np.ones(_CAMERA + _MOVE * count, bool)
        self.is_free[_CAMERA + _MOVE * query :][:_MOVE] = False
        limit = np.tile([settings.max_shift, settings.max_shift, np.pi / 4], count)
        self.lowest, self.highest = np.append(LOWEST, -limit), np.append(HIGHEST, limit)

    def solve(self, start: np.ndarray) -> np.ndarray:
        """The unknowns after damped Gauss-Newton steps."""
        best = np.clip(start, self.lowest, self.highest)
        state, damping = self._linearised(best), 1e-2
        for _ in range(_ITERATIONS):
            hessian = state.hessian[np.ix_(self.is_free, self.is_free)]
            damped = hessian + np.diag(damping * np.diag(hessian) + _LEAST)
            tried = best.copy()
            tried[self.is_free] -= np.linalg.solve(damped, state.gradient[self.is_free])
            tried = np.clip(tried, self.lowest, self.highest)
            new = self._linearised(tried)
            if new.cost < state.cost:
                best, state, damping = tried, new, max(damping / 3, 1e-6)
            else:
                damping = min(damping * 4, 1e6)
        return best

    def _linearised(self, unknowns: np.ndarray) -> NormalEquations:
        camera, moves = unknowns[:_CAMERA], unknowns[_CAMERA:].reshape(-1, _MOVE)
        points = moved(self.points, self.centres, moves)
        found = outline_differences(camera[None], points, self.outlines)
        differences, by_camera = (each[0] for each in found)
        count = len(points)
        by = np.zeros((*differences.shape, len(unknowns)))
        by[..., :_CAMERA] = by_camera
        turn = rotation_of(camera[AZIMUTH], camera[ELEVATION])
        by_azimuth, _ = rotation_derivatives(camera[AZIMUTH], camera[ELEVATION])
        centres = self.centres.copy()
        centres[:, ::2] += moves[:, :2]
        # A turn of the scene about the query is one of the camera the other way round; one of an object about
        # its own centre leaves that centre where it is.
        about_centre = np.einsum("ndi,ij,nj->nd", by_camera[..., POSITION], by_azimuth, centres)
        own = np.concatenate(
            [by_camera[..., POSITION] @ turn[:, ::2], (about_centre - by_camera[..., AZIMUTH])[..., None]],
            axis=-1,
        )
        for row in range(count):
            by[row, :, _CAMERA + _MOVE * row :][:, :_MOVE] = own[row]
        equations = NormalEquations.of(camera[None], differences[None], by[None], self.outlines)
        cost, hessian, gradient = equations.cost[0], equations.hessian[0], equations.gradient[0]
        own_moves = unknowns[_CAMERA:]
        cost = cost + (self.stiffness * own_moves**2).sum() / 2
        gradient[_CAMERA:] += self.stiffness * own_moves
        hessian[np.diag_indices(len(unknowns))] += np.append(np.zeros(_CAMERA), self.stiffness)
        return NormalEquations(cost, hessian, gradient)
