"""What objects stand on: upright poses, the floor, and the surfaces of other objects.

Everything here is in the query frame, whose y axis points up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scenegen.geometry import ROTATION, SCALE, TRANSLATION, place_yup
from scenegen.photo.floor import floor_height
from scenegen.refinement.solid import SURFACE_FILL, Solid, scene_box, to_object
from trellis_modules.quaternions import (
    normalize_quaternion,
    quaternion_from_axis_angle,
    quaternion_multiply,
    quaternion_to_matrix,
)

MAX_TILT_DEG = 25.0
"""Objects that lean by less are meant to stand; beyond it, they lean on purpose."""

_LEAST_UPRIGHT = math.cos(math.radians(MAX_TILT_DEG))

REACH = 0.2
"""How far, in query sides, an object may hover above what it stands on or sink into it ..."""

REACH_OF_HEIGHT = 0.15
"""... plus this share of its own height."""

_FOOT_SHARE = 0.15  # the lowest part of an object, whose outline must lie on the surface
_FOOT_POINTS = 200
_LADDER_STEPS = 48
_MIN_COVERED = 0.35  # share of the foot above the surface
_SURFACE_FILL = 0.25  # half a voxel above the middle of surface voxels; carpets are no thicker than one
_FLAT = 0.15  # height of what is flat, as a carpet or a tray, in its own longest sides ...
_GIVEN_WAY = 0.1  # ... which other things stand on even where it seems higher than they by so much
_SURFACE_QUANTILE = 0.9


@dataclass(frozen=True)
class Rest:
    """Where an object stands: on the object `carrier`, or on the floor where that is None, at a height."""

    carrier: int | None
    height: float


def stand_upright(pose: Tensor) -> Tensor:
    """Take a small lean out of a pose (8,); a lean beyond `MAX_TILT_DEG` stays."""
    up = quaternion_to_matrix(pose[ROTATION])[:, 1]
    axis = torch.stack((-up[2], torch.zeros_like(up[0]), up[0]))  # up x (0, 1, 0)
    sine = axis.norm()
    angle = torch.atan2(sine, up[1])
    if sine < 1e-6 or torch.rad2deg(angle) > MAX_TILT_DEG:
        return pose
    swing = quaternion_from_axis_angle(axis / sine, angle)
    upright = pose.clone()
    upright[ROTATION] = quaternion_multiply(swing, normalize_quaternion(pose[ROTATION]))
    return upright


def find_floor(solids: Sequence[Solid], poses: Tensor, query: int) -> float:
    """Height of the plane that the objects stand on, see `floor_height`.

    Args:
        solids: N objects.
        poses: (N, 8).
        query: the object that defines the frame.
    """
    bottoms = [float(scene_box(solid, pose)[0][1]) for solid, pose in zip(solids, poses)]
    return floor_height(bottoms, poses[:, SCALE].squeeze(1).tolist(), query)


def find_rests(solids: Sequence[Solid], poses: Tensor, query: int, floor: float) -> list[Rest | None]:
    """Decide for each object what it stands on: the surface or floor nearest to its bottom.

    Returns:
        N entries; None for what hangs, and for the query, which stays where it is.
    """
    boxes = [scene_box(solid, pose) for solid, pose in zip(solids, poses)]
    levels = [_level(low, high) for low, high in boxes]
    rests: list[Rest | None] = []
    for index, (low, high) in enumerate(boxes):
        bottom, reach = float(low[1]), REACH + REACH_OF_HEIGHT * float(high[1] - low[1])
        found = [Rest(None, floor)]
        for other in range(len(boxes)):
            if other != index and levels[other] < levels[index]:  # also rules out circles
                height = surface_height(
                    solids[index], poses[index], solids[other], poses[other], bottom, reach
                )
                found += [] if height is None else [Rest(other, height)]
        nearest = min(found, key=lambda rest: abs(rest.height - bottom))
        stands = abs(nearest.height - bottom) <= reach or bottom < floor
        rests.append(nearest if stands and index != query else None)
    return rests


def standing_objects(solids: Sequence[Solid], poses: Tensor, query: int) -> list[bool]:
    """Whether each object is meant to stand: upright, near the floor or something below.

    Args:
        solids: N objects.
        poses: (N, 8).
        query: the object that defines the frame, which stands.
    """
    floor = find_floor(solids, poses, query)
    rests = find_rests(solids, poses, query, floor)
    leans = [float(quaternion_to_matrix(pose[ROTATION])[1, 1]) < _LEAST_UPRIGHT for pose in poses]
    return [
        row == query or (rest is not None and not lean)
        for row, (rest, lean) in enumerate(zip(rests, leans, strict=True))
    ]


def _level(low: Tensor, high: Tensor) -> float:
    """Height of an object's bottom, by which it is told who stands on whom; flat things are below others."""
    sides = high - low
    return float(low[1]) - (_GIVEN_WAY if float(sides[1]) < _FLAT * float(sides.max()) else 0.0)


def surface_height(
    solid: Solid, pose: Tensor, carrier: Solid, carrier_pose: Tensor, middle: float, reach: float
) -> float | None:
    """Height of a carrier's upper surface under an object.

    Args:
        solid, pose: the object whose foot is looked at.
        middle, reach: surfaces are looked for at heights within `reach` of `middle`.

    Returns:
        None where too little of the foot is above a surface.
    """
    points = place_yup(solid.points, pose)
    bottom, top = points[:, 1].min(), points[:, 1].max()
    foot = points[points[:, 1] <= bottom + _FOOT_SHARE * (top - bottom)][:_FOOT_POINTS]
    voxel = carrier.voxel * float(carrier_pose[SCALE])
    steps = max(_LADDER_STEPS, math.ceil(4 * reach / voxel))  # two in each voxel
    ladder = torch.linspace(middle + reach, middle - reach, steps)
    columns = foot[:, None, :].repeat(1, steps, 1)  # (P, steps, 3), downwards
    columns[:, :, 1] = ladder
    full = carrier.fill_at(to_object(columns.flatten(0, 1), carrier_pose)).view(len(foot), -1) > _SURFACE_FILL
    first = full.int().argmax(dim=1)
    is_surface = full.any(dim=1) & (first > 0)  # full from the start: its surface is out of reach
    if is_surface.float().mean() < _MIN_COVERED:
        return None
    above = (1 - _SURFACE_FILL / SURFACE_FILL) * voxel
    return float(torch.quantile(ladder[first[is_surface]], _SURFACE_QUANTILE)) - above


def put_down(solid: Solid, pose: Tensor, height: float) -> Tensor:
    """Poses (..., 8) of an object raised or lowered until its lowest vertex is at a height."""
    lowest = place_yup(solid.corners, pose)[..., 1].amin(dim=-1)
    lifted = pose.clone()
    lifted[..., TRANSLATION.start + 1] += height - lowest
    return lifted
