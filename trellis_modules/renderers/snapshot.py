"""Shaded pictures of coloured triangle meshes, for previews. Needs nothing but PyTorch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trellis_modules.renderers.cameras import fov_intrinsics, look_at
from trellis_modules.renderers.mesh_renderer import visible_faces
from trellis_modules.renderers.pictures import to_uint8
from trellis_modules.representations.mesh.normals import face_normals

_KEY_LIGHT = (0.35, 0.8, 0.5)  # direction towards the light in the camera-facing, y-up frame
_AMBIENT, _DIFFUSE = 0.45, 0.6

BACK_SHADE = 0.15
"""Light on faces seen from behind: openings in a surface show, as in programs that cull back faces."""


def _downsample(image: Tensor, factor: int) -> Tensor:
    """Average (H*f, W*f, C) over f x f blocks."""
    if factor == 1:
        return image
    return torch.nn.functional.avg_pool2d(image.permute(2, 0, 1), factor).permute(1, 2, 0)


def render_snapshot(
    vertices: Tensor,
    faces: Tensor,
    face_colours: Tensor,
    *,
    yaw_deg: float = 30.0,
    pitch_deg: float = 25.0,
    fov_deg: float = 35.0,
    size: int = 512,
    supersample: int = 2,
    background: tuple[float, float, float] = (1, 1, 1),
) -> Tensor:
    """Picture of a y-up mesh from a camera that sees all of it; faces seen from behind are dark.

    Args:
        vertices: (V, 3) float, y up.
        faces: (F, 3) integer vertex indices.
        face_colours: (F, 3) float in [0, 1].
        yaw_deg: 0 looks along -z (at the front of a glTF model); positive moves the camera towards +x.
        pitch_deg: elevation of the camera above the horizon.
        fov_deg, size, supersample: field of view, pixels per edge of the result, samples per pixel and axis.
        background: colour where nothing is hit; also the whole picture of an empty mesh.

    Returns:
        (size, size, 3) uint8 RGB.
    """
    pixels = size * supersample
    canvas = torch.tensor(background, dtype=torch.float32, device=vertices.device).expand(pixels, pixels, 3)
    if len(faces):
        canvas = _shade(
            vertices.float(), faces.long(), face_colours.float(), yaw_deg, pitch_deg, fov_deg, canvas
        )
    return to_uint8(_downsample(canvas, supersample))


def _shade(
    vertices: Tensor,
    faces: Tensor,
    face_colours: Tensor,
    yaw_deg: float,
    pitch_deg: float,
    fov_deg: float,
    canvas: Tensor,
) -> Tensor:
    """Draw the mesh over ``canvas`` (P, P, 3) from the fitted orbit camera, with one directional light."""
    low, high = vertices.amin(0), vertices.amax(0)
    centre, radius = (low + high) / 2, ((high - low).norm() / 2).clamp(min=1e-6)
    yaw, pitch, fov = (
        torch.tensor(math.radians(a), device=vertices.device) for a in (yaw_deg, pitch_deg, fov_deg)
    )
    backward = torch.stack([yaw.sin() * pitch.cos(), pitch.sin(), yaw.cos() * pitch.cos()])
    distance = 1.05 * radius / torch.sin(fov / 2)
    up = torch.tensor([0.0, 1.0, 0.0], device=vertices.device)
    extrinsics = look_at(centre + distance * backward, centre, up)
    near, far = float(0.5 * (distance - radius)), float(2 * (distance + radius))
    face = visible_faces(
        vertices, faces, extrinsics[None], fov_intrinsics(fov), len(canvas), near=near, far=far
    )[0]

    turn = torch.stack(
        [
            torch.stack([yaw.cos(), yaw.new_zeros(()), -yaw.sin()]),
            up,
            torch.stack([yaw.sin(), yaw.new_zeros(()), yaw.cos()]),
        ]
    )
    light = torch.nn.functional.normalize(torch.tensor(_KEY_LIGHT, device=vertices.device) @ turn, dim=0)
    normal = face_normals(vertices[faces])
    to_camera = centre + distance * backward - vertices[faces].mean(dim=1)
    is_back = (normal * to_camera).sum(dim=1) < 0
    shade = torch.where(is_back, BACK_SHADE, _AMBIENT + _DIFFUSE * (normal @ light).clamp(min=0))
    colour = face_colours * shade[:, None]
    return torch.where((face >= 0)[..., None], colour[face.clamp(min=0)], canvas)
