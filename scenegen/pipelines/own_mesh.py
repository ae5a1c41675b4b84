"""A mesh of somebody's own in the place of an object: turned and placed by the networks and the photo.

The structure encoder makes latents of the mesh in each of its four quarter turns. With the other objects
known, the flow model's pose head says where each would stand, and the turn is taken whose silhouette in the
photo covers the object's mask best; small changes of the pose then bring it over the mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import trimesh
from scipy import optimize
from torch import Tensor

from scenegen.geometry import (
    ROTATION,
    SCALE,
    TRANSLATION,
    place_yup,
    sanitize_pose,
    world_pose,
    yup_to_zup,
)
from scenegen.photo.camera import PhotoCamera, mask_cells
from scenegen.pipelines.reroll import KnownScene
from scenegen.pipelines.result import GeneratedObject
from scenegen.pipelines.sampling import StructureSample
from scenegen.pipelines.state import ObjectLatents
from trellis_modules.quaternions import quaternion_multiply
from trellis_modules.representations.voxels import touched_voxels

TURNS = 4
"""Quarter turns about the vertical in which a mesh is tried."""

_POINTS = 6_000
_CELLS = 96  # across the photo
_SHIFT, _GROWTH, _YAW = 0.04, 0.05, 0.06  # first steps of the fit: longest sides, logarithm, radians
_FAR = 0.1  # overlap that a move by ten first steps has to gain
_SURE = 6.0  # logit of a voxel that is known


@dataclass(frozen=True)
class MaskView:
    """An object's mask as the photo's camera sees it.

    Attributes:
        camera: of the photo, in the frame of the scene.
        cover: (H, W) bool, coarse cells of the mask.
        counts: (H, W) bool, cells that no other mask covers; behind those the object may go on.
    """

    camera: PhotoCamera
    cover: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, camera: PhotoCamera, mask: np.ndarray, others: Sequence[np.ndarray]) -> MaskView:
        """The view of a mask (H, W) bool beside those of other objects."""
        cover = mask_cells(mask, _CELLS)
        hidden = np.zeros_like(cover)
        for other in others:
            hidden |= mask_cells(other, _CELLS)
        return cls(camera, cover, ~hidden | cover)

    def overlap(self, points: np.ndarray, pose: Tensor) -> float:
        """Intersection over union of the mask and an object's surface points (N, 3), y up, at a pose (8,)."""
        placed = place_yup(torch.from_numpy(points), pose.double()).numpy()
        shown = self.camera.silhouette(placed, self.cover.shape) & self.counts
        return float((shown & self.cover).sum() / max((shown | self.cover).sum(), 1))


def quarter_turned(mesh: trimesh.Trimesh, turn: int) -> trimesh.Trimesh:
    """A copy of a y-up mesh after so many quarter turns about +y."""
    turned = mesh.copy()
    turned.apply_transform(trimesh.transformations.rotation_matrix(turn * np.pi / 2, [0, 1, 0]))
    return turned


def structure_of(mesh: trimesh.Trimesh, resolution: int) -> Tensor:
    """Occupancy logits (R, R, R) float32, object z-up frame, of the surface of a y-up mesh."""
    zup = yup_to_zup(torch.from_numpy(np.array(mesh.vertices, np.float64))).numpy()
    occupied = torch.from_numpy(touched_voxels(zup, np.asarray(mesh.faces), resolution))
    return torch.where(occupied, _SURE, -_SURE)


def surface_points(mesh: trimesh.Trimesh) -> np.ndarray:
    """Points (N, 3) float64 on the surface; the same each time."""
    points, _ = trimesh.sample.sample_surface(mesh, _POINTS, seed=0)
    return np.asarray(points, np.float64)


def best_fit(
    clouds: Sequence[np.ndarray], poses: Sequence[Tensor], view: MaskView | None, *, lock_pose: bool
) -> tuple[int, Tensor]:
    """Which of several turns an object has, and where it stands.

    Args:
        clouds: surface points of each turn.
        poses: (8,) of each turn, as the pose head has them, or all the same where the pose is kept.
        view: the mask; None where no camera is known: then the mesh stands as it was given, without a turn.
        lock_pose: leave the pose as it is.

    Returns:
        The turn and the pose (8,).
    """
    if view is None:
        return 0, sanitize_pose(poses[0])
    fitted = []
    for turn, (cloud, pose) in enumerate(zip(clouds, poses, strict=True)):
        pose = sanitize_pose(pose.double())
        pose = pose if lock_pose else _fitted(cloud, pose, view)
        fitted.append((view.overlap(cloud, pose), -turn, pose))
    overlap, turn, pose = max(fitted, key=lambda each: each[:2])
    return -turn, pose.float()


def _fitted(cloud: np.ndarray, pose: Tensor, view: MaskView) -> Tensor:
    """A pose near the one given that covers the mask best; objects stand upright: turns are about +y."""
    steps = np.array([_SHIFT, _SHIFT, _SHIFT, _GROWTH, _YAW])

    def loss(change: np.ndarray) -> float:
        moved = _moved(pose, change * steps)
        return 1 - view.overlap(cloud, moved) + _FAR * float((change / 10) @ (change / 10))

    simplex = np.concatenate([np.zeros((1, 5)), np.eye(5)])
    found = optimize.minimize(
        loss, np.zeros(5), method="Nelder-Mead", options={"initial_simplex": simplex, "maxfev": 150}
    )
    return _moved(pose, found.x * steps)


def _moved(pose: Tensor, change: np.ndarray) -> Tensor:
    """A pose after a shift in its own sizes, a growth as logarithm and a turn about +y in radians."""
    x, y, z, growth, yaw = (float(value) for value in change)
    turn = world_pose(torch.zeros(3, dtype=pose.dtype), pose.new_tensor(yaw), pose.new_tensor(1.0))[ROTATION]
    translation = pose[TRANSLATION] + pose[SCALE] * pose.new_tensor([x, y, z])
    return torch.cat(
        [translation, quaternion_multiply(turn, pose[ROTATION]), pose[SCALE] * float(np.exp(growth))]
    )


def fitted_object(
    known: KnownScene,
    mesh: trimesh.Trimesh,
    encode: Callable[[Tensor], Tensor],
    poses_of: Callable[[Tensor], Tensor],
) -> GeneratedObject:
    """Put a mesh in the place of an object of a scene.

    Args:
        known: the scene, with one object to be made.
        mesh: y up, box centred with longest side 1.
        encode: structures (N, 1, R, R, R) in {0, 1} -> latents (N, C, r, r, r).
        poses_of: latents (N * B, C, r, r, r) of N scenes of B objects in the networks' order -> poses
            (N * B, 8).

    Returns:
        The object; its mesh may still lack colours.
    """
    (row,), order = known.rows, known.state.order
    before = next(item for item in known.result.objects if item.object_id == order[row])
    turns = [quarter_turned(mesh, turn) for turn in range(TURNS)]
    structures = torch.stack([structure_of(each, before.logits.shape[-1]) for each in turns])
    latents = encode((structures > 0).float()[:, None])
    scenes = known.held().latents[None].repeat(TURNS, 1, 1, 1, 1, 1)
    scenes[:, row] = latents.float().cpu()
    told = poses_of(scenes.flatten(0, 1)).float().cpu().unflatten(0, (TURNS, -1))
    placed = known.placed(StructureSample(scenes[:, row], told[:, row], told[None, :, row]))
    view = _mask_view(known, order[row])
    clouds = [surface_points(each) for each in turns]
    turn, pose = best_fit(clouds, list(placed.positions), view, lock_pose=known.lock_pose)
    return GeneratedObject(
        order[row],
        pose,
        structures[turn],
        turns[turn],
        name=before.name,
        latents=ObjectLatents(scenes[turn, row].clone()),
    )


def _mask_view(known: KnownScene, number: int) -> MaskView | None:
    if known.result.camera is None:
        return None
    masks = dict(zip(known.state.object_ids, known.state.views[0].masks, strict=True))
    return MaskView.of(known.result.camera, masks.pop(number), list(masks.values()))
