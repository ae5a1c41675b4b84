"""The physics of one scene, entered into its record: which objects stay where they are under gravity.

Truth and prediction are simulated alike (`scenegen.physics.simulation`), in metres that the sizes of the
true furniture tell, on a floor at the lowest point. Objects that do not stay in the truth (lamps that hang, a
guitar that leans on nothing) are left out of both, by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import trimesh

from scenegen.evaluation.loading import EvaluationScene, ObjectMesh
from scenegen.photo.metric_scale import metric_scale
from scenegen.physics.balance import TOUCHING, lowest_points, support_margin
from scenegen.physics.bodies import RigidBody, rigid_body
from scenegen.physics.colliders import NoVolume, collider_of
from scenegen.physics.pieces import loose_pieces
from scenegen.physics.simulation import MAX_DRIFT, Motion, lowest_height, scene_extent, simulate

STABLE, STABLE_TRUTH = "physics_stable", "physics_stable_truth"
"""Shares of scenes in which every object stays: as predicted, and in the truth.

Of the truth without those that are not in balance, which no collider could keep from falling.
"""

_DROP = 0.01
"""Metres above the floor from which an object is put down to see whether it can stand by itself."""


@dataclass(frozen=True)
class TruePhysics:
    """What becomes of a true scene.

    Attributes:
        metres: length of one unit.
        size: of the scene in metres.
        kept: objects that stay, and so count.
        stable: whether all do that are in balance.
        warnings: what is left out, one line each.
    """

    metres: float
    size: float
    kept: Mapping[int, ObjectMesh]
    stable: bool
    warnings: Sequence[str]


def true_physics(truth: EvaluationScene) -> TruePhysics:
    """Simulate a true scene."""
    metres = _metres(truth)
    bodies, warnings = _bodies(truth.objects, metres)
    size = scene_extent(list(bodies.values()))
    still = _still(bodies, size)
    fallen = [index for index, motion in still.items() if not motion.stable]
    unbalanced = [index for index in fallen if not _in_balance(truth.objects[index], bodies[index])]
    warnings += [
        f"obj_{index} {'is not in balance' if index in unbalanced else 'does not stay'} in the truth; "
        "physics leaves it out"
        for index in fallen
    ]
    kept = {index: item for index, item in truth.objects.items() if index in still and index not in fallen}
    return TruePhysics(metres, size, kept, len(fallen) == len(unbalanced), warnings)


def add_physics(record: dict[str, Any], truth: TruePhysics, prediction: EvaluationScene | None) -> list[str]:
    """Simulate a predicted scene and add the figures to its corrected record.

    Args:
        record: of the corrected protocol; ``metrics`` and ``penalties`` of scene and objects are extended.
        truth: of the true scene.
        prediction: of the same size; None where there is nothing to simulate.

    Returns:
        What was left out, one line each.
    """
    warnings, kept = list(truth.warnings), truth.kept
    record["metrics"][STABLE_TRUTH] = float(truth.stable)
    if prediction is None:
        record["penalties"][STABLE] = 0.0
        _add(record, {}, kept)
        return warnings
    found = {index: prediction.objects[index] for index in kept if index in prediction.objects}
    bodies, problems = _bodies(found, truth.metres)
    warnings += problems
    motions = _still(bodies, truth.size)
    figures = {
        index: _figures(motion, bodies[index], found[index], truth.size) for index, motion in motions.items()
    }
    stays = [figures[index]["physics_stays"] if index in figures else 0.0 for index in kept]
    record["metrics"][STABLE] = float(all(stays))
    _add(record, figures, kept)
    return warnings


def _add(
    record: dict[str, Any], figures: Mapping[int, Mapping[str, float]], kept: Mapping[int, ObjectMesh]
) -> None:
    for entry in record["objects"]:
        if entry["id"] in figures:
            entry["metrics"] |= figures[entry["id"]]
        elif entry["id"] in kept:
            entry["penalties"] |= {
                "physics_stays": 0.0,
                "physics_stands_alone": 0.0,
                "physics_supported": 0.0,
            }


def _in_balance(item: ObjectMesh, body: RigidBody) -> bool:
    """Whether the centre of mass of an object is above what its mesh stands on."""
    vertices = item.vertices[np.unique(item.faces)]
    feet = lowest_points(vertices, TOUCHING * float(np.ptp(vertices, axis=0).max()))
    centre = body.centre / body.size  # its axes are those of the scene, see `_bodies`
    return support_margin(feet[:, [0, 2]], centre[[0, 2]]) > 0


def _metres(scene: EvaluationScene) -> float:
    boxes = np.array([np.ptp(item.vertices, axis=0) for item in scene.objects.values()])
    return metric_scale(boxes).metres_per_unit


def _bodies(objects: Mapping[int, ObjectMesh], metres: float) -> tuple[dict[int, RigidBody], list[str]]:
    """Rigid bodies by index, and a line for each object that encloses nothing."""
    bodies, problems = {}, []
    floor = min((float(item.vertices[:, 1].min()) for item in objects.values()), default=0.0)
    for index, item in objects.items():
        mesh = trimesh.Trimesh(item.vertices, item.faces, process=False)
        try:
            collider = collider_of(mesh, f"obj_{index}")
        except NoVolume as error:
            problems.append(str(error))
            continue
        bodies[index] = rigid_body(f"obj_{index}", collider, np.eye(4), floor, metres)
    return bodies, problems


def _still(bodies: Mapping[int, RigidBody], size: float) -> dict[int, Motion]:
    return dict(zip(bodies, simulate(list(bodies.values()), size=size), strict=True))


def _figures(motion: Motion, body: RigidBody, item: ObjectMesh, size: float) -> dict[str, float]:
    (alone,) = simulate([_put_down(body)], size=size)
    return {
        "physics_stays": float(motion.stable),
        "physics_drift_m": motion.drift,
        "physics_turn_deg": motion.turn_deg,
        "physics_penetration_m": motion.penetration,
        "physics_peak_speed": motion.peak_speed,
        "physics_peak_energy": motion.peak_energy,
        "physics_stands_alone": float(alone.stable),
        "physics_supported": float(motion.fall < MAX_DRIFT * size),
        "physics_loose_pieces": float(loose_pieces(item.vertices, item.faces)),
    }


def _put_down(body: RigidBody) -> RigidBody:
    raised = body.position + [0.0, 0.0, _DROP - lowest_height(body)]
    return replace(body, position=raised)
