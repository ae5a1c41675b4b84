"""Refine where the objects of a scene stand: upright, on something, and not inside one another.

The poses of a scene are estimates and so objects sink into each other and into the floor. Each object
is set upright on the floor or on the object below it, then objects are moved in turn, by shifts along
the floor and small turns, to where they share the least volume with the others; the distance from the
estimate counts against it, less in each round, so that two objects share the way out. Surfaces are thin, and
an object half inside another one has a dead end around it: it looks around widely, the others nearby. With
the photo's camera and masks, places and camera are found together first (`together`), and how well an object
covers its mask counts too. Sizes stay: a silhouette alone cannot tell a large object far away from a small
one nearby.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
import torch
import trimesh
from torch import Tensor

from scenegen.geometry import (
    ROTATION,
    TRANSLATION,
    apply_transform,
    check_pose,
    pose_to_transform,
    rotation_angle_deg,
    sanitize_pose,
)
from scenegen.photo.camera import PhotoCamera
from scenegen.photo.camera_fit import better_camera
from scenegen.photo.silhouettes import Surface
from scenegen.pipelines.result import SceneResult, with_overlaps
from scenegen.refinement.completion import completed
from scenegen.refinement.search import PlacementSearch
from scenegen.refinement.settings import DEFAULT_SETTINGS, RefinementSettings
from scenegen.refinement.settling import settle_scene
from scenegen.refinement.silhouette import mask_targets
from scenegen.refinement.solid import Solid, shared_volume, solid_of
from scenegen.refinement.support import Rest
from scenegen.refinement.together import fit_together
from trellis_modules.quaternions import quaternion_from_axis_angle, quaternion_multiply


@dataclass(frozen=True)
class RefinedScene:
    """What refinement found.

    Attributes:
        poses: (N, 8) in the query frame, of the dtype given.
        camera: of the photo, found together with the poses; None where the photo was not used.
        report: JSON-ready figures: volumes that pairs of objects share before and after, in cubed longest
            sides of the query, and what each object went through.
    """

    poses: Tensor
    camera: PhotoCamera | None = None
    report: dict[str, Any] = field(default_factory=dict)


def refine_result(
    result: SceneResult,
    masks: Sequence[np.ndarray] | None = None,
    settings: RefinementSettings = DEFAULT_SETTINGS,
) -> SceneResult:
    """Refine a generated scene: complete what stands, place it, and let it come to rest if that is asked for.

    Args:
        masks: per object, (H, W) bool in the photo; with them and a fitted camera, silhouettes count too.

    Returns:
        The scene with new poses, how objects cover their masks there (`with_overlaps`), the report in
        ``settings["refinement"]`` and the time in ``timings``. A
        scene whose query has no surface keeps its poses, and the report says why.
    """
    shown = [row for row, item in enumerate(result.objects) if item.mesh is not None]
    query = next((row for row in shown if result.objects[row].object_id == result.query_id), None)
    if query is None:
        skipped = {"skipped": "the query has no surface, and so there is no floor to stand on"}
        return replace(result, settings=result.settings | {"refinement": skipped})
    start = time.perf_counter()
    objects, completions = list(result.objects), []
    for row in shown if settings.complete else ():
        objects[row], completion = completed(objects[row])
        completions.append(completion)
    refined = refine_scene(
        [objects[row].mesh for row in shown],
        torch.stack([result.objects[row].pose for row in shown]),
        shown.index(query),
        view=result.camera,
        masks=None if masks is None else [masks[row] for row in shown],
        settings=settings,
    )
    for row, pose in zip(shown, refined.poses):
        objects[row] = replace(objects[row], pose=pose)
    ids = [result.objects[row].object_id for row in shown]
    report = _with_ids(refined.report, ids)
    for entry, completion in zip(report["objects"], completions):
        entry["completed"] = completion
    camera = refined.camera or result.camera
    moved = with_overlaps(replace(result, objects=tuple(objects), camera=camera), masks)
    return replace(
        moved,
        settings=result.settings | {"refinement": report},
        timings=result.timings | {"refine": time.perf_counter() - start},
    )


def refine_scene(
    meshes: Sequence[trimesh.Trimesh],
    poses: Tensor,
    query: int,
    *,
    view: PhotoCamera | None = None,
    masks: Sequence[np.ndarray] | None = None,
    settings: RefinementSettings = DEFAULT_SETTINGS,
) -> RefinedScene:
    """Move objects out of each other and onto what they stand on.

    Args:
        meshes: N meshes in their object y-up frames.
        poses: (N, 8) in the query frame, which has y up.
        query: the object that defines the frame; it stays where it is.
        view, masks: the photo's camera and per object a mask (H, W) bool; both or the photo is not used.

    Raises:
        ValueError: numbers of meshes, poses and masks differ, or there is no object `query`.
        PhysicsUnavailable: objects are to settle, and a package is missing.
    """
    _check_inputs(meshes, poses, query, masks)
    solids = [solid_of(mesh, settings.resolution) for mesh in meshes]
    given = sanitize_pose(poses.detach().cpu().float())
    estimates, camera, targets = given, None, None
    if view is not None and masks is not None:
        standing = PlacementSearch(solids, given, query, None, settings).poses()
        camera, estimates = _seen_together(view, meshes, standing, masks, query, settings)
        targets = mask_targets(camera, masks)
    scene = PlacementSearch(solids, estimates, query, targets, settings)
    scene.refine()
    refined = scene.poses()
    settled = None
    if settings.settle:
        hanging = [row for row, rest in enumerate(scene.rests) if rest is None and row != query]
        settled = settle_scene(meshes, refined, scene.floor, query, hanging)
        refined = settled.poses
    if camera is not None and masks is not None:
        camera = better_camera(camera, _placed(meshes, refined), masks)
    before, after = (total_shared_volume(solids, each) for each in (given, refined))
    report = {
        "penetration_before": before,
        "penetration_after": after,
        "unit": "cubed longest sides of the query",
        "floor": scene.floor,
        "photo_used": targets is not None,
        "objects": [_movement(old, new, rest) for old, new, rest in zip(given, refined, scene.rests)],
    }
    for entry, rested in zip(report["objects"], settled.report if settled else ()):
        entry["settled"] = rested
    return RefinedScene(refined.to(poses), camera, report)


def _placed(meshes: Sequence[trimesh.Trimesh], poses: Tensor) -> list[Surface]:
    """The meshes as surfaces at poses (N, 8) in the query frame."""
    matrices = pose_to_transform(poses.double()).numpy()
    return [
        Surface(apply_transform(matrix, mesh.vertices), np.asarray(mesh.faces))
        for matrix, mesh in zip(matrices, meshes, strict=True)
    ]


def _seen_together(
    view: PhotoCamera,
    meshes: Sequence[trimesh.Trimesh],
    poses: Tensor,
    masks: Sequence[np.ndarray],
    query: int,
    settings: RefinementSettings,
) -> tuple[PhotoCamera, Tensor]:
    """Camera and poses (N, 8) by `fit_together`, from those given."""
    centres = poses[:, TRANSLATION].double().numpy()
    camera, moves = fit_together(view, _placed(meshes, poses), centres, masks, query, settings)
    better, shifts = poses.clone(), torch.from_numpy(moves).float()
    better[:, 0:3:2] += shifts[:, :2]
    turns = quaternion_from_axis_angle(poses.new_tensor([0.0, 1.0, 0.0]), shifts[:, 2])
    better[:, ROTATION] = quaternion_multiply(turns, poses[:, ROTATION])
    return camera, better


def total_shared_volume(solids: Sequence[Solid], poses: Tensor) -> float:
    """Sum of the volumes, in cubed scene units, that pairs of N objects at poses (N, 8) share."""
    return sum(
        shared_volume(solids[a], poses[a], solids[b], poses[b])
        for a, b in combinations(range(len(solids)), 2)
    )


def _check_inputs(
    meshes: Sequence[trimesh.Trimesh], poses: Tensor, query: int, masks: Sequence[np.ndarray] | None
) -> None:
    check_pose(poses, "refine_scene")
    if not len(meshes) == len(poses) or (masks is not None and len(masks) != len(meshes)):
        counts = f"{len(meshes)} meshes, {len(poses)} poses" + (
            "" if masks is None else f", {len(masks)} masks"
        )
        raise ValueError(f"refine_scene: expected one pose and mask per mesh, got {counts}")
    if not 0 <= query < len(meshes):
        raise ValueError(f"refine_scene: expected a query in [0, {len(meshes)}), got {query}")


def _with_ids(report: dict[str, Any], ids: Sequence[int]) -> dict[str, Any]:
    """A report that names objects by their ids instead of their places in the list."""
    objects = [
        {"id": object_id, **entry, "stands_on": ids[entry["stands_on"]]}
        if isinstance(entry["stands_on"], int)
        else {"id": object_id, **entry}
        for object_id, entry in zip(ids, report["objects"], strict=True)
    ]
    return report | {"objects": objects}


def _movement(old: Tensor, new: Tensor, rest: Rest | None) -> dict[str, Any]:
    stands_on = None if rest is None else "floor" if rest.carrier is None else rest.carrier
    return {
        "stands_on": stands_on,
        "shift": float((new - old)[TRANSLATION].norm()),
        "turn_deg": float(rotation_angle_deg(old[ROTATION], new[ROTATION])),
    }
