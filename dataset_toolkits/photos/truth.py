"""True scenes of annotated photos: the raw models, placed as annotated, as a GLB and a file of poses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import trimesh
from scipy.spatial.transform import Rotation
from trimesh.exchange.gltf import export_glb

from scenegen.datasets.annotations import AnnotatedPhoto, KeptObject
from scenegen.datasets.metadata import AssetRow
from scenegen.datasets.model_boxes import ModelBox, ModelBoxes, surfaces
from scenegen.datasets.poses import camera_poses
from scenegen.geometry import (
    CAMERA_FRAME,
    ROTATION,
    SCALE,
    SCENE_EXTENT,
    TRANSLATION,
    apply_transform,
    invert_pose,
    pose_to_transform,
    world_poses_to_query_poses,
)
from scenegen.synthesis.pictures.scene_writer import FRAME
from trellis_modules.quaternions import quaternion_to_matrix

LEGACY_GLB_FRAME = (
    "scene.glb: x_glb = scale * (x_query - centre), a frame with the axes of the query frame (y up) whose "
    "box is not centred: the published scenes are scaled about the origin of the first model's file and then "
    "moved by the unscaled centre"
)
_YUP_TO_ZUP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
_OPENGL_TO_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class TrueScene:
    """A photo's objects in the frame of the first one, the query.

    Attributes:
        photo: where they come from.
        objects: by number.
        boxes: of their model files.
        poses: (N, 8) float64 poses of the boxes in the query frame; the first is the identity.
        camera: (8,) float64 pose of the photo's camera in the query frame: it looks along its -z, y up.
        scale, centre: x_glb = scale * (x_query - centre).
    """

    photo: AnnotatedPhoto
    objects: tuple[KeptObject, ...]
    boxes: tuple[ModelBox, ...]
    poses: torch.Tensor
    camera: torch.Tensor
    scale: float
    centre: np.ndarray

    def to_glb(self) -> np.ndarray:
        """(4, 4) from the query frame to the frame of the GLB."""
        matrix = np.diag([self.scale, self.scale, self.scale, 1.0])
        matrix[:3, 3] = -self.scale * self.centre
        return matrix

    def node_matrices(self) -> list[np.ndarray]:
        """(4, 4) from the coordinates of each model file to the frame of the GLB."""
        return [
            self.to_glb() @ matrix @ _file_to_object(box)
            for matrix, box in zip(pose_to_transform(self.poses).numpy(), self.boxes)
        ]


def true_scene(
    photo: AnnotatedPhoto,
    objects: Sequence[KeptObject],
    boxes: ModelBoxes,
    vertices: Mapping[str, np.ndarray],
    legacy_normalize: bool = False,
) -> TrueScene:
    """Place the objects of a photo in the frame of the first one, and find where the scene lies in its GLB.

    Args:
        objects: at least one.
        vertices: model id -> (V, 3) vertices of its file that faces use.
        legacy_normalize: scale and move as the published scenes were, f x - c, which does not centre them.
    """
    found = tuple(boxes.box(item.model_id) for item in objects)
    in_camera = camera_poses(
        np.array([item.translation for item in objects]),
        np.array([item.rotation_deg for item in objects]),
        np.array([box.longest_side for box in found]),
        np.array([box.center for box in found]),
    )
    poses = world_poses_to_query_poses(in_camera)
    clouds = [
        apply_transform(matrix @ _file_to_object(box), vertices[item.model_id])
        for matrix, box, item in zip(pose_to_transform(poses).numpy(), found, objects)
    ]
    low = np.min([cloud.min(axis=0) for cloud in clouds], axis=0)
    high = np.max([cloud.max(axis=0) for cloud in clouds], axis=0)
    scale, centre = SCENE_EXTENT / float((high - low).max()), (low + high) / 2
    if legacy_normalize:
        side, origin = found[0].longest_side, np.asarray(found[0].center)
        centre = (side * centre + origin - scale / side * origin) / scale
    return TrueScene(photo, tuple(objects), found, poses, invert_pose(in_camera[0]), scale, centre)


def truth_glb(scene: TrueScene, models: Mapping[str, trimesh.Scene]) -> bytes:
    """The placed models with their materials; what is in one file hangs below a node ``obj_<number>``."""
    whole = trimesh.Scene()
    for item, matrix in zip(scene.objects, scene.node_matrices()):
        node = f"obj_{item.instance_id}"
        whole.graph.update(frame_to=node, matrix=matrix)
        for number, part in enumerate(surfaces(models[item.model_id])):
            name = f"{node}_part_{number}"
            whole.add_geometry(part, node_name=name, geom_name=name, parent_node_name=node)
    return export_glb(whole)


def truth_record(scene: TrueScene, assets: Mapping[str, AssetRow], glb_frame: str) -> dict[str, Any]:
    """Poses, yaw symmetries and camera of a scene in the query frame, JSON-ready.

    Args:
        assets: model id -> its asset, for names and symmetries; models without one have none.

    Raises:
        AnnotationError: the annotations of the photo have several fields of view.
    """
    extrinsics = np.linalg.inv(_rigid(scene.camera))
    focal = 0.5 / math.tan(scene.photo.fov() / 2)
    longer = max(scene.photo.width, scene.photo.height)
    focal_x, focal_y = focal * longer / scene.photo.width, focal * longer / scene.photo.height
    return {
        "scene_id": scene.photo.file_name,
        "frame": FRAME,
        "query": scene.objects[0].instance_id,
        "query_size_m": scene.boxes[0].longest_side,
        "objects": [
            _object_record(item, pose, assets.get(item.model_id))
            for item, pose in zip(scene.objects, scene.poses)
        ],
        "camera": {
            "frame": CAMERA_FRAME,
            "extrinsics": (_OPENGL_TO_OPENCV @ extrinsics).tolist(),
            "intrinsics": [[focal_x, 0.0, 0.5], [0.0, focal_y, 0.5], [0.0, 0.0, 1.0]],
            "fov_deg": math.degrees(scene.photo.fov()),
            "image_size": [scene.photo.width, scene.photo.height],
        },
        "glb": {"frame": glb_frame, "scale": scene.scale, "centre": scene.centre.tolist()},
    }


def render_entry(record: Mapping[str, Any], render_path: str) -> dict[str, Any]:
    """The photo's camera as ``render_cfg.json`` has it: in the frame that Blender gives the GLB, z up.

    Args:
        record: see `truth_record`; as it is read from its file, so that every run gives the same numbers.
        render_path: the picture, relative to the data root.
    """
    in_query = np.linalg.inv(np.array(record["camera"]["extrinsics"])) @ _OPENGL_TO_OPENCV
    position = record["glb"]["scale"] * (in_query[:3, 3] - record["glb"]["centre"])
    rotation = Rotation.from_matrix(_YUP_TO_ZUP @ in_query[:3, :3])
    width, height = record["camera"]["image_size"]
    return {
        "camera_pos": (_YUP_TO_ZUP @ position).tolist(),
        "camera_rotation": rotation.as_euler("xyz", degrees=True).tolist(),
        "fov": math.radians(record["camera"]["fov_deg"]),
        "render_path": render_path,
        "width": width,
        "height": height,
    }


def _rigid(pose: torch.Tensor) -> np.ndarray:
    """(4, 4) rotation and translation of a pose (8,), without its scale."""
    matrix = np.eye(4)
    matrix[:3, :3] = quaternion_to_matrix(pose[ROTATION]).numpy()
    matrix[:3, 3] = pose[TRANSLATION].numpy()
    return matrix


def _file_to_object(box: ModelBox) -> np.ndarray:
    """(4, 4) from the coordinates of a model file to the object frame: box centred, longest side 1."""
    matrix = np.diag([1 / box.longest_side] * 3 + [1.0])
    matrix[:3, 3] = -np.asarray(box.center) / box.longest_side
    return matrix


def _object_record(item: KeptObject, pose: torch.Tensor, asset: AssetRow | None) -> dict[str, Any]:
    extra = {} if asset is None else asset.extra
    return {
        "id": item.instance_id,
        "node": f"obj_{item.instance_id}",
        "name": extra.get("name", item.model_id),
        "model_id": item.model_id,
        "symmetry": int(extra.get("symmetry") or 1),
        "translation": pose[TRANSLATION].tolist(),
        "rotation_wxyz": pose[ROTATION].tolist(),
        "scale": float(pose[SCALE]),
    }
