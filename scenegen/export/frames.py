"""The frames of the files: how the query frame, ``scene.glb``, the photo and the splats lie to each other."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import trimesh
from torch import Tensor

from scenegen.geometry import (
    ROTATION,
    SCALE,
    TRANSLATION,
    pose_to_transform,
    relative_pose,
    sanitize_pose,
    yup_to_zup,
)
from scenegen.photo.camera import PhotoCamera
from scenegen.pipelines.result import SceneResult
from trellis_modules.gltf import GltfCamera, GltfNode

PHOTO_NODE = "photo"
"""Name of the camera of the photo in scene files."""

PLY_TO_GLB = np.diag([1.0, -1.0, -1.0, 1.0])
"""Takes ``scene.ply`` to ``scene.glb`` and ``obj_<k>.ply`` to ``obj_<k>.glb``, acting on column vectors."""

PLY_FRAME = (
    "scene.ply and obj_<k>.ply: y down, z away from the viewer, as splat viewers show them upright; "
    "x_glb = ply_to_glb @ (x_ply, 1) holds for scene.ply and scene.glb, and for obj_<k>.ply and obj_<k>.glb"
)

_CAMERA_AXES = np.diag([1.0, -1.0, -1.0, 1.0])  # y down, z forward <-> y up, z backward


def zup_transform(pose: Tensor) -> Tensor:
    """Matrices (..., 4, 4) of poses (..., 8) between z-up frames: the object's, and the scene turned."""
    placed = pose_to_transform(pose)
    turned = placed.clone()
    turned[..., :3, 3] = yup_to_zup(placed[..., :3, 3])
    columns = yup_to_zup(placed[..., :3, :3].mT)  # the scene's side of the rotation
    turned[..., :3, :3] = yup_to_zup(columns.mT)  # the object's side
    return turned


def in_frame_of(result: SceneResult, object_id: int) -> SceneResult:
    """The same scene in the frame of another object, which becomes its query; the photo shows it as before.

    Raises:
        ValueError: there is no such object.
    """
    found = [item.pose for item in result.objects if item.object_id == object_id]
    if not found:
        raise ValueError(f"in_frame_of: expected one of the objects of the scene, got {object_id}")
    frame = sanitize_pose(found[0].double())
    objects = tuple(
        replace(item, pose=relative_pose(sanitize_pose(item.pose.double()), frame).to(item.pose.dtype))
        for item in result.objects
    )
    to_frame = np.linalg.inv(pose_to_transform(frame).numpy())
    return replace(
        result,
        objects=objects,
        query_id=object_id,
        camera=_camera_in(result.camera, frame),
        room=tuple(part.moved(to_frame) for part in result.room),
    )


def _camera_in(camera: PhotoCamera | None, frame: Tensor) -> PhotoCamera | None:
    """A camera in the frame of a pose (8,); its depths are in longest sides of that object."""
    if camera is None:
        return None
    extrinsics = camera.extrinsics @ pose_to_transform(frame).numpy()
    extrinsics[:3] /= float(frame[SCALE])
    return replace(camera, extrinsics=extrinsics)


@dataclass(frozen=True)
class SceneFrame:
    """Where a scene file lies in the query frame: ``x_glb = scale * (x_query - centre)``."""

    scale: float
    centre: np.ndarray

    @classmethod
    def of(cls, result: SceneResult, scene: trimesh.Scene) -> SceneFrame:
        """The frame of a scene that `scenegen.export.meshes.build_scene` made of a result."""
        item = next(item for item in result.objects if item.mesh is not None)
        placed = pose_to_transform(sanitize_pose(item.pose.double())).numpy()
        query_to_glb = scene.graph[item.node][0] @ np.linalg.inv(placed)
        scale = float(query_to_glb[0, 0])
        return cls(scale, -query_to_glb[:3, 3] / scale)

    def pose(self, pose: Tensor) -> Tensor:
        """A pose (8,) of the query frame as one of the scene file."""
        centre = torch.as_tensor(self.centre, dtype=pose.dtype)
        moved = self.scale * (pose[TRANSLATION] - centre)
        return torch.cat([moved, pose[ROTATION], self.scale * pose[SCALE]])

    def matrix(self) -> np.ndarray:
        """The way (4, 4) from the query frame to that of the scene file."""
        transform = self.scale * np.eye(4)
        transform[:3, 3] = -self.scale * self.centre
        transform[3, 3] = 1
        return transform

    def photo_node(self, view: PhotoCamera) -> GltfNode:
        """The camera of the photo in the scene file; through it the scene lies over the photo."""
        to_query = np.linalg.inv(view.extrinsics) @ _CAMERA_AXES
        transform = to_query.copy()
        transform[:3, 3] = self.scale * (to_query[:3, 3] - self.centre)
        lens = GltfCamera(yfov=2 * math.atan(view.aspect / 2 / view.focal), aspect=1 / view.aspect)
        return GltfNode(PHOTO_NODE, lens, transform)
