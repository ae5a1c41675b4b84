"""Cameras around a single asset: where they stand, and how ``transforms.json`` describes them.

The asset is z up, its box is centred at the origin and has the longest side 1, and every camera looks at the
origin.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trellis_modules.renderers.low_discrepancy import sphere_hammersley

RADIUS, FOV_DEG = 2.0, 40.0
COND_FOV_DEG = (10.0, 70.0)
HALF_DIAGONAL = math.sqrt(3) / 2  # radius of the sphere around the unit cube


@dataclass(frozen=True)
class View:
    """One camera: direction from the origin in radians, distance from it, and field of view in radians."""

    yaw: float
    pitch: float
    radius: float
    fov: float


def view_generator(kind: str, sha256: str) -> np.random.Generator:
    """Randomness of an asset's views: the same in every run, whichever process draws it."""
    digest = hashlib.sha256(f"{kind} {sha256}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))


def multiview(count: int, rng: np.random.Generator) -> list[View]:
    """Cameras all around at one distance: the evenly spread directions of Hammersley, shifted at random."""
    return [View(yaw, pitch, RADIUS, math.radians(FOV_DEG)) for yaw, pitch in _directions(count, rng)]


def conditioning_views(count: int, rng: np.random.Generator) -> list[View]:
    """Cameras all around whose fields of view differ, each at the distance where the asset fills its view."""
    directions = _directions(count, rng)
    nearest, furthest = (HALF_DIAGONAL / math.sin(math.radians(fov) / 2) for fov in reversed(COND_FOV_DEG))
    radii = 1 / np.sqrt(rng.uniform(1 / furthest**2, 1 / nearest**2, count))
    return [
        View(yaw, pitch, float(radius), 2 * math.asin(HALF_DIAGONAL / radius))
        for (yaw, pitch), radius in zip(directions, radii)
    ]


def _directions(count: int, rng: np.random.Generator) -> list[tuple[float, float]]:
    offset = float(rng.random()), float(rng.random())
    return [sphere_hammersley(index, count, offset, remap=True) for index in range(count)]


def camera_to_world(view: View) -> np.ndarray:
    """(4, 4) float64, OpenGL axes (x right, y up, looking along -z)."""
    cos_yaw, sin_yaw = math.cos(view.yaw), math.sin(view.yaw)
    cos_pitch, sin_pitch = math.cos(view.pitch), math.sin(view.pitch)
    backward = np.array([cos_yaw * cos_pitch, sin_yaw * cos_pitch, sin_pitch])
    right = np.array([-sin_yaw, cos_yaw, 0.0])  # has a limit straight above and below
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([right, np.cross(backward, right), backward], axis=1)
    matrix[:3, 3] = view.radius * backward
    return matrix


def write_transforms(path: Path, views: list[View], scale: float, offset: np.ndarray) -> None:
    """Write ``transforms.json``: the cameras of pictures 000.png, 001.png, ..., and how the asset was scaled.

    Args:
        path: the file.
        views: one for each picture.
        scale, offset: x = scale * x_file + offset, with the axes of the file turned z up.
    """
    frames = [
        {
            "file_path": picture_name(number),
            "camera_angle_x": view.fov,
            "transform_matrix": camera_to_world(view).tolist(),
        }
        for number, view in enumerate(views)
    ]
    content = {"aabb": [[-0.5] * 3, [0.5] * 3], "scale": scale, "offset": list(offset), "frames": frames}
    path.write_text(json.dumps(content, indent=4), encoding="utf-8")


def picture_name(number: int) -> str:
    """File name of a view's picture."""
    return f"{number:03d}.png"
