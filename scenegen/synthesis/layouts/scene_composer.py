"""Compose furniture scenes: groups of models on a floor, a camera, lights and a room.

Everything is drawn from one ``numpy.random.Generator``, so a seed fixes the scene. Only sizes and classes of
the models are used, no meshes; one scene takes about a millisecond.

Yaw of symmetric models: a model whose mesh repeats every 360/n degrees has n yaws that look the same, so its
pose would be ambiguous. The camera is drawn first; then such a model gets the one of its n yaws whose front
(+Z) is nearest to facing the camera. One that looks the same from everywhere (symmetry 0) faces it exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from scenegen.geometry import CONTINUOUS_SYMMETRY
from scenegen.synthesis.layouts.arrangements import Group
from scenegen.synthesis.layouts.camera import find_camera
from scenegen.synthesis.layouts.fittings import NO_NEEDS, Fittings, RoomNeeds
from scenegen.synthesis.layouts.footprints import Item
from scenegen.synthesis.layouts.light import draw_lighting
from scenegen.synthesis.layouts.options import TEST_OPTIONS, ComposerOptions
from scenegen.synthesis.layouts.pool import Model, ModelPool
from scenegen.synthesis.layouts.room import draw_room
from scenegen.synthesis.layouts.scene_layout import Camera, SceneLayout, Vector3


class CompositionError(RuntimeError):
    """No acceptable scene was found for the models and options given."""


def compose(
    rng: np.random.Generator,
    models: Sequence[Model] | ModelPool,
    num_objects: int,
    options: ComposerOptions = TEST_OPTIONS,
    scene_id: str = "",
) -> SceneLayout:
    """Draw one scene.

    Args:
        rng: the only source of randomness.
        models: the models to choose from (a model may appear more than once). Pass a ``ModelPool`` when
            composing many scenes from the same models.
        num_objects: number of objects, at least 1 (2 to 7 look best).

    Returns:
        A layout without collisions, every object in view and none mostly hidden.

    Raises:
        ValueError: num_objects < 1, or no floor-standing model.
        CompositionError: no acceptable scene in ``options.max_attempts`` tries.
    """
    if num_objects < 1:
        raise ValueError(f"compose: num_objects must be at least 1, got {num_objects}")
    pool = models if isinstance(models, ModelPool) else ModelPool(models)
    for _ in range(options.max_attempts):
        room_yaw = rng.random() * math.tau
        fittings = Fittings(rng, pool, options, room_yaw, num_objects)
        items = Group(rng, pool, options, room_yaw).build(num_objects, fittings)
        if items is None:
            continue
        camera = find_camera(rng, items, options, fittings.walls, fittings.ceiling_m)
        if camera is None:
            continue
        return seen_from(rng, items, camera, room_yaw, fittings.needs, scene_id)
    raise CompositionError(
        f"compose {scene_id}: no acceptable scene of {num_objects} objects in {options.max_attempts} tries; "
        "give more models or weaker limits in ComposerOptions"
    )


def seen_from(
    rng: np.random.Generator,
    items: Sequence[Item],
    camera: Camera,
    room_yaw: float,
    needs: RoomNeeds = NO_NEEDS,
    scene_id: str = "",
) -> SceneLayout:
    """The scene of placed items and a camera, with a light and a room that are drawn for them."""
    for item in items:
        item.yaw = symmetric_yaw(item.yaw, item.model.symmetry, item.centre, camera.position)
    return SceneLayout(
        scene_id=scene_id,
        objects=tuple(item.placed() for item in items),
        camera=camera,
        lighting=draw_lighting(rng, camera),
        room=draw_room(rng, items, camera, room_yaw, needs),
    )


def symmetric_yaw(yaw: float, symmetry: int, centre: Vector3, camera_position: Vector3) -> float:
    """Pick among the yaws that look the same the one whose front is nearest to facing the camera.

    Args:
        yaw: radians.
        symmetry: n > 1: yaws 360/n degrees apart look the same; 1: none; 0: all look the same.
        centre, camera_position: world positions.

    Returns:
        Yaw in [-pi, pi], at most pi/n from the direction to the camera when n > 1, equal to it when n = 0.
    """
    facing = math.atan2(camera_position[0] - centre[0], camera_position[2] - centre[2])
    if symmetry == CONTINUOUS_SYMMETRY:
        return facing
    step = math.tau / symmetry
    from_facing = math.remainder(yaw - facing, step) if symmetry > 1 else yaw - facing
    return math.remainder(facing + from_facing, math.tau)
