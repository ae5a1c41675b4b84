"""The last step of refinement: objects come to rest under gravity, and none is left lying.

Placement leaves gaps of a voxel below objects, and uneven feet. Here MuJoCo lets the scene go for two
seconds. An object that would fall over is kept where it was, and the others settle again around it: upright
is nearer to the photo than lying. The query, in whose frame all poses are, and what hangs stay where they
are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import trimesh
from torch import Tensor

from scenegen.geometry import (
    ROTATION,
    TRANSLATION,
    apply_transform,
    pose_to_transform,
    rotation_angle_deg,
    sanitize_pose,
)
from scenegen.photo.metric_scale import metric_scale
from scenegen.physics.bodies import RigidBody, rigid_body, world_transform
from scenegen.physics.colliders import NoVolume, collider_of
from scenegen.physics.packages import SIMULATION_PACKAGES, check_packages
from scenegen.physics.simulation import MAX_TURN_DEG, settle
from trellis_modules.quaternions import matrix_to_quaternion

_ROUNDS = 4
_DROP_METRES = 0.5  # an object that falls farther has lost what it stood on


@dataclass(frozen=True)
class SettledScene:
    """Where objects came to rest.

    Attributes:
        poses: (N, 8) in the query frame.
        report: JSON-ready, one entry for each object: ``shift`` in longest sides of the query, ``turn_deg``,
            and ``kept``: None where it settled, else why it was kept: "query", "hangs", "falls over", "no
            volume".
    """

    poses: Tensor
    report: list[dict[str, Any]]


def settle_scene(
    meshes: Sequence[trimesh.Trimesh], poses: Tensor, floor: float, query: int, hanging: Collection[int] = ()
) -> SettledScene:
    """Let objects come to rest.

    Args:
        meshes: N meshes in their object y-up frames.
        poses: (N, 8) in the query frame, which has y up.
        floor: its height there.
        query: the object that defines the frame.
        hanging: objects that stay although nothing is under them.

    Raises:
        PhysicsUnavailable: a package is missing.
    """
    check_packages(SIMULATION_PACKAGES)
    given = sanitize_pose(poses.detach().cpu().double())
    placed = [pose_to_transform(pose).numpy() for pose in given]
    metres = _metres(meshes, placed)
    kept = dict.fromkeys(hanging, "hangs") | {query: "query"}
    bodies: dict[int, RigidBody] = {}
    for row, (mesh, transform) in enumerate(zip(meshes, placed, strict=True)):
        try:
            collider = collider_of(mesh, f"obj_{row}")
        except NoVolume:
            kept[row] = "no volume"
            continue
        bodies[row] = rigid_body(f"obj_{row}", collider, transform, floor, metres)
    rested = dict(bodies)
    for _ in range(_ROUNDS):
        fixed = [body.name for row, body in bodies.items() if row in kept]
        found = dict(zip(bodies, settle(list(bodies.values()), fixed), strict=True))
        fallen = [
            row
            for row, (_, motion) in found.items()
            if row not in kept and (motion.turn_deg >= MAX_TURN_DEG or motion.fall > _DROP_METRES)
        ]
        rested = {row: body for row, (body, _) in found.items() if row not in kept and row not in fallen}
        if not fallen:
            break
        kept |= dict.fromkeys(fallen, "falls over")
    back = np.linalg.inv(world_transform(floor, metres))
    settled = given.clone()
    for row, body in rested.items():
        settled[row] = _pose_of(body, given[row], back)
    report = [
        {
            "shift": float((settled[row] - given[row])[TRANSLATION].norm()),
            "turn_deg": float(rotation_angle_deg(given[row, ROTATION], settled[row, ROTATION])),
            "kept": kept.get(row),
        }
        for row in range(len(given))
    ]
    return SettledScene(settled.to(poses), report)


def _metres(meshes: Sequence[trimesh.Trimesh], placed: Sequence[np.ndarray]) -> float:
    """Metres of one unit of the scene, as the sizes of its objects tell."""
    boxes = [
        np.ptp(apply_transform(each, np.asarray(mesh.vertices)), axis=0) for mesh, each in zip(meshes, placed)
    ]
    return metric_scale(np.array(boxes)).metres_per_unit


def _pose_of(body: RigidBody, before: Tensor, back: np.ndarray) -> Tensor:
    """The pose (8,) of a body; ``back`` (4, 4) takes the world to the scene."""
    turn = back[:3, :3] / np.cbrt(np.linalg.det(back[:3, :3])) @ body.rotation
    pose = before.clone()
    pose[TRANSLATION] = torch.from_numpy(back[:3, :3] @ body.position + back[:3, 3])
    pose[ROTATION] = matrix_to_quaternion(torch.from_numpy(turn))
    return pose
