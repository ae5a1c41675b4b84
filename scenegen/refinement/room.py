"""The room of a generated scene: the floor that its objects stand on, and the walls that the photo shows."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch

from scenegen.geometry import apply_transform, pose_to_transform, sanitize_pose
from scenegen.inputs.scene_images import SceneImages
from scenegen.photo.room_fit import between_objects, fit_room
from scenegen.photo.room_parts import room_parts
from scenegen.pipelines.result import SceneResult
from scenegen.refinement.settings import DEFAULT_SETTINGS
from scenegen.refinement.solid import solid_of
from scenegen.refinement.support import find_floor


def with_room(result: SceneResult, view: SceneImages) -> SceneResult:
    """Add the room to a scene.

    Args:
        result: as generated, or refined.
        view: the photo that it was generated from.

    Returns:
        The scene with `SceneResult.room` and the time; ``settings["room"]`` says what was found, or why there
        is no room.
    """
    began = time.perf_counter()
    shown = [item for item in result.objects if item.mesh is not None]
    query = next((row for row, item in enumerate(shown) if item.object_id == result.query_id), None)
    if result.camera is None or query is None:
        lacking = "no camera explains the masks" if result.camera is None else "the query has no surface"
        return replace(result, settings=result.settings | {"room": {"skipped": lacking}})
    poses = torch.stack([sanitize_pose(item.pose.float()) for item in shown])
    solids = [solid_of(item.mesh, DEFAULT_SETTINGS.resolution) for item in shown]
    floor = find_floor(solids, poses, query)
    points = np.concatenate(
        [
            apply_transform(pose_to_transform(pose.double()).numpy(), item.mesh.vertices)
            for item, pose in zip(shown, poses, strict=True)
        ]
    )
    photo, free = np.asarray(view.photo.convert("RGB")), between_objects(np.stack(list(view.masks)))
    found = fit_room(photo, free, result.camera, floor, points)
    if found is None:
        lacking = {"skipped": "the camera is not above the floor, or no pixel shows the room"}
        return replace(result, settings=result.settings | {"room": lacking})
    parts = room_parts(found.room, photo, free, result.camera, points)
    report = {"walls": len(parts) - 1, "unexplained": found.unexplained}
    return replace(
        result,
        room=tuple(parts),
        settings=result.settings | {"room": report},
        timings=result.timings | {"room": time.perf_counter() - began},
    )
