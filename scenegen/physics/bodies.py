"""Objects of a scene as rigid bodies: z up, in metres, the floor at height 0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scenegen.physics.colliders import Collider
from scenegen.physics.packages import DENSITY

_YUP_TO_ZUP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


def world_transform(floor: float, metres: float) -> np.ndarray:
    """(4, 4) from a scene with y up to the world: z up, metres, the floor at 0; see `rigid_body`."""
    transform = np.eye(4)
    transform[:3, :3] = metres * _YUP_TO_ZUP
    transform[:3, 3] = _YUP_TO_ZUP @ [0.0, -metres * floor, 0.0]
    return transform


def without_scale(transform: np.ndarray) -> tuple[np.ndarray, float]:
    """A placement (4, 4) of turn, shift and equal scales as one without scale, and the scale."""
    scale = float(np.cbrt(np.linalg.det(transform[:3, :3])))
    rigid = np.array(transform, np.float64)
    rigid[:3, :3] /= scale
    return rigid, scale


@dataclass(frozen=True)
class RigidBody:
    """One object.

    Attributes:
        name: of its node.
        size: metres of one unit of the object's own frame, which has y up.
        position: (3,) of the origin of that frame in the world, in metres.
        rotation: (3, 3) from the object's axes to those of the world, which has z up.
        parts: (V, 3) each: corners of convex parts along the object's axes, in metres.
        mass: kilograms.
        centre: (3,) centre of mass along the object's axes, in metres.
        inertia: (3, 3) about that centre along the object's axes, kg m^2.
    """

    name: str
    size: float
    position: np.ndarray
    rotation: np.ndarray
    parts: tuple[np.ndarray, ...]
    mass: float
    centre: np.ndarray
    inertia: np.ndarray


def rigid_body(
    name: str,
    collider: Collider,
    transform: np.ndarray,
    floor: float,
    metres: float,
    density: float = DENSITY,
) -> RigidBody:
    """Place the collider of an object.

    Args:
        name: of the object.
        collider: in the object's frame, y up.
        transform: (4, 4) from there to the scene, y up: a turn, a shift and the same scale in all axes.
        floor: its height in units of the scene.
        metres: length of one unit of the scene.
        density: kilograms a cubic metre.
    """
    placed, size = without_scale(world_transform(floor, metres) @ transform)
    mass = density * size**3
    return RigidBody(
        name=name,
        size=size,
        position=placed[:3, 3],
        rotation=placed[:3, :3],
        parts=tuple(size * part for part in collider.parts),
        mass=mass * collider.volume,
        centre=size * collider.centre,
        inertia=mass * size**2 * collider.inertia,
    )
