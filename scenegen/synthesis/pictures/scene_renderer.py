"""CPU pictures of scene layouts by ray casting (embree): colour, instance ids, depth.

One ray a pixel through the pixel's centre, one shadow ray towards the sun; light as in ``light_model``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

from scenegen.geometry import apply_transform, pose_to_transform
from scenegen.synthesis.layouts.scene_layout import Camera, SceneLayout, world_poses
from scenegen.synthesis.pictures.light_model import (
    FLOOR_NORMAL,
    FLOOR_POINT,
    SHADOW_OFFSET_M,
    facing_eye,
    plane_depth,
    received_light,
)
from scenegen.synthesis.pictures.render_mesh import RenderMesh
from trellis_modules.renderers.cameras import camera_rays

BACKGROUND = -1


@dataclass(frozen=True)
class ScenePicture:
    """One picture.

    Attributes:
        colour: (S, S, 3) uint8 sRGB.
        instances: (S, S) int16, index into the layout's objects, -1 floor, walls and beyond.
        depth: (S, S) float32 metres along the camera axis, +inf where nothing is hit.
        drawn_masks: (N, S, S) bool, masks as people may draw them, which are written in place of the exact
            ones; None for these.
    """

    colour: np.ndarray
    instances: np.ndarray
    depth: np.ndarray
    drawn_masks: np.ndarray | None = None


@dataclass(frozen=True)
class _Hits:
    """What the rays of one picture meet; arrays of length P = S * S."""

    depth: np.ndarray  # (P,) float32, +inf: nothing
    owner: np.ndarray  # (P,) int, object index, -1 background
    face: np.ndarray  # (P,) int, face index in the owner's mesh, meaningless on the background
    u: np.ndarray
    v: np.ndarray
    normals: np.ndarray  # (P, 3) unit, towards the eye
    plane: np.ndarray  # (P,) int, 0 floor, 1.. walls, -1 not on a plane


class SceneGeometry:
    """Triangles of a layout in the world, ready for ray casting."""

    def __init__(self, layout: SceneLayout, meshes: Mapping[str, RenderMesh]) -> None:
        """Place the meshes.

        Args:
            meshes: model id -> mesh in the object frame; mirroring and stretch are applied here.

        Raises:
            KeyError: a model of the layout has no mesh.
        """
        missing = sorted({placed.model_id for placed in layout.objects} - set(meshes))
        if missing:
            raise KeyError(f"{layout.scene_id}: no mesh for model {missing[0]!r}; load all its models")
        self.layout = layout
        self.meshes = [meshes[placed.model_id].augmented(placed) for placed in layout.objects]
        to_world = pose_to_transform(world_poses(layout)).numpy()
        triangles = [_world_triangles(mesh, matrix) for mesh, matrix in zip(self.meshes, to_world)]
        self.first_face = np.cumsum([0] + [len(corners) for corners in triangles])
        self.triangles = np.concatenate(triangles)  # (F, 3, 3)
        self.embree = _embree(self.triangles)

    def owners(self, faces: np.ndarray) -> np.ndarray:
        """Object index of each global face index."""
        return np.searchsorted(self.first_face, faces, side="right") - 1


def render_scene(
    layout: SceneLayout, meshes: Mapping[str, RenderMesh], size: int = 512, antialias: bool = False
) -> ScenePicture:
    """Render a layout.

    Args:
        meshes: model id -> mesh.
        size: pixels per side.
        antialias: average four rays a pixel for the colour; ids and depth stay those of the pixel's centre.

    Raises:
        KeyError: a model has no mesh.
    """
    geometry = SceneGeometry(layout, meshes)
    rays = world_rays(layout.camera, size)
    hits = _cast(geometry, rays)
    if antialias:
        fine_rays = world_rays(layout.camera, 2 * size)
        fine = _shade(geometry, fine_rays, _cast(geometry, fine_rays)).reshape(size, 2, size, 2, 3)
        colour = fine.mean(axis=(1, 3))
    else:
        colour = _shade(geometry, rays, hits).reshape(size, size, 3)
    return ScenePicture(
        colour=np.round(colour * 255).astype(np.uint8),
        instances=hits.owner.astype(np.int16).reshape(size, size),
        depth=hits.depth.reshape(size, size),
    )


def instance_areas(
    layout: SceneLayout, meshes: Mapping[str, RenderMesh], size: int = 512
) -> tuple[np.ndarray, np.ndarray]:
    """Count the pixels of each object, with the others in the way and without them.

    Returns:
        visible (N,) and alone (N,) int64 pixel counts at ``size`` x ``size``.
    """
    geometry = SceneGeometry(layout, meshes)
    rays = world_rays(layout.camera, size)
    count = len(layout.objects)
    owner = _cast(geometry, rays).owner
    visible = np.bincount(owner[owner >= 0], minlength=count)
    origins = _origins(layout.camera, rays)
    alone = np.zeros(count, dtype=np.int64)
    for index, (first, last) in enumerate(zip(geometry.first_face, geometry.first_face[1:])):
        one = _embree(geometry.triangles[first:last])
        alone[index] = np.count_nonzero(one.run(origins, rays, query="OCCLUDED") >= 0)
    return visible, alone


def world_rays(camera: Camera, size: int) -> np.ndarray:
    """Directions (size * size, 3) float32 through the pixel centres, row by row, of camera depth 1."""
    in_camera = camera_rays(torch.from_numpy(camera.intrinsics()), size).numpy().reshape(-1, 3)
    return (in_camera @ camera.extrinsics()[:3, :3]).astype(np.float32)


def _origins(camera: Camera, rays: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.asarray(camera.position, np.float32), rays.shape).copy()


def _world_triangles(mesh: RenderMesh, to_world: np.ndarray) -> np.ndarray:
    return apply_transform(to_world, mesh.vertices).astype(np.float32)[mesh.faces]


def _embree(triangles: np.ndarray) -> EmbreeScene:
    scene = EmbreeScene()
    TriangleMesh(scene, np.ascontiguousarray(triangles, np.float32))
    return scene


def _cast(geometry: SceneGeometry, rays: np.ndarray) -> _Hits:
    """Meet the objects, then the planes in front of them."""
    camera = geometry.layout.camera
    found = geometry.embree.run(_origins(camera, rays), rays, output=1)
    on_object = found["primID"] >= 0
    depth = np.where(on_object, found["tfar"], np.inf).astype(np.float32)
    face = np.where(on_object, found["primID"], 0)
    corners = geometry.triangles[face[on_object]]
    normals = np.zeros_like(rays)
    normals[on_object] = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    plane = np.full(len(rays), -1)
    for index, (point, normal) in enumerate(_planes(geometry.layout)):
        height = np.float32((point - camera.position) @ normal)
        found_depth = plane_depth(height, rays @ normal.astype(np.float32))
        nearer = found_depth < depth
        depth[nearer], normals[nearer], plane[nearer] = found_depth[nearer], normal, index
    owner = np.where(on_object & (plane < 0), geometry.owners(face), BACKGROUND)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    local_face = face - geometry.first_face[np.maximum(owner, 0)]
    return _Hits(depth, owner, local_face, found["u"], found["v"], facing_eye(normals, rays), plane)


def _planes(layout: SceneLayout) -> Sequence[tuple[np.ndarray, np.ndarray]]:
    """Points and normals of the floor and the walls."""
    walls = [(wall.point, wall.normal) for wall in layout.room.walls]
    return [(np.array(point), np.array(normal)) for point, normal in [(FLOOR_POINT, FLOOR_NORMAL), *walls]]


def _shade(geometry: SceneGeometry, rays: np.ndarray, hits: _Hits) -> np.ndarray:
    """Colours (P, 3) float32 in [0, 1]."""
    lighting = geometry.layout.lighting
    sun = np.asarray(lighting.sun_direction, np.float32)
    finite = np.isfinite(hits.depth)
    cosine = np.where(finite, hits.normals @ sun, 0).clip(min=0)
    turned = np.flatnonzero(cosine > 0)
    points = np.asarray(geometry.layout.camera.position, np.float32) + rays[turned] * hits.depth[turned, None]
    starts = points + SHADOW_OFFSET_M * hits.normals[turned]
    shadowed = geometry.embree.run(starts, np.tile(sun, (len(starts), 1)), query="OCCLUDED") >= 0
    cosine[turned[shadowed]] = 0
    light = received_light(hits.normals, lighting.ambient_strength, lighting.sun_strength * cosine)
    light = np.where(finite, light, lighting.ambient_strength)
    return (_albedo(geometry, hits) * light[:, None]).clip(0, 1)


def _albedo(geometry: SceneGeometry, hits: _Hits) -> np.ndarray:
    """Surface colours (P, 3); the wall's colour where nothing is hit."""
    room = geometry.layout.room
    colours = np.tile(np.asarray(room.wall_colour, np.float32), (len(hits.owner), 1))
    colours[hits.plane == 0] = room.floor_colour
    for index, mesh in enumerate(geometry.meshes):
        here = np.flatnonzero(hits.owner == index)
        colours[here] = mesh.point_colours(hits.face[here], hits.u[here], hits.v[here])
    return colours
