"""Where objects stand: the one object-to-scene placement.

The pipeline, the losses, the evaluation and the pictures all place objects with the functions of this file.

Frames
    object z-up   voxel grids, latents and decoded meshes: c in [-0.5, 0.5]^3, z up, the longest side of the
                  object's box is 1 and the box is centred at 0.
    object y-up   the same object turned by Rx(-90 deg), (x, y, z) -> (x, z, -y): y up, furniture faces +z.
    query         object y-up frame of the query asset: unit = its longest side, origin = its box centre.
    scene         any common frame of the assets: the query frame, or a y-up world in metres.
    glTF          y up, so that the query frame is written to a GLB without a turn.

Pose
    (..., 8) = [tx, ty, tz, qw, qx, qy, qz, scale] takes object y-up to a scene frame:
    ``x_scene = scale * R(q) @ p_yup + t``. t is where the box centre lands and scale is the longest side in
    scene units. In the query frame the query asset has the identity pose [0, 0, 0, 1, 0, 0, 0, 1]; in a world
    frame a pose is [centre in metres, rotation, longest side in metres].
    A quaternion need not have unit length: every function normalises it, and a zero quaternion means
    no rotation.

Every function of tensors is batched over leading axes, keeps device and dtype, and is differentiable.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from trellis_modules.quaternions import (
    canonical_quaternion,
    normalize_quaternion,
    quaternion_conjugate,
    quaternion_from_axis_angle,
    quaternion_multiply,
    quaternion_to_matrix,
)

CONTINUOUS_SYMMETRY = 0
"""Order of the symmetry of what looks the same after any turn about its vertical axis; otherwise the order n
says that turns by 360/n degrees look the same, and 1 that none does."""

POSE_SIZE = 8
TRANSLATION = slice(0, 3)
ROTATION = slice(3, 7)
SCALE = slice(7, 8)

SCENE_EXTENT = 1.96
"""Longest side of a scene in a file, centred at the origin: the box [-1, 1]^3 with a margin of 2 percent."""

MIN_SCALE = 1e-4
"""Smallest side, in scene units, that `sanitize_pose` lets through: keeps every placement invertible."""

CAMERA_FRAME = (
    "photo: extrinsics take the query frame to the frame of the photo's camera (x right, y down, z forward, "
    "in units of the query frame), x_camera = extrinsics @ (x_query, 1); intrinsics take that to the upright "
    "photo, the first row in widths and the second in heights from its top left corner: times width and "
    "height they give pixels"
)
"""The words beside the numbers of a photo's camera in files."""

GLB_FRAME = (
    "scene.glb: x_glb = scale * (x_query - centre), a frame with the axes of the query frame (y up) in which "
    "the box of the scene is centred at the origin and its longest side is 1.96, whatever its size in metres"
)
"""The words beside the numbers that place a scene in its GLB."""


# --- object frames -----------------------------------------------------------------------------------------


def zup_to_yup(points_zup: Tensor) -> Tensor:
    """Turn vectors (..., 3) of the object z-up frame into the object y-up frame: (x, y, z) -> (x, z, -y)."""
    x, y, z = points_zup.unbind(-1)
    return torch.stack((x, z, -y), dim=-1)


def yup_to_zup(points_yup: Tensor) -> Tensor:
    """Turn vectors (..., 3) of the object y-up frame into the object z-up frame: (x, y, z) -> (x, -z, y)."""
    x, y, z = points_yup.unbind(-1)
    return torch.stack((x, -z, y), dim=-1)


# --- poses -------------------------------------------------------------------------------------------------


def identity_pose(
    count: int, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Tensor:
    """(count, 8) poses that leave an object where it is: the pose of the query in its own frame."""
    pose = torch.zeros(count, POSE_SIZE, device=device, dtype=dtype)
    pose[:, 3] = 1.0
    pose[:, 7] = 1.0
    return pose


def world_pose(centre: Tensor, yaw: Tensor, size: Tensor) -> Tensor:
    """Poses (..., 8) of objects that stand upright in a y-up world.

    Args:
        centre: (..., 3) box centres in world units.
        yaw: (...) turns about +y in radians; positive takes +z (the front) towards +x.
        size: (...) longest sides in world units.
    """
    y_axis = torch.tensor([0.0, 1.0, 0.0], dtype=centre.dtype, device=centre.device)
    return torch.cat((centre, quaternion_from_axis_angle(y_axis, yaw), size[..., None]), dim=-1)


def check_pose(pose: Tensor, where: str) -> None:
    """Raise ValueError unless the last axis of ``pose`` holds the 8 numbers of a pose."""
    if pose.ndim == 0 or pose.shape[-1] != POSE_SIZE:
        raise ValueError(
            f"{where}: expected poses (..., {POSE_SIZE}) [translation, quaternion wxyz, scale], "
            f"got shape {tuple(pose.shape)}"
        )


def sanitize_pose(pose: Tensor, min_scale: float = MIN_SCALE) -> Tensor:
    """Make predicted poses (..., 8) usable: unit quaternions, w >= 0, scales of at least ``min_scale``."""
    check_pose(pose, "sanitize_pose")
    rotation = canonical_quaternion(normalize_quaternion(pose[..., ROTATION]))
    return torch.cat((pose[..., TRANSLATION], rotation, pose[..., SCALE].clamp_min(min_scale)), dim=-1)


def place_yup(points_yup: Tensor, pose: Tensor) -> Tensor:
    """Move points of an object from its y-up frame into the scene frame.

    Args:
        points_yup: (..., N, 3) points, object y-up frame.
        pose: (..., 8), leading axes broadcast with those of the points; a scale is used as it is.

    Returns:
        (..., N, 3) points in the frame of the pose.

    Raises:
        ValueError: the last axis of pose is not 8.
    """
    check_pose(pose, "place_yup")
    rotation = quaternion_to_matrix(pose[..., ROTATION])
    return pose[..., None, SCALE] * (points_yup @ rotation.mT) + pose[..., None, TRANSLATION]


def place(points_zup: Tensor, pose: Tensor) -> Tensor:
    """Move points (..., N, 3) from the object z-up (voxel) frame into the scene frame, see `place_yup`."""
    return place_yup(zup_to_yup(points_zup), pose)


def pose_to_transform(pose: Tensor) -> Tensor:
    """4x4 matrices (..., 4, 4), acting on column vectors, that do what `place_yup` does."""
    check_pose(pose, "pose_to_transform")
    linear = pose[..., SCALE, None] * quaternion_to_matrix(pose[..., ROTATION])
    upper = torch.cat((linear, pose[..., TRANSLATION, None]), dim=-1)  # (..., 3, 4)
    bottom = pose.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*pose.shape[:-1], 1, 4)
    return torch.cat((upper, bottom), dim=-2)


def transform_points(points: Tensor, transform: Tensor) -> Tensor:
    """Apply transforms (..., 4, 4) to points (..., 3), one each or broadcast.

    Written out instead of multiplied: a product for each of a million points is slow on a GPU.
    """
    linear, offset = transform[..., :3, :3], transform[..., :3, 3]
    x, y, z = points.split(1, dim=-1)
    return x * linear[..., 0] + y * linear[..., 1] + z * linear[..., 2] + offset


def apply_transform(transform: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Move points (V, 3) by a 4x4 matrix that acts on column vectors; arrays, as meshes are kept in."""
    return vertices @ transform[:3, :3].T + transform[:3, 3]


def compose_poses(outer: Tensor, inner: Tensor) -> Tensor:
    """Poses (..., 8) that apply ``inner`` (object -> frame A) first, then ``outer`` (frame A -> frame B)."""
    check_pose(outer, "compose_poses")
    check_pose(inner, "compose_poses")
    outer_rotation = normalize_quaternion(outer[..., ROTATION])
    rotation = quaternion_multiply(outer_rotation, normalize_quaternion(inner[..., ROTATION]))
    translation = place_yup(inner[..., None, TRANSLATION], outer).squeeze(-2)
    return torch.cat((translation, rotation, outer[..., SCALE] * inner[..., SCALE]), dim=-1)


def invert_pose(pose: Tensor) -> Tensor:
    """Poses (..., 8) of the way back; the scale must not be 0 (see `sanitize_pose`)."""
    check_pose(pose, "invert_pose")
    rotation = quaternion_conjugate(normalize_quaternion(pose[..., ROTATION]))
    scale = 1 / pose[..., SCALE]
    turned = quaternion_to_matrix(rotation) @ pose[..., TRANSLATION, None]
    return torch.cat((-scale * turned.squeeze(-1), rotation, scale), dim=-1)


def relative_pose(pose: Tensor, reference: Tensor) -> Tensor:
    """Poses (..., 8) in the frame of ``reference`` (..., 8), both given in one common scene frame.

    With an object and the query in world coordinates this is the training target: the translation in units
    of the query's longest side along the query's own axes, the rotation relative to the query, and the ratio
    of the longest sides. Quaternions have w >= 0.
    """
    relative = compose_poses(invert_pose(reference), pose)
    rotation = canonical_quaternion(relative[..., ROTATION])
    return torch.cat((relative[..., TRANSLATION], rotation, relative[..., SCALE]), dim=-1)


def world_poses_to_query_poses(world_poses: Tensor, query: int = 0) -> Tensor:
    """Express the world poses (N, 8) of a scene in the frame of asset ``query``, whose row is the identity.

    Raises:
        IndexError: ``query`` is not one of the N assets.
    """
    relative = relative_pose(world_poses, world_poses[query])
    identity = identity_pose(1, device=world_poses.device, dtype=world_poses.dtype)
    is_query = torch.arange(len(world_poses), device=world_poses.device) == query % len(world_poses)
    return torch.where(is_query[:, None], identity, relative)  # exact identity, free of rounding


def average_poses(poses: Tensor, dim: int = 0) -> Tensor:
    """Mean of several estimates of the same poses: (..., V, ..., 8) -> (..., 8) without axis ``dim``.

    q and -q are the same rotation, so each quaternion takes the sign nearest to the first estimate before the
    normalised mean; the plain mean of opposite signs would cancel. Translations and scales are plain means.
    """
    check_pose(poses, "average_poses")
    poses = poses.movedim(dim, 0)
    rotation = normalize_quaternion(poses[..., ROTATION])
    opposite = (rotation * rotation[:1]).sum(dim=-1, keepdim=True) < 0
    mean_rotation = normalize_quaternion(torch.where(opposite, -rotation, rotation).mean(dim=0))
    translation, scale = poses[..., TRANSLATION].mean(dim=0), poses[..., SCALE].mean(dim=0)
    return torch.cat((translation, mean_rotation, scale), dim=-1)


def rotation_angle_deg(rotation: Tensor, other: Tensor) -> Tensor:
    """Angle (...) in degrees, [0, 180], between the rotations of two sets of quaternions (..., 4), wxyz."""
    difference = quaternion_multiply(
        quaternion_conjugate(normalize_quaternion(rotation)), normalize_quaternion(other)
    )
    # atan2 keeps its accuracy near 0 and 180 degrees, where acos loses half of the digits.
    return torch.rad2deg(2 * torch.atan2(difference[..., 1:].norm(dim=-1), difference[..., 0].abs()))


def pose_differences(predicted: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Compare poses of targets, each in the frame of its query.

    Args:
        predicted, truth: (T, 8) poses relative to the query; scales are positive.

    Returns:
        (T,) tensors: rotation_error_deg in [0, 180]; translation_error in longest sides of the query;
        scale_ratio = predicted / true size; log_scale_error = |ln(scale_ratio)|; size_agreement = the smaller
        size over the larger one, in (0, 1].
    """
    ratio = (predicted[:, SCALE] / truth[:, SCALE]).squeeze(-1)
    return {
        "rotation_error_deg": rotation_angle_deg(predicted[:, ROTATION], truth[:, ROTATION]),
        "translation_error": (predicted[:, TRANSLATION] - truth[:, TRANSLATION]).norm(dim=-1),
        "scale_ratio": ratio,
        "log_scale_error": ratio.log().abs(),
        "size_agreement": torch.minimum(ratio, 1 / ratio),
    }
