"""Refine where the objects of a scene stand: upright, on something, and not inside one another.

The poses of a scene are estimates and so objects sink into each other and into the floor. Each object
is set upright on the floor or on the object below it, then objects are moved in turn, by shifts along
the floor and small turns, to where they share the least volume with the others; the distance from the
estimate counts against it, less in each round, so that two objects share the way out. Surfaces are thin, and
an object half inside another one has a dead end around it: it looks around widely, the others nearby. With
the photo's camera and masks, how well an object covers its mask counts too. Sizes stay: a silhouette alone
cannot tell a large object far away from a small one nearby.
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

from scenegen.geometry import ROTATION, TRANSLATION, check_pose, rotation_angle_deg, sanitize_pose
from scenegen.photo.camera import PhotoCamera
from scenegen.pipelines.result import SceneResult, with_overlaps
from scenegen.refinement.completion import completed
from scenegen.refinement.search import PlacementSearch
from scenegen.refinement.settings import DEFAULT_SETTINGS, RefinementSettings
from scenegen.refinement.settling import settle_scene
from scenegen.refinement.silhouette import mask_targets
from scenegen.refinement.solid import Solid, shared_volume, solid_of
from scenegen.refinement.support import Rest


@dataclass(frozen=True)
class RefinedScene:
    """What refinement found.

    Attributes:
        poses: (N, 8) in the query frame, of the dtype given.
        report: JSON-ready figures: volumes that pairs of objects share before and after, in cubed longest
            sides of the query, and what each object went through.
    """

    poses: Tensor
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
    if settings.complete:
        found = completed([objects[row] for row in shown], shown.index(query))
        for row, (item, _) in zip(shown, found, strict=True):
            objects[row] = item
        completions = [completion for _, completion in found]
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
    moved = with_overlaps(replace(result, objects=tuple(objects)), masks)
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
    targets = None if view is None or masks is None else mask_targets(view, masks)
    scene = PlacementSearch(solids, given, query, targets, settings)
    scene.refine()
    refined = scene.poses()
    settled = None
    if settings.settle:
        hanging = [row for row, rest in enumerate(scene.rests) if rest is None and row != query]
        settled = settle_scene(meshes, refined, scene.floor, query, hanging)
        refined = settled.poses
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
    return RefinedScene(refined.to(poses), report)


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
