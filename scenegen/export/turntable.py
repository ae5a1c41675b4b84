"""A video of one turn around the scene on white.

Meshes are lit from the camera's side and their back faces are dark; Gaussians and radiance fields are
shown in their own colours.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch
import trimesh
from torch import Tensor

from scenegen.export.meshes import joined_mesh
from scenegen.export.options import ExportOptions
from scenegen.export.placed_representations import draw_placed
from scenegen.export.preview import DEFAULT_DIRECTION_DEG
from scenegen.geometry import yup_to_zup
from scenegen.pipelines.result import SceneResult
from trellis_modules.renderers import Rendering, render_mesh, turntable, write_video
from trellis_modules.renderers.cameras import camera_rays
from trellis_modules.renderers.pictures import Draw
from trellis_modules.renderers.snapshot import BACK_SHADE

VIDEO_FILE = "turntable.mp4"
FRAMES = 96
FRAMES_PER_SECOND = 24
SIZE = 384

_FIRST_SIDE_DEG = 180.0  # azimuth in the query frame of the first camera of `turntable_cameras`
_LIGHT_FROM = (0.35, -0.5, 0.8)  # z up
_AMBIENT = 0.55
_BACKGROUND = (1.0, 1.0, 1.0)
_RADIUS = 0.66  # of the largest ball at the origin that the cameras see in full: 2 sin(20 degrees)


def write(result: SceneResult, scene: trimesh.Scene, folder: Path, options: ExportOptions) -> list[str]:
    """Write ``turntable.mp4``; its first frame, which file managers show, has the photo's side."""
    azimuth_deg, _ = DEFAULT_DIRECTION_DEG if result.camera is None else result.camera.direction_deg()
    if options.turntable == "mesh":
        frames = turntable_frames(scene, FRAMES, SIZE, azimuth_deg)
    else:
        draw = draw_placed(
            options.turntable,
            result,
            scene,
            zoom=_zoom(scene),
            size=SIZE,
            background=_BACKGROUND,
            device=options.device,
        )
        frames = turntable(_beginning_at(azimuth_deg, draw), FRAMES)
    write_video(frames, folder / VIDEO_FILE, FRAMES_PER_SECOND)
    return [VIDEO_FILE]


def turntable_frames(scene: trimesh.Scene, num_frames: int, size: int, azimuth_deg: float) -> Tensor:
    """Pictures of a y-up scene around the origin, which fills them.

    Args:
        scene: in the query frame's axes.
        num_frames, size: number of pictures, pixels along their edge.
        azimuth_deg: side of the first one: 0 = from +z, positive towards +x.

    Returns:
        (num_frames, size, size, 3) uint8.
    """
    vertices, faces, colours = joined_mesh(scene)
    vertices = yup_to_zup(vertices) * _zoom(scene)

    def draw(extrinsics: Tensor, intrinsics: Tensor) -> Rendering:
        rendering = render_mesh(
            vertices,
            faces,
            extrinsics,
            intrinsics,
            size,
            vertex_attributes=colours,
            background=_BACKGROUND,
            near=0.1,
        )
        rays = camera_rays(intrinsics, (size, size)) @ extrinsics[:, None, :3, :3]  # in the world
        is_back = (rendering.normal * rays).sum(dim=-1, keepdim=True) > 0
        return replace(rendering, colour=rendering.colour * torch.where(is_back, BACK_SHADE, 1.0))

    return turntable(_beginning_at(azimuth_deg, draw), num_frames, shaded_pictures)


def _zoom(scene: trimesh.Scene) -> float:
    """Factor by which a scene at the origin fills the pictures."""
    vertices, _, _ = joined_mesh(scene)
    return float(_RADIUS / vertices.norm(dim=1).max())


def _beginning_at(azimuth_deg: float, draw: Draw) -> Draw:
    """Draws from cameras that begin at another side; they go round, the light stays."""
    to_first = _turn_about_z(_FIRST_SIDE_DEG - azimuth_deg)
    return lambda extrinsics, intrinsics: draw(extrinsics @ to_first.to(extrinsics), intrinsics)


def _turn_about_z(angle_deg: float) -> Tensor:
    """Homogeneous turn (4, 4) about the vertical of a z-up frame."""
    sin, cos = math.sin(math.radians(angle_deg)), math.cos(math.radians(angle_deg))
    return torch.tensor(
        [[cos, -sin, 0.0, 0.0], [sin, cos, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    )


def shaded_pictures(rendering: Rendering) -> Tensor:
    """Colours (V, S, S, 3) under a sky and one lamp, which lights what faces away from it, too."""
    light = torch.nn.functional.normalize(torch.tensor(_LIGHT_FROM), dim=0).to(rendering.normal)
    shade = _AMBIENT + (1 - _AMBIENT) * (rendering.normal @ light).abs()
    cover = rendering.alpha[..., None]
    return rendering.colour * (cover * shade[..., None] + 1 - cover)
