"""A shaded picture of the scene from two sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import trimesh
from PIL import Image

from scenegen.export.meshes import joined_mesh
from scenegen.export.names import PREVIEW_FILE
from scenegen.export.options import ExportOptions
from scenegen.photo.camera import PhotoCamera
from scenegen.pipelines.result import SceneResult
from trellis_modules.renderers import render_snapshot

PREVIEW_SIZE = 512
DEFAULT_DIRECTION_DEG = (30.0, 25.0)
SECOND_VIEW_TURN_DEG = 75.0
SECOND_VIEW_PITCH_DEG = 35.0


def write(result: SceneResult, scene: trimesh.Scene, folder: Path, options: ExportOptions) -> list[str]:
    """Write ``preview.png``."""
    Image.fromarray(render_preview(scene, result.camera)).save(folder / PREVIEW_FILE)
    return [PREVIEW_FILE]


def render_preview(scene: trimesh.Scene, view: PhotoCamera | None, size: int = PREVIEW_SIZE) -> np.ndarray:
    """Draw a y-up scene with vertex colours from two sides.

    Args:
        scene: in the query frame's axes.
        view: left, the scene is seen from the photo's direction; None takes a fixed one.
        size: height of the result in pixels.

    Returns:
        (size, 2 * size, 3) uint8; right, the camera has gone round and up.
    """
    vertices, faces, colours = joined_mesh(scene)
    yaw_deg, pitch_deg = DEFAULT_DIRECTION_DEG if view is None else view.direction_deg()
    pictures = [
        render_snapshot(vertices, faces, colours[faces].mean(dim=1), yaw_deg=yaw, pitch_deg=pitch, size=size)
        for yaw, pitch in ((yaw_deg, pitch_deg), (yaw_deg + SECOND_VIEW_TURN_DEG, SECOND_VIEW_PITCH_DEG))
    ]
    return torch.cat(pictures, dim=1).numpy()
