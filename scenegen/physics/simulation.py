"""What happens to a scene under gravity: MuJoCo simulates it and says which objects stay as they are.

An object is stable if it drifts by less than 2 % of the scene's size and turns by less than 10 degrees within
two seconds. Both have to hold: a scene that may settle first is still, and has objects lying on their sides.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scenegen.physics.bodies import RigidBody
from scenegen.physics.mujoco_model import TIMESTEP, mjcf
from scenegen.physics.packages import check_packages

SECONDS = 2.0
MAX_DRIFT = 0.02
"""Share of the scene's size."""
MAX_TURN_DEG = 10.0


@dataclass(frozen=True)
class Motion:
    """What became of one object.

    Attributes:
        drift: metres from its first to its last place (centre of mass).
        fall: metres that its centre of mass sinks.
        turn_deg: angle between its first and its last orientation.
        peak_speed: metres a second of its centre of mass.
        peak_energy: joules of kinetic energy a kilogram.
        penetration: metres by which it overlaps another object or the floor at the start.
        stable: whether it stayed.
    """

    drift: float
    fall: float
    turn_deg: float
    peak_speed: float
    peak_energy: float
    penetration: float
    stable: bool


def simulate(bodies: Sequence[RigidBody], size: float | None = None) -> list[Motion]:
    """Let a scene go under gravity for `SECONDS`.

    Args:
        bodies: objects at rest.
        size: of the scene in metres, by which drift is judged; None takes the longest side of all parts' box.

    Returns:
        What became of each object.

    Raises:
        PhysicsUnavailable: MuJoCo is not installed.
    """
    return [motion for _, motion in _simulated(bodies, (), size)]


def settle(bodies: Sequence[RigidBody], fixed: Collection[str] = ()) -> list[tuple[RigidBody, Motion]]:
    """Let a scene go under gravity for `SECONDS`, as `simulate` does, and say where its objects are then.

    Args:
        bodies: objects at rest.
        fixed: names of those that do not move.
    """
    return _simulated(bodies, fixed, None)


def _simulated(
    bodies: Sequence[RigidBody], fixed: Collection[str], size: float | None
) -> list[tuple[RigidBody, Motion]]:
    """Each object as it is afterwards, and what became of it."""
    if not bodies:
        return []
    check_packages(("mujoco",))
    import mujoco

    model = mujoco.MjModel.from_xml_string(mjcf(bodies, fixed=fixed))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    rows = [mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, body.name) for body in bodies]
    penetration = _penetration(model, data, rows)
    first, turned = data.xipos[rows].copy(), data.xmat[rows].reshape(-1, 3, 3).copy()
    masses = np.array([body.mass for body in bodies])
    speed, energy = np.zeros(len(bodies)), np.zeros(len(bodies))
    for _ in range(round(SECONDS / TIMESTEP)):
        mujoco.mj_step(model, data)
        velocity = data.cvel[rows]  # (N, 6): turn, then shift, about the centre of mass of the object's tree
        speed = np.maximum(speed, np.linalg.norm(velocity[:, 3:], axis=1))
        energy = np.maximum(energy, _kinetic_energy(data, model, rows, velocity) / masses)
    drift = np.linalg.norm(data.xipos[rows] - first, axis=1)
    cosines = (np.einsum("nij,nij->n", data.xmat[rows].reshape(-1, 3, 3), turned) - 1) / 2
    turn = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    scene_size = size or scene_extent(bodies)
    ends = data.xpos[rows], data.xmat[rows].reshape(-1, 3, 3)
    motions = [
        Motion(
            drift=float(drift[row]),
            fall=float(first[row, 2] - data.xipos[rows[row], 2]),
            turn_deg=float(turn[row]),
            peak_speed=float(speed[row]),
            peak_energy=float(energy[row]),
            penetration=float(penetration[row]),
            stable=bool(drift[row] < MAX_DRIFT * scene_size and turn[row] < MAX_TURN_DEG),
        )
        for row in range(len(bodies))
    ]
    moved = [
        replace(body, position=position.copy(), rotation=rotation.copy())
        for body, position, rotation in zip(bodies, *ends, strict=True)
    ]
    return list(zip(moved, motions, strict=True))


def scene_extent(bodies: Sequence[RigidBody]) -> float:
    """Longest side, in metres, of the box of all parts in place; 0 without bodies."""
    if not bodies:
        return 0.0
    return float(np.ptp(np.concatenate([_corners(body) for body in bodies]), axis=0).max())


def lowest_height(body: RigidBody) -> float:
    """Height, in metres, of the lowest corner of an object in place."""
    return float(_corners(body)[:, 2].min())


def _corners(body: RigidBody) -> np.ndarray:
    return np.concatenate(body.parts) @ body.rotation.T + body.position


def _penetration(model, data, rows: Sequence[int]) -> np.ndarray:  # noqa: ANN001  (types of MuJoCo)
    """Deepest overlap of each object with others and the floor, in metres."""
    deepest = np.zeros(model.nbody)
    for contact in data.contact[: data.ncon]:
        for geom in contact.geom:
            body = model.geom_bodyid[geom]
            deepest[body] = max(deepest[body], -contact.dist)
    return deepest[list(rows)]


def _kinetic_energy(data, model, rows: Sequence[int], velocity: np.ndarray) -> np.ndarray:  # noqa: ANN001
    """Joules of each object; velocity (N, 6) about its centre of mass."""
    axes = data.ximat[rows].reshape(-1, 3, 3)
    spin = np.einsum("nij,ni->nj", axes, velocity[:, :3])  # along the principal axes of inertia
    turning = (model.body_inertia[rows] * spin**2).sum(axis=1)
    return 0.5 * (model.body_mass[rows] * (velocity[:, 3:] ** 2).sum(axis=1) + turning)
