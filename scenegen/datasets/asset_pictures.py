"""The pictures of a single asset and their cameras, as ``transforms.json`` describes them.

The asset is z up, its box is centred at the origin and has the longest side 1, and every camera looks at the
origin.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from safe_files.json_reader import read_json
from trellis_modules.renderers.cameras import centred_intrinsics, focal_length

TRANSFORMS_NAME = "transforms.json"
MESH_NAME = "mesh.ply"

OPENGL_TO_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class AssetPictures:
    """The pictures of one asset and their cameras.

    Attributes:
        files: pictures, RGBA.
        extrinsics: (V, 4, 4) float64 world to camera, OpenCV axes.
        intrinsics: (V, 3, 3) float64, normalised.
        scale, offset: x = scale * x_file + offset, with the axes of the file turned z up.
    """

    files: list[Path]
    extrinsics: Tensor
    intrinsics: Tensor
    scale: float
    offset: tuple[float, float, float]


def read_transforms(folder: Path) -> AssetPictures:
    """Read the ``transforms.json`` of a folder of pictures.

    Raises:
        ValueError: it is missing, cut off, or says something else.
    """
    path = folder / TRANSFORMS_NAME
    try:
        content = read_json(path)
        frames = content["frames"]
        to_world = np.array([frame["transform_matrix"] for frame in frames], np.float64).reshape(-1, 4, 4)
        fov = torch.tensor([float(frame["camera_angle_x"]) for frame in frames], dtype=torch.float64)
        x, y, z = (float(value) for value in content["offset"])
        return AssetPictures(
            files=[folder / frame["file_path"] for frame in frames],
            extrinsics=torch.from_numpy(np.linalg.inv(to_world @ OPENGL_TO_OPENCV)),
            intrinsics=centred_intrinsics(focal_length(fov)),
            scale=float(content["scale"]),
            offset=(x, y, z),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected the cameras of pictures ({error}); render the asset again"
        ) from error
