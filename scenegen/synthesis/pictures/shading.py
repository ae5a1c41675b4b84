"""Pictures of batches of furniture scenes on the training device, by rasterisation; see ``light_model``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scenegen.geometry import invert_pose, pose_to_transform, transform_points
from scenegen.synthesis.pictures.light_model import (
    FLOOR_NORMAL,
    FLOOR_POINT,
    SHADOW_OFFSET_M,
    facing_eye,
    plane_depth,
    received_light,
)
from scenegen.synthesis.pictures.object_paint import ObjectPaint
from scenegen.synthesis.pictures.room_paint import RoomPaint
from scenegen.synthesis.pictures.scene_paint import PLAIN, ScenePaint
from scenegen.synthesis.shapes.shape_bank import Triangles
from trellis_modules.renderers.backends.torch_rasterizer import rasterize
from trellis_modules.renderers.cameras import (
    camera_rays,
    centred_intrinsics,
    eye_positions,
    focal_length,
    look_at,
    project,
)
from trellis_modules.representations.mesh.normals import face_normals

_SHADOW_SIZE = 384
_SHADOW_BIAS = 0.012  # of the scene's diameter


@dataclass(frozen=True)
class CameraBatch:
    """Cameras of S square pictures."""

    extrinsics: Tensor  # (S, 4, 4) world to camera, OpenCV
    focal: Tensor  # (S,) in units of the picture's width

    @classmethod
    def look(cls, eye: Tensor, target: Tensor, fov_deg: Tensor) -> CameraBatch:
        """Upright cameras at ``eye`` (S, 3) looking at ``target`` (S, 3)."""
        up = torch.tensor([0.0, 1.0, 0.0], device=eye.device)
        return cls(look_at(eye, target, up), focal_length(torch.deg2rad(fov_deg)))

    def rays(self, size: int) -> tuple[Tensor, Tensor]:
        """Eyes (S, 3) and ray directions (S, size, size, 3) in the world; camera depth 1 a unit of length."""
        in_camera = camera_rays(centred_intrinsics(self.focal), size)
        rays = torch.einsum("sji,shwj->shwi", self.extrinsics[:, :3, :3], in_camera)
        return eye_positions(self.extrinsics), rays


@dataclass(frozen=True)
class Picture:
    """S rendered pictures.

    Attributes:
        colour: (S, H, W, 3) in [0, 1].
        object: (S, H, W) int64, number among all the objects of the batch, -1 background.
        depth: (S, H, W) camera depth in metres, +inf where nothing is hit.
        points: (S, H, W, 3) what is seen, in world metres; the eye where nothing is hit.
    """

    colour: Tensor
    object: Tensor
    depth: Tensor
    points: Tensor


@dataclass(frozen=True)
class _Background:
    """Floor, walls and ceiling of S pictures; beyond them the wall colour at infinite depth."""

    depth: Tensor  # (S, H, W)
    normal: Tensor  # (S, H, W, 3)
    colour: Tensor  # (S, H, W, 3)
    plane: Tensor  # (S, H, W) int64: 0 floor, then walls, then the ceiling; -1 beyond


def _background(eye: Tensor, rays: Tensor, scene: dict[str, Tensor]) -> _Background:
    floor = (eye.new_tensor(values).expand_as(eye) for values in (FLOOR_POINT, FLOOR_NORMAL))
    planes = [(*floor, scene["floor_colour"])]
    planes += [
        (scene["wall_point"][:, k], scene["wall_normal"][:, k], scene["wall_colour"])
        for k in range(scene["wall_point"].shape[1])
    ]
    planes.append((*_ceiling(scene["ceiling"]), scene["wall_colour"]))
    depth = torch.full(rays.shape[:3], torch.inf, device=eye.device)
    normal = torch.zeros_like(rays)
    colour = scene["wall_colour"][:, None, None].expand_as(rays)
    plane = torch.full(rays.shape[:3], -1, device=eye.device)
    for number, (point, plane_normal, plane_colour) in enumerate(planes):
        height = ((point - eye) * plane_normal).sum(-1)[:, None, None]
        found = plane_depth(height, torch.einsum("shwc,sc->shw", rays, plane_normal))
        nearer = found < depth
        depth = torch.where(nearer, found, depth)
        normal = torch.where(nearer[..., None], plane_normal[:, None, None], normal)
        colour = torch.where(nearer[..., None], plane_colour[:, None, None], colour)
        plane = torch.where(nearer, number, plane)
    return _Background(depth, normal, colour, plane)


def _ceiling(height: Tensor) -> tuple[Tensor, Tensor]:
    """Points and normals (S, 3) of ceilings at heights (S,); the normal is zero where there is none."""
    exists = torch.isfinite(height)
    along = torch.stack([torch.zeros_like(height), torch.ones_like(height), torch.zeros_like(height)], -1)
    return along * torch.where(exists, height, 0)[:, None], -along * exists[:, None]


def _light_frame(sun: Tensor, centre: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Matrix (S, 3, 3) and offset (S, 3) from the world to the sun's view: shadow pixels and depth > 0."""
    extrinsics = look_at(sun, torch.zeros_like(sun), torch.tensor([0.02, 0.05, 1.0], device=sun.device))
    scale = torch.stack([0.5 * _SHADOW_SIZE / radius, 0.5 * _SHADOW_SIZE / radius, 1 / radius], -1)
    matrix = extrinsics[:, :3, :3] * scale[..., None]
    offset = torch.tensor([_SHADOW_SIZE / 2, _SHADOW_SIZE / 2, 2.0], device=sun.device)
    return matrix, offset - (matrix @ centre[..., None])[..., 0]


def _sunlit(points: Tensor, corners: Tensor, image: Tensor, scene: dict[str, Tensor]) -> Tensor:
    """1 where points (S, H, W, 3) see the sun past triangles (F, 3, 3) of their own scene, 0 in shadow."""
    num_scenes, low, high = len(points), scene["low"], scene["high"]
    matrix, offset = _light_frame(scene["sun_direction"], (low + high) / 2, 0.5 * (high - low).norm(dim=-1))
    to_light = torch.cat([matrix, offset[..., None]], -1)
    screen = transform_points(corners, to_light[image][:, None])
    nearest = rasterize(screen, image, num_scenes, _SHADOW_SIZE, _SHADOW_SIZE, perspective=False).depth
    seen = torch.einsum("sij,shwj->shwi", matrix, points) + offset[:, None, None]
    column, row = seen[..., 0].long(), seen[..., 1].long()
    inside = (column >= 0) & (column < _SHADOW_SIZE) & (row >= 0) & (row < _SHADOW_SIZE)
    scene_number = torch.arange(num_scenes, device=points.device)[:, None, None]
    blocker = nearest[scene_number, row.clamp(0, _SHADOW_SIZE - 1), column.clamp(0, _SHADOW_SIZE - 1)]
    return (~inside | (seen[..., 2] < blocker + 2 * _SHADOW_BIAS)).float()


def render_scenes(
    world: Triangles,
    objects_per_scene: int,
    view: CameraBatch,
    scene: dict[str, Tensor],
    size: int,
    paint: ScenePaint = PLAIN,
) -> Picture:
    """Render S scenes at once.

    Args:
        world: triangles in world metres; owner counts all objects of the batch, scene by scene.
        objects_per_scene: N, so that owner // N is the scene.
        view: the S cameras.
        scene: sun_direction (S, 3), sun, ambient (S,), floor_colour, wall_colour (S, 3), wall_point and
            wall_normal (S, W, 3), ceiling (S,), as made by `layout_arrays`; low, high (S, 3), the box of the
            objects; world (S, N, 8), their poses, when there is paint for objects.
        size: pixels per edge.
        paint: what the surfaces are painted with, and light.
    """
    image = world.owner // objects_per_scene
    screen = project(world.corners, view.extrinsics[image], view.focal[image], size)
    raster = rasterize(screen, image, len(view.focal), size, size)
    eye, rays = view.rays(size)
    behind = _background(eye, rays, scene)
    face = raster.face.clamp(min=0)
    front = raster.depth < behind.depth
    depth = torch.where(front, raster.depth, behind.depth)
    finite = torch.isfinite(depth)
    points = eye[:, None, None] + rays * torch.where(finite, depth, 0)[..., None]
    normal = torch.where(front[..., None], face_normals(world.corners)[face], behind.normal)
    owner = torch.where(front, world.owner[face], -1)
    colour = torch.where(front[..., None], world.colours[face], _painted(behind, points, paint.room))
    if paint.objects is not None:
        colour = _patterned(colour, points, owner, scene["world"], paint.objects)

    normal = facing_eye(normal, rays)
    sun_direction = scene["sun_direction"]
    cosine = torch.einsum("shwc,sc->shw", normal, sun_direction).clamp(min=0)
    lit = _sunlit(points + SHADOW_OFFSET_M * normal, world.corners, image, scene)
    ambient, sun = scene["ambient"][:, None, None], scene["sun"][:, None, None]
    if paint.light is None:
        light = received_light(normal, ambient, sun * cosine * lit)[..., None]
    else:
        sky = received_light(normal, ambient, torch.zeros_like(cosine))
        light = paint.light.received(points, scene, sky, sun * cosine, lit)
    colour = colour * torch.where(finite[..., None], light, ambient[..., None])
    if paint.objects is not None:
        shine = paint.objects.highlights(normal, rays, sun_direction[:, None, None], owner.clamp(min=0))
        colour = colour + (shine * sun * lit * front)[..., None]
    return Picture(colour.clamp(0, 1), owner, depth, points)


def _painted(behind: _Background, points: Tensor, paint: RoomPaint | None) -> Tensor:
    """Colours (S, H, W, 3) of floor, walls and ceiling."""
    if paint is None:
        return behind.colour
    return paint.colours(points, behind.plane, behind.normal, behind.colour)


def _patterned(colour: Tensor, points: Tensor, owner: Tensor, world: Tensor, paint: ObjectPaint) -> Tensor:
    """Colours (S, H, W, 3) with the patterns of objects, whose poses are ``world`` (S, N, 8)."""
    number = owner.clamp(min=0)
    back = pose_to_transform(invert_pose(world.flatten(0, 1)))
    local = transform_points(points, back[number])
    return torch.where((owner >= 0)[..., None], paint.colours(local, number, colour), colour)
