"""Annotated placements of a photo's objects to the poses that the scene flow is trained on.

An annotation places the raw model file, whose axes are y up, in the frame of the camera (x right, y up,
looking along -z), and its position is that of the origin of the file. Training poses are in the frame of a
query object, in units of its longest side; see `scenegen.geometry` for the frames and the placement itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from scenegen.datasets.metadata import SceneRow
from scenegen.datasets.tables import MetadataError
from scenegen.geometry import POSE_SIZE, ROTATION, TRANSLATION, world_pose, world_poses_to_query_poses
from trellis_modules.quaternions import canonical_quaternion, quaternion_multiply

QUATERNION, EULER = "absT_quatR_S", "absT_eulerR_S"
ENCODINGS = (QUATERNION, EULER)
"""Rows [tx, ty, tz, qw, qx, qy, qz, scale], or with three angles in degrees instead of the quaternion."""

_EULER_AXES = "xyz"  # lower case: about the fixed axes


def asset_order(count: int, query: int, limit: int, generator: torch.Generator) -> list[int]:
    """The objects of a training scene: the query, then others in random order, at most ``limit`` together.

    Args:
        count: objects of the scene.
        query: which of them is the query.
        limit: largest number of objects, at least 1.
        generator: source of the order.

    Raises:
        IndexError: there is no such query.
    """
    if not 0 <= query < count:
        raise IndexError(f"query: expected an object from 0 to {count - 1}, got {query}")
    shuffled = torch.randperm(count, generator=generator).tolist()
    return [query, *(index for index in shuffled if index != query)][: max(limit, 1)]


def camera_poses(
    translation: np.ndarray,
    euler_deg: np.ndarray,
    scale: np.ndarray,
    center: np.ndarray | None = None,
) -> Tensor:
    """Poses of objects in the frame of the camera, from their annotations.

    Args:
        translation: (N, 3) positions of the origins of the model files.
        euler_deg: (N, 3) angles about the fixed axes x, y, z.
        scale: (N,) longest sides of the boxes.
        center: (N, 3) centres of the boxes in the coordinates of the files. None takes the origin for the
            centre, which is what published training does; it is wrong by the turned centre for a model whose
            origin is elsewhere, for example at its floor.

    Returns:
        (N, 8) float64 poses; quaternions have w >= 0.
    """
    rotation = Rotation.from_euler(_EULER_AXES, np.reshape(euler_deg, (-1, 3)), degrees=True)
    position = np.reshape(np.asarray(translation, np.float64), (-1, 3))
    if center is not None:
        position = position + rotation.apply(np.reshape(center, (-1, 3)))
    xyzw = torch.from_numpy(rotation.as_quat())
    wxyz = canonical_quaternion(xyzw.roll(1, dims=-1))
    side = torch.from_numpy(np.reshape(np.asarray(scale, np.float64), (-1, 1)))
    return torch.cat((torch.from_numpy(position), wxyz, side), dim=-1)


def training_poses(
    rows: Sequence[SceneRow],
    order: Sequence[int],
    *,
    centred: bool = False,
    encoding: str = QUATERNION,
    query_yaw_deg: float = 0.0,
) -> Tensor:
    """Training targets of the objects of one photo.

    Args:
        rows: the objects of the photo, of kind ``scene``.
        order: which rows, and in which order; the first is the query, see `asset_order`.
        centred: poses of the box centres, for which every row needs its `center`; otherwise of the origins of
            the model files.
        encoding: one of `ENCODINGS`.
        query_yaw_deg: the query is one whose shape was turned by so much about its up axis, from its front
            towards its left (z towards x); the frame turns with it.

    Returns:
        (len(order), 8) float64, or (len(order), 7) with angles; the first row is the identity.

    Raises:
        MetadataError: a row has no pose, or no centre where one is needed.
        ValueError: unknown encoding.
    """
    if encoding not in ENCODINGS:
        raise ValueError(f"encoding: expected one of {', '.join(ENCODINGS)}, got {encoding!r}")
    chosen = [rows[index] for index in order]
    for row in chosen:
        if row.translation is None or row.rotation is None or row.scale is None:
            raise MetadataError(f"{row.scene_id}: object {row.instance_id} has no pose; leave it out")
        if centred and row.center is None:
            raise MetadataError(
                f"{row.scene_id}: object {row.instance_id} has no center; write the table again with "
                "build_metadata_scene, or train without centred poses"
            )
    center = np.array([row.center for row in chosen]) if centred else None
    poses = camera_poses(
        np.array([row.translation for row in chosen]),
        np.array([row.rotation for row in chosen]),
        np.array([row.scale for row in chosen]),
        center,
    )
    if query_yaw_deg:  # what turned the shape forwards, its rotation turns back: the query stays where it is
        angle = torch.tensor(math.radians(-query_yaw_deg), dtype=poses.dtype)
        turn = world_pose(poses[0, TRANSLATION], angle, poses[0, 7])[ROTATION]
        poses[0, ROTATION] = quaternion_multiply(poses[0, ROTATION], turn)
    return encode_poses(world_poses_to_query_poses(poses), encoding)


def turned_latents(model: str, yaw_deg: int) -> str:
    """Folder of the latents of shapes that were turned about their up axis before they were encoded."""
    return f"{model}_yaw{yaw_deg}" if yaw_deg else model


def turned_voxels(voxels: np.ndarray, quarters: int, resolution: int) -> np.ndarray:
    """Voxels (N, 3) of a z-up grid after quarter turns about z, from x towards y.

    This is the turn that `training_poses` calls ``query_yaw_deg``, in the frame of voxels.
    """
    for _ in range(quarters % 4):
        x, y, z = voxels.T
        voxels = np.stack([resolution - 1 - y, x, z], axis=1)
    return voxels


def encode_poses(poses: Tensor, encoding: str = QUATERNION) -> Tensor:
    """Poses (N, 8) as one of `ENCODINGS`: unchanged, or (N, 7) with angles in degrees about fixed axes."""
    if encoding == QUATERNION:
        return poses
    xyzw = poses[:, ROTATION].roll(-1, dims=-1).double().cpu().numpy()
    angles = torch.from_numpy(Rotation.from_quat(xyzw).as_euler(_EULER_AXES, degrees=True))
    return torch.cat((poses[:, :3], angles.to(poses), poses[:, 7:]), dim=-1)


def decode_poses(encoded: Tensor) -> Tensor:
    """Poses (N, 8) from one of `ENCODINGS`, (N, 8) or (N, 7): the way back of `encode_poses`."""
    if encoded.shape[-1] == POSE_SIZE:
        return encoded
    angles = encoded[:, 3:6].double().cpu().numpy()
    xyzw = torch.from_numpy(Rotation.from_euler(_EULER_AXES, angles, degrees=True).as_quat())
    return torch.cat((encoded[:, :3], xyzw.roll(1, dims=-1).to(encoded), encoded[:, 6:]), dim=-1)
