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
import torch.nn.functional as F
from torch import Tensor

POSE_SIZE = 8
TRANSLATION = slice(0, 3)
ROTATION = slice(3, 7)
SCALE = slice(7, 8)

MIN_SCALE = 1e-4
"""Smallest side, in scene units, that `sanitize_pose` lets through: keeps every placement invertible."""

_QUATERNION_EPS = 1e-8

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


# --- rotations ---------------------------------------------------------------------------------------------


def normalize_quaternion(quaternion: Tensor) -> Tensor:
    """Scale quaternions (..., 4), wxyz, to unit length; one of (almost) zero length becomes the identity."""
    norm = quaternion.norm(dim=-1, keepdim=True)
    identity = torch.zeros_like(quaternion)
    identity[..., 0] = 1.0
    return torch.where(norm > _QUATERNION_EPS, quaternion / norm.clamp_min(_QUATERNION_EPS), identity)


def quaternion_multiply(left: Tensor, right: Tensor) -> Tensor:
    """Hamilton product (..., 4), wxyz: the rotation that applies ``right`` first, then ``left``."""
    w1, x1, y1, z1 = left.unbind(-1)
    w2, x2, y2, z2 = right.unbind(-1)
    return torch.stack(
        (
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
        ),
        dim=-1,
    )


def quaternion_conjugate(quaternion: Tensor) -> Tensor:
    """The opposite rotation of unit quaternions (..., 4), wxyz."""
    return quaternion * quaternion.new_tensor([1.0, -1.0, -1.0, -1.0])


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3), acting on column vectors, of quaternions (..., 4), wxyz, any length."""
    w, x, y, z = normalize_quaternion(quaternion).unbind(-1)
    rows = (
        torch.stack((1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)), dim=-1),
        torch.stack((2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)), dim=-1),
        torch.stack((2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)), dim=-1),
    )
    return torch.stack(rows, dim=-2)


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Unit quaternions (..., 4), wxyz with w >= 0, of rotation matrices (..., 3, 3).

    Each of the four components can be recovered from the diagonal and the other three from it; the largest
    one is used, so that the result is accurate for every angle, 180 degrees included.
    """
    m = matrix
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    diagonal = m.diagonal(dim1=-2, dim2=-1)
    four_squares = torch.cat((trace[..., None], 2 * diagonal - trace[..., None]), dim=-1) + 1  # 4*(w,x,y,z)^2
    wx, wy, wz = (m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1])
    xy, xz, yz = (m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2])
    ww, xx, yy, zz = four_squares.unbind(-1)
    # Row k is 4 * q_k * (w, x, y, z).
    candidates = torch.stack(
        (
            torch.stack((ww, wx, wy, wz), dim=-1),
            torch.stack((wx, xx, xy, xz), dim=-1),
            torch.stack((wy, xy, yy, yz), dim=-1),
            torch.stack((wz, xz, yz, zz), dim=-1),
        ),
        dim=-2,
    )
    largest = four_squares.argmax(dim=-1)[..., None, None].expand(*four_squares.shape[:-1], 1, 4)
    return canonical_quaternion(F.normalize(candidates.gather(-2, largest).squeeze(-2), dim=-1))


def canonical_quaternion(quaternion: Tensor) -> Tensor:
    """Choose the sign with w >= 0 of quaternions (..., 4), wxyz; q and -q are the same rotation."""
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def euler_to_matrix(angles_deg: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of extrinsic x-y-z angles (..., 3) in degrees: R = Rz @ Ry @ Rx."""
    axes = torch.eye(3, dtype=angles_deg.dtype, device=angles_deg.device)
    x, y, z = (quaternion_from_axis_angle(axes[k], torch.deg2rad(angles_deg[..., k])) for k in range(3))
    return quaternion_to_matrix(quaternion_multiply(z, quaternion_multiply(y, x)))


def quaternion_from_axis_angle(axis: Tensor, angle: Tensor) -> Tensor:
    """Unit quaternions (..., 4), wxyz, of turns by ``angle`` (...) radians about one unit ``axis`` (3,)."""
    half = angle[..., None] / 2
    return torch.cat((torch.cos(half), torch.sin(half) * axis.to(half)), dim=-1)


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


def transform_to_pose(transform: Tensor) -> Tensor:
    """Poses (..., 8) of similarity transforms (..., 4, 4): a rotation, one positive scale and a translation.

    Raises:
        ValueError: a transform mirrors, shears, or scales its axes differently.
    """
    linear = transform[..., :3, :3]
    scale = linear.norm(dim=-2).mean(dim=-1)
    rotation = linear / scale.clamp_min(torch.finfo(scale.dtype).tiny)[..., None, None]
    identity = torch.eye(3, dtype=linear.dtype, device=linear.device).expand_as(rotation)
    is_orthogonal = torch.allclose(rotation @ rotation.mT, identity, atol=1e-3)
    if not is_orthogonal or bool((torch.det(rotation) < 0).any()):
        raise ValueError(
            "transform_to_pose: expected rotation, uniform positive scale and translation, got a transform "
            "with shear, mirroring or different scales per axis; such a node has no pose"
        )
    return torch.cat((transform[..., :3, 3], matrix_to_quaternion(rotation), scale[..., None]), dim=-1)


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
