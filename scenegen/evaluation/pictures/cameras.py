"""The camera of a scene's photo: from ``render_cfg.json`` of the true pictures, or from the truth's JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from safe_files.json_reader import read_json
from scenegen.evaluation.loading import EvaluationError

ZUP_TO_YUP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""Blender's world to that of GLB files."""

BACKWARD_TO_FORWARD = np.diag([1.0, -1.0, -1.0])
"""A camera with y up and z backward, as Blender has it, to y down and z forward; and back."""

_DEFAULT_FOV = math.radians(60)
_DEFAULT_SIZE = 1200


@dataclass(frozen=True)
class SceneCamera:
    """A pinhole camera in the frame of a scene file.

    Attributes:
        extrinsics: (4, 4) scene file to camera; x right, y down, z forward.
        focal: (2,) focal lengths in pixels.
        centre: (2,) principal point in pixels from the top left corner.
        width, height: of the picture in pixels.
    """

    extrinsics: np.ndarray
    focal: tuple[float, float]
    centre: tuple[float, float]
    width: int
    height: int

    def as_json(self) -> dict[str, Any]:
        """Everything that a picture depends on, for hashes."""
        return {
            "extrinsics": np.round(self.extrinsics, 9).tolist(),
            "focal": list(self.focal),
            "centre": list(self.centre),
            "size": [self.width, self.height],
        }


def camera_of_render_config(entry: Mapping[str, Any], where: str) -> SceneCamera:
    """The camera of one scene of ``render_cfg.json``.

    Args:
        entry: camera_pos (3), camera_rotation (XYZ Euler angles in degrees) in Blender's world (z up), fov
            (radians, of the longer side), width and height in pixels.
        where: named in errors.

    Raises:
        EvaluationError: a number is missing or cannot be used.
    """
    try:
        position = ZUP_TO_YUP @ np.asarray(entry["camera_pos"], dtype=np.float64)
        turn = Rotation.from_euler("xyz", entry["camera_rotation"], degrees=True).as_matrix()
        width, height = int(entry.get("width", _DEFAULT_SIZE)), int(entry.get("height", _DEFAULT_SIZE))
        fov = float(entry.get("fov") or _DEFAULT_FOV)
        to_camera = BACKWARD_TO_FORWARD @ turn.T @ ZUP_TO_YUP.T
        focal = max(width, height) / 2 / math.tan(fov / 2)
        extrinsics = _rigid(to_camera, -to_camera @ position)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise EvaluationError(
            f"{where}: expected camera_pos, camera_rotation, fov, width and height, got "
            f"{type(error).__name__}: {error}; write the true pictures again"
        ) from error
    return _checked(SceneCamera(extrinsics, (focal, focal), (width / 2, height / 2), width, height), where)


def camera_of_truth(path: Path, size: tuple[int, int] | None) -> SceneCamera:
    """The camera in the JSON file of a true scene.

    Args:
        path: of the file, with "camera" (query frame to camera) and "glb" (query frame to scene file).
        size: width and height of the photo; None takes the file's "image_size".

    Raises:
        EvaluationError: the file has no camera, or one that cannot be used.
    """
    try:
        raw = read_json(path)
        camera, frame = raw["camera"], raw["glb"]
        width, height = size or (int(camera["image_size"]),) * 2
        query_to_camera = np.asarray(camera["extrinsics"], dtype=np.float64)
        intrinsics = np.asarray(camera["intrinsics"], dtype=np.float64)
        scale, centre = float(frame["scale"]), np.asarray(frame["centre"], dtype=np.float64)
        turn = query_to_camera[:3, :3]
        # x_query = x_glb / scale + centre; depths in units of the file keep the picture as it is.
        extrinsics = _rigid(turn, scale * (turn @ centre + query_to_camera[:3, 3]))
        focal = float(intrinsics[0, 0]) * width, float(intrinsics[1, 1]) * height
        middle = float(intrinsics[0, 2]) * width, float(intrinsics[1, 2]) * height
    except (OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise EvaluationError(
            f"{path}: expected the photo's camera and the frame of the scene file, got "
            f"{type(error).__name__}: {error}; appearance needs one of them or render_cfg.json"
        ) from error
    return _checked(SceneCamera(extrinsics, focal, middle, width, height), str(path))


def _rigid(turn: np.ndarray, shift: np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, shift
    return matrix


def _checked(camera: SceneCamera, where: str) -> SceneCamera:
    numbers = np.concatenate([camera.extrinsics.ravel(), camera.focal, camera.centre])
    if not np.isfinite(numbers).all() or min(*camera.focal, camera.width, camera.height) <= 0:
        raise EvaluationError(f"{where}: expected a camera of finite numbers and a picture with pixels")
    return camera
