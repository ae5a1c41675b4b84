"""Refine where the objects of a scene stand: upright, on something, and not inside one another.

The poses of a scene are estimates and so objects sink into each other and into the floor. Each object
is set upright on the floor or on the object below it, then objects are moved in turn, by shifts along
the floor and small turns, to where they share the least volume with the others; the distance from the
estimate counts against it, less in each round, so that two objects share the way out. Surfaces are thin, and
an object half inside another one has a dead end around it: it looks around widely, the others nearby. With
the photo's camera and masks, how well an object covers its mask counts too, and its size may change.
"""

from __future__ import annotations

import logging
import math
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
    SCALE,
    TRANSLATION,
    check_pose,
    place_yup,
    rotation_angle_deg,
    sanitize_pose,
)
from scenegen.photo.camera import PhotoView
from scenegen.pipelines.result import SceneResult
from scenegen.refinement.silhouette import MaskTarget, mask_targets
from scenegen.refinement.solid import Solid, inside_box, scene_box, shared_volume, solid_of, to_object
from scenegen.refinement.support import Rest, find_floor, find_rests, put_down, stand_upright, surface_height
from trellis_modules.quaternions import quaternion_from_axis_angle, quaternion_multiply

logger = logging.getLogger(__name__)

_COMPASS = torch.arange(8) * (math.pi / 4)
_SKIN_VOXELS = 1.5  # above a surface that an object stands on, contact does not count as penetration


@dataclass(frozen=True)
class RefinementSettings:
    """How far and how carefully objects are moved; lengths are in longest sides of the query.

    Attributes:
        resolution: voxels along an object.
        softness: one round each; what doubt about a place costs, in shares of penetrated volume.
        typical_shift, typical_turn_deg, typical_growth: distances from the estimate that make a doubt of 1;
            growth is the logarithm of a factor of size, and is used with masks only.
        mask_weight: doubt about a place where the mask is not covered at all.
        max_shift: no object moves further from its estimate.
        tolerance: share of penetrated volume from which an object searches widely.
        wide_rings: radii of that search around the best place so far.
        steps: of the finer searches.
        search_points, contact_points: while searching, penetration is measured at so many points of an object
            at most: of the whole object, and of what is near another one.
    """

    resolution: int = 80
    softness: tuple[float, ...] = (0.1, 0.03, 0.01, 0.003, 0.001)
    typical_shift: float = 0.1
    typical_turn_deg: float = 10.0
    typical_growth: float = 0.15
    mask_weight: float = 10.0
    max_shift: float = 0.9
    tolerance: float = 0.003
    wide_rings: tuple[float, ...] = (0.08, 0.16, 0.28, 0.42, 0.58, 0.8)
    steps: tuple[float, ...] = (0.06, 0.03, 0.015, 0.007)
    search_points: int = 12_000
    contact_points: int = 1200

    def __post_init__(self) -> None:
        if self.resolution < 8 or self.contact_points < 1 or not self.softness or min(self.softness) <= 0:
            raise ValueError(
                "RefinementSettings: expected resolution >= 8, contact_points >= 1 and positive softness, "
                f"got {self.resolution}, {self.contact_points}, {self.softness}"
            )


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
    settings: RefinementSettings = RefinementSettings(),
) -> SceneResult:
    """Refine a generated scene.

    Args:
        masks: per object, (H, W) bool in the photo; with them and a fitted camera, silhouettes count too.

    Returns:
        The scene with new poses, the report in ``settings["refinement"]`` and the time in ``timings``. A
        scene whose query has no surface keeps its poses, and the report says why.
    """
    shown = [row for row, item in enumerate(result.objects) if item.mesh is not None]
    query = next((row for row in shown if result.objects[row].object_id == result.query_id), None)
    if query is None:
        skipped = {"skipped": "the query has no surface, and so there is no floor to stand on"}
        return replace(result, settings=result.settings | {"refinement": skipped})
    start = time.perf_counter()
    refined = refine_scene(
        [result.objects[row].mesh for row in shown],
        torch.stack([result.objects[row].pose for row in shown]),
        shown.index(query),
        view=result.view,
        masks=None if masks is None else [masks[row] for row in shown],
        settings=settings,
    )
    objects = list(result.objects)
    for row, pose in zip(shown, refined.poses):
        objects[row] = replace(objects[row], pose=pose)
    ids = [result.objects[row].object_id for row in shown]
    return replace(
        result,
        objects=tuple(objects),
        settings=result.settings | {"refinement": _with_ids(refined.report, ids)},
        timings=result.timings | {"refine": time.perf_counter() - start},
    )


def refine_scene(
    meshes: Sequence[trimesh.Trimesh],
    poses: Tensor,
    query: int,
    *,
    view: PhotoView | None = None,
    masks: Sequence[np.ndarray] | None = None,
    settings: RefinementSettings = RefinementSettings(),
) -> RefinedScene:
    """Move objects out of each other and onto what they stand on.

    Args:
        meshes: N meshes in their object y-up frames.
        poses: (N, 8) in the query frame, which has y up.
        query: the object that defines the frame; it stays where it is.
        view, masks: the photo's camera and per object a mask (H, W) bool; both or the photo is not used.

    Raises:
        ValueError: numbers of meshes, poses and masks differ, or there is no object `query`.
    """
    _check_inputs(meshes, poses, query, masks)
    solids = [solid_of(mesh, settings.resolution) for mesh in meshes]
    given = sanitize_pose(poses.detach().cpu().float())
    targets = None if view is None or masks is None else mask_targets(view, masks)
    scene = _Scene(solids, given, query, targets, settings)
    scene.refine()
    refined = scene.poses()
    before, after = (total_shared_volume(solids, each) for each in (given, refined))
    report = {
        "penetration_before": before,
        "penetration_after": after,
        "unit": "cubed longest sides of the query",
        "floor": scene.floor,
        "photo_used": targets is not None,
        "objects": [_movement(old, new, rest) for old, new, rest in zip(given, refined, scene.rests)],
    }
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
        "growth": float(new[SCALE] / old[SCALE]),
    }


class _Scene:
    """Objects on their way to better places.

    A move (4,) is a shift along x and z, a turn about y in radians and the logarithm of a growth, all
    relative to the estimate, which rides along with the object that it stands on.
    """

    def __init__(
        self,
        solids: Sequence[Solid],
        poses: Tensor,
        query: int,
        targets: Sequence[MaskTarget] | None,
        settings: RefinementSettings,
    ) -> None:
        self.solids, self.query, self.targets, self.settings = solids, query, targets, settings
        self.estimates = torch.stack(
            [pose if row == query else stand_upright(pose) for row, pose in enumerate(poses)]
        )
        self.floor = find_floor(solids, self.estimates, query)
        self.rests = find_rests(solids, self.estimates, query, self.floor)
        self.moves = torch.zeros(len(solids), 4)
        self.volumes = torch.tensor([solid.volume for solid in solids]) * poses[:, 7] ** 3
        self.unit_moves = torch.tensor(
            [
                settings.typical_shift,
                settings.typical_shift,
                math.radians(settings.typical_turn_deg),
                settings.typical_growth,
            ]
        )

    def poses(self) -> Tensor:
        """(N, 8) where the objects are now."""
        return torch.cat([self.moved(row, self.moves[row, None]) for row in range(len(self.solids))])

    def moved(self, row: int, moves: Tensor) -> Tensor:
        """Poses (K, 8) of an object after moves (K, 4)."""
        if row == self.query:
            return self.estimates[row].expand(len(moves), 8)
        pose = self.estimates[row].repeat(len(moves), 1)
        turn = quaternion_from_axis_angle(pose.new_tensor([0.0, 1.0, 0.0]), moves[:, 2])
        pose[:, ROTATION] = quaternion_multiply(turn, pose[:, ROTATION])
        pose[:, SCALE] *= moves[:, 3:].exp()
        pose[:, 0:3:2] += moves[:, :2] + self.carried(row)
        rest = self.rests[row]
        return pose if rest is None else put_down(self.solids[row], pose, rest.height)

    def carried(self, row: int) -> Tensor:
        """Shift (2,) along x and z that an object takes part in because of what it stands on."""
        rest = self.rests[row]
        if rest is None or rest.carrier is None:
            return torch.zeros(2)
        return self.moves[rest.carrier, :2] + self.carried(rest.carrier)

    def refine(self) -> None:
        """Move every object but the query once per round; carriers before what they carry."""
        order = [row for row in self._carriers_first() if row != self.query]
        for softness in self.settings.softness:
            for row in order:
                self._settle(row)
                self.moves[row] = self._best_move(row, softness)

    def _carriers_first(self) -> list[int]:
        def depth(row: int) -> int:
            rest = self.rests[row]
            return 0 if rest is None or rest.carrier is None else 1 + depth(rest.carrier)

        return sorted(range(len(self.solids)), key=lambda row: (depth(row), float(self.volumes[row])))

    def _settle(self, row: int) -> None:
        """Follow the surface of the carrier, which may have moved or grown."""
        rest = self.rests[row]
        if rest is None or rest.carrier is None:
            return
        pose, carrier_pose = (self.moved(each, self.moves[each, None])[0] for each in (row, rest.carrier))
        height = surface_height(
            self.solids[row], pose, self.solids[rest.carrier], carrier_pose, rest.height, reach=0.1
        )
        if height is not None:
            self.rests[row] = Rest(rest.carrier, height)

    def _best_move(self, row: int, softness: float) -> Tensor:
        """Search from an object's present move, in ever smaller steps; first widely if it is in others."""
        best = self.moves[row]
        doubt, penetration = self._judge(row, best[None], reach=0.0)
        best_cost = float(softness * doubt + penetration)
        searches = [
            (step, _neighbours(step, self.unit_moves, self.targets is not None))
            for step in self.settings.steps
        ]
        if float(penetration) > self.settings.tolerance:
            searches.insert(0, (max(self.settings.wide_rings), _rings(self.settings.wide_rings)))
        for reach, offsets in searches:
            if best_cost == 0:
                break
            candidates = best + offsets
            candidates = candidates[candidates[:, :2].norm(dim=1) <= self.settings.max_shift]
            if len(candidates) == 0:
                continue
            doubts, penetrations = self._judge(row, torch.cat((best[None], candidates)), reach)
            costs = softness * doubts + penetrations
            winner = int(costs.argmin())
            if winner > 0:
                best, best_cost = candidates[winner - 1], float(costs[winner])
        return best

    def _judge(self, row: int, moves: Tensor, reach: float) -> tuple[Tensor, Tensor]:
        """Doubt (K,) about moves (K, 4), from their distance and the mask, and the volume (K,) penetrated."""
        poses = self.moved(row, moves)
        doubt = (moves / self.unit_moves).square().sum(dim=1)
        if self.targets is not None:
            hidden = 1 - self.targets[row].overlap(self.solids[row], poses)
            doubt = doubt + self.settings.mask_weight * hidden
        return doubt, self._penetration(row, poses, reach)

    def _penetration(self, row: int, poses: Tensor, reach: float) -> Tensor:
        """Volume (K,) that an object at poses (K, 8) shares with the others, as in `_shared_share`."""
        shares = [
            self._shared_share(row, poses, other, reach)
            for other in range(len(self.solids))
            if other != row and not self._stands_on(other, row)
        ]
        return torch.stack(shares).sum(dim=0) if shares else torch.zeros(len(poses))

    def _stands_on(self, row: int, carrier: int) -> bool:
        rest = self.rests[row]
        return rest is not None and rest.carrier == carrier

    def _shared_share(self, row: int, poses: Tensor, other: int, reach: float) -> Tensor:
        """Volume (K,) shared with one other object, in shares of the smaller of the two.

        Args:
            poses: (K, 8) of the object, the first one in the middle and the others within `reach` of it.
        """
        solid, fixed = self.solids[row], self.solids[other]
        fixed_pose = self.moved(other, self.moves[other, None])[0]
        above = -math.inf
        if self._stands_on(row, other):
            above = self.rests[row].height + _SKIN_VOXELS * fixed.voxel * float(fixed_pose[SCALE])
        margin = 1.5 * reach  # covers a turn or growth of the same step
        own, own_volumes = self._contact(solid, poses[0], scene_box(fixed, fixed_pose), margin, above)
        its, its_volumes = self._contact(fixed, fixed_pose, scene_box(solid, poses[0]), margin, above)
        if len(own) == 0 or len(its) == 0:
            return torch.zeros(len(poses))
        own_fill = fixed.fill_at(to_object(place_yup(own, poses).flatten(0, 1), fixed_pose))
        its_fill = solid.fill_at(to_object(place_yup(its, fixed_pose), poses))
        shared = (own_fill.view(len(poses), -1) @ own_volumes) * poses[:, 7] ** 3
        shared = shared + (its_fill @ its_volumes) * fixed_pose[7] ** 3
        return shared / 2 / torch.minimum(self.volumes[row], self.volumes[other])

    def _contact(
        self, solid: Solid, pose: Tensor, box: tuple[Tensor, Tensor], margin: float, above: float
    ) -> tuple[Tensor, Tensor]:
        """Some points (P, 3) of an object near a box and the volumes (P,) that they stand for."""
        points = solid.points[: self.settings.search_points]
        placed = place_yup(points, pose)
        near = inside_box(placed, box[0] - margin, box[1] + margin) & (placed[:, 1] > above)
        rows = torch.nonzero(near).squeeze(1)
        kept = rows[: self.settings.contact_points]
        share = len(solid.points) / len(points) * len(rows) / max(len(kept), 1)
        return points[kept], solid.volumes[kept] * share


def _rings(radii: Sequence[float]) -> Tensor:
    """Shifts (K, 4) in 16 directions."""
    angles = torch.arange(16) * (math.pi / 8)
    shifts = torch.tensor(radii)[:, None, None] * torch.stack((angles.cos(), angles.sin()), dim=1)
    return torch.nn.functional.pad(shifts.flatten(0, 1), (0, 2))


def _neighbours(step: float, unit_moves: Tensor, may_grow: bool) -> Tensor:
    """Moves (K, 4) of one step: shifts in 8 directions, turns, and growth where sizes may change."""
    shifts = step * torch.stack((_COMPASS.cos(), _COMPASS.sin()), dim=1)
    moves = [torch.nn.functional.pad(shifts, (0, 2))]
    for axis in (2, 3) if may_grow else (2,):
        unit = torch.zeros(1, 4)
        unit[0, axis] = step * unit_moves[axis] / unit_moves[0]
        moves += [unit, -unit]
    return torch.cat(moves)
