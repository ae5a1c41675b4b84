"""Feet on which an object stands: an even underside, and plain legs where nothing else tells of any.

Generated shapes have undersides that are a little round and legs of uneven length, so that they stand on
what happens to be lowest. Where the centre of mass is not well above that, the underside is drawn down to
one level. What stands on too little even then gets straight legs below its body: as few as hold it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import trimesh
from scipy import ndimage
from scipy.spatial import cKDTree

from scenegen.physics.balance import TOUCHING, lowest_points, support_margin
from scenegen.refinement.parts import joined_meshes, prism, rebuilt
from scenegen.refinement.solid import solid_of

_RESOLUTION = 64
_STEADY_DEG = 6.0  # by which an object has to lean before it falls, or its underside is evened ...
_SLENDER_DEG = 2.0  # ... and by which what is slender has to, as a lamp with its small base, or it gets legs
_LEAST_MARGIN = 0.02  # of the longest side: how far inside its feet the centre of mass of a steady object is
_LEVELS = (0.01, 0.02, 0.03, 0.045, 0.065, 0.09)  # of the height: up to where an underside is drawn down
_LEFT = 0.02  # of its unevenness
_DIRECTIONS = 16  # in which places of plain legs are looked for, at the rim of the body ...
_SHARES = (1.0, 0.6)  # ... and on the way there
_MOST_LEGS = 3  # plain ones
_LEG = 0.045  # of the longest side: their width
_RIMS = (5, 3)  # cells: where a body is so wide, half of that is left between a leg's middle and its rim
_BITE = 2  # cells: how far they go into the body


@dataclass(frozen=True)
class Footing:
    """An object whose feet were looked at.

    Attributes:
        mesh: the one given where nothing was changed.
        levelled: up to how far above its lowest point the underside was drawn down, in the units of the mesh.
        legs: how many plain legs it was given.
        steady: whether its centre of mass is well above what it stands on.
    """

    mesh: trimesh.Trimesh
    levelled: float = 0.0
    legs: int = 0
    steady: bool = True


def complete_footing(mesh: trimesh.Trimesh) -> Footing:
    """Give an object something to stand on.

    Args:
        mesh: object y-up frame, in [-0.5, 0.5]^3, upright.

    Returns:
        The object; as it is where it is steady, and where nothing makes it so.
    """
    fill = solid_of(mesh, _RESOLUTION).fill.numpy()
    if not fill.any():
        return Footing(mesh, steady=False)
    centre = np.array([np.average(_centres(), weights=fill.sum(axis=others)) for others in _OTHERS])
    height = float(np.ptp(mesh.vertices[:, 1]))
    depths = (0.0, *(share * height for share in _LEVELS))
    for lean, depth in itertools.product((_STEADY_DEG, _SLENDER_DEG), depths):
        if _is_steady(_lowest(mesh, max(depth, TOUCHING)), centre, lean):
            return Footing(_levelled(mesh, depth) if depth else mesh, levelled=depth)
    places = _places_of_legs(mesh, fill, centre)
    if not places:
        return Footing(mesh, steady=False)
    low = float(mesh.vertices[:, 1].min())
    legs = [_leg(mesh, fill, place, low) for place in places]
    return Footing(joined_meshes([mesh, *legs], mesh), legs=len(legs))


_OTHERS = ((1, 2), (0, 2), (0, 1))
"""For each axis the other two."""


def _centres() -> np.ndarray:
    """Middles of cells along an axis."""
    return np.linspace(-0.5, 0.5, _RESOLUTION)


def _lowest(mesh: trimesh.Trimesh, above: float) -> np.ndarray:
    """Corners (P, 3) of a mesh that are no higher than that above its lowest one."""
    return lowest_points(np.asarray(mesh.vertices)[np.unique(mesh.faces)], above)


def _is_steady(feet: np.ndarray, centre: np.ndarray, lean: float = _STEADY_DEG) -> bool:
    """Whether an object with a centre of mass (3,) on points (P, 3) stands while it leans by some degrees."""
    height = max(centre[1] - float(feet[:, 1].min()), 0.0)
    least = _LEAST_MARGIN * lean / _STEADY_DEG
    needed = max(least, math.tan(math.radians(lean)) * height)
    return support_margin(feet[:, [0, 2]], centre[[0, 2]]) >= needed


def _levelled(mesh: trimesh.Trimesh, depth: float) -> trimesh.Trimesh:
    """A mesh whose underside is even: what is less than a depth above the lowest point goes down to it.

    What is up to three depths above is stretched, and the rest stays. Nothing becomes flat, so that the
    surface stays closed and has no faces without area.
    """
    vertices = np.array(mesh.vertices, np.float64)
    low = vertices[:, 1].min()
    steps, heights = np.array([0.0, 1.0, 3.0]) * depth, np.array([0.0, _LEFT, 3.0]) * depth
    above = vertices[:, 1] - low
    near = above < steps[-1]
    vertices[near, 1] = low + np.interp(above[near], steps, heights)
    return rebuilt(mesh, vertices, np.asarray(mesh.faces), np.arange(len(vertices)))


def _places_of_legs(mesh: trimesh.Trimesh, fill: np.ndarray, centre: np.ndarray) -> Sequence[np.ndarray]:
    """Where (x, z) plain legs make an object steady: as few as can be, where they hold best."""
    shadow = fill.any(axis=1)
    inner = [ndimage.binary_erosion(shadow, np.ones((width, width))) for width in _RIMS]
    cells = _centres()[np.argwhere(next((each for each in inner if each.any()), shadow))]
    angles = 2 * np.pi / _DIRECTIONS * np.arange(_DIRECTIONS)
    rim = cells[np.argmax(cells @ np.stack([np.cos(angles), np.sin(angles)]), axis=0)]
    middle = centre[[0, 2]]
    wanted = np.concatenate([middle + share * (rim - middle) for share in _SHARES])
    found = np.unique(cells[cKDTree(cells).query(wanted)[1]], axis=0)
    feet = _lowest(mesh, TOUCHING)
    corners = 0.5 * _LEG * np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])
    height = float(feet[:, 1].min())
    for count in range(1, _MOST_LEGS + 1):
        best = max(
            itertools.combinations(found, count),
            key=lambda places: support_margin(_with_legs(feet, places, corners), middle),
            default=(),
        )
        on_legs = _with_legs(feet, best, corners)
        if best and _is_steady(np.insert(on_legs, 1, height, axis=1), centre):
            return best
    return ()


def _with_legs(feet: np.ndarray, places: Sequence[np.ndarray], corners: np.ndarray) -> np.ndarray:
    """(Q, 2) what an object stands on: points of its own, and the corners of legs."""
    return np.concatenate([feet[:, [0, 2]], *(place + corners for place in places)])


def _leg(mesh: trimesh.Trimesh, fill: np.ndarray, place: np.ndarray, low: float) -> trimesh.Trimesh:
    """A straight leg from the lowest level of an object into its body, with the look of the body there."""
    x, z = (int(np.argmin(np.abs(_centres() - value))) for value in place)
    under = int(np.flatnonzero(fill[x, :, z])[0])
    top = _centres()[min(under + _BITE, _RESOLUTION - 1)]
    ends = np.array([[place[0], low, place[1]], [place[0], max(top, low + _LEG), place[1]]])
    return prism(mesh, ends, _LEG)
