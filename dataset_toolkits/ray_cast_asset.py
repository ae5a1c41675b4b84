"""Pictures of a single asset without Blender: the same cameras and files, drawn by our ray caster."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import trimesh
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from PIL import Image

from dataset_toolkits.asset_views import View, camera_to_world, picture_name, write_transforms
from scenegen.datasets.asset_pictures import MESH_NAME, OPENGL_TO_OPENCV, TRANSFORMS_NAME
from scenegen.geometry import apply_transform
from scenegen.synthesis.pictures.light_model import facing_eye
from scenegen.synthesis.pictures.render_mesh import RenderMesh, load_model

# Importers turn formats whose axes are y up; these keep their axes.
_Z_UP = (".ply", ".stl")
_SAMPLES = 3  # a pixel and axis; odd, so that no pixel is just half covered
# The lamp, the sky above and what comes from all around, about as bright as the lights of the Blender script.
_LAMP_PLACE, _LAMP, _SKY, _AROUND = np.array([4.0, 1.0, 6.0]), 0.48, 0.30, 0.06


def load_normalised(path: Path) -> tuple[RenderMesh, float, np.ndarray]:
    """Read a model and bring it to the frame of the pictures.

    Returns:
        The mesh, z up, its box centred at the origin and of longest side 1; the scale, and the (3,) offset
        that is added after scaling.

    Raises:
        ValueError: see `load_model`.
    """
    mesh = load_model(path)
    vertices = mesh.vertices.astype(np.float64)
    if path.suffix.lower() not in _Z_UP:
        vertices = np.stack([vertices[:, 0], -vertices[:, 2], vertices[:, 1]], axis=1)
    used = vertices[mesh.faces].reshape(-1, 3)
    low, high = used.min(axis=0), used.max(axis=0)
    scale = 1 / float((high - low).max())
    offset = -scale * (low + high) / 2
    return replace(mesh, vertices=(scale * vertices + offset).astype(np.float32)), scale, offset


def draw_asset(model: Path, views: list[View], folder: Path, resolution: int, with_mesh: bool) -> None:
    """Write pictures, the mesh if asked for, and last ``transforms.json`` into a folder.

    Args:
        model: file that `load_model` reads.
        views: the cameras.
        folder: where the files go.
        resolution: pixels per side.
        with_mesh: whether ``mesh.ply`` is written.

    Raises:
        ValueError, OSError: the model cannot be read, or the disk refuses.
    """
    mesh, scale, offset = load_normalised(model)
    scene = AssetScene(mesh)
    for number, view in enumerate(views):
        scene.draw(view, resolution).save(folder / picture_name(number))
    if with_mesh:
        plain = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
        (folder / MESH_NAME).write_bytes(trimesh.exchange.ply.export_ply(plain))
    write_transforms(folder / TRANSFORMS_NAME, views, scale, offset)


class AssetScene:
    """The triangles of one asset, ready for ray casting."""

    def __init__(self, mesh: RenderMesh) -> None:
        """Take a mesh in the frame of the pictures."""
        self.mesh = mesh
        self.triangles = np.ascontiguousarray(mesh.vertices[mesh.faces], np.float32)  # (F, 3, 3)
        self._embree = EmbreeScene()
        TriangleMesh(self._embree, self.triangles)

    def draw(self, view: View, resolution: int) -> Image.Image:
        """One RGBA picture; transparent where nothing is."""
        to_world = camera_to_world(view) @ OPENGL_TO_OPENCV
        rows, columns = self._covered(to_world, view.fov, resolution)
        shape = rows.stop - rows.start, columns.stop - columns.start
        colour, count = np.zeros((*shape, 3)), np.zeros(shape)
        for down, right in np.ndindex(_SAMPLES, _SAMPLES):
            y, x = (np.arange(part.start, part.stop) for part in (rows, columns))
            places = np.meshgrid(x + (right + 0.5) / _SAMPLES, y + (down + 0.5) / _SAMPLES)
            seen = self._cast(np.stack(places, axis=-1) / resolution, to_world, view.fov)
            colour += seen[..., :3]
            count += seen[..., 3]
        return _picture(colour, count, (rows, columns), resolution)

    def _covered(self, to_world: np.ndarray, fov: float, resolution: int) -> tuple[slice, slice]:
        """Rows and columns of pixels that the asset is in; it is in front of the camera, as views have it."""
        camera = apply_transform(np.linalg.inv(to_world), self.triangles.reshape(-1, 3).astype(np.float64))
        focal = 0.5 / math.tan(fov / 2)
        places = (focal * camera[:, :2] / camera[:, 2:] + 0.5) * resolution
        low, high = np.floor(places.min(axis=0)), np.floor(places.max(axis=0)) + 1
        left, top = low.clip(0, resolution).astype(int)
        right, bottom = high.clip(0, resolution).astype(int)
        return slice(top, max(top, bottom)), slice(left, max(left, right))

    def _cast(self, places: np.ndarray, to_world: np.ndarray, fov: float) -> np.ndarray:
        """Linear colour and 1 where rays through places (H, W, 2) in [0, 1] hit the asset, else zeros."""
        focal = 0.5 / math.tan(fov / 2)
        camera = np.concatenate([(places - 0.5) / focal, np.ones((*places.shape[:2], 1))], axis=-1)
        rays = (camera.reshape(-1, 3) @ to_world[:3, :3].T).astype(np.float32)
        eyes = np.broadcast_to(to_world[:3, 3].astype(np.float32), rays.shape).copy()
        seen = np.zeros((len(rays), 4))
        if len(rays):
            found = self._embree.run(eyes, rays, output=1)
            hit = np.flatnonzero(found["primID"] >= 0)
            face, rays = found["primID"][hit], rays[hit]
            albedo = self.mesh.point_colours(face, found["u"][hit], found["v"][hit])
            corners = self.triangles[face]
            normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
            normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)
            points = to_world[:3, 3] + rays * found["tfar"][hit, None]
            seen[hit, :3] = _linear(albedo) * _light(points, facing_eye(normals, rays))[:, None]
            seen[hit, 3] = 1
        return seen.reshape(*places.shape[:2], 4)


def _light(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Light (P,) that leaves a white matt surface at points (P, 3) with normals (P, 3)."""
    to_lamp = _LAMP_PLACE - points
    distance = np.linalg.norm(to_lamp, axis=1)
    cosine = np.maximum((normals * to_lamp).sum(axis=1) / distance, 0)
    fall = (np.linalg.norm(_LAMP_PLACE) / distance) ** 2
    return _AROUND + _SKY * (1 + normals[:, 2]) / 2 + _LAMP * cosine * fall


def _picture(
    colour: np.ndarray, count: np.ndarray, where: tuple[slice, slice], resolution: int
) -> Image.Image:
    """Sums of linear colours (H, W, 3) and counts (H, W) of the samples of some pixels, to RGBA in sRGB."""
    mean = colour / np.maximum(count, 1)[..., None]
    srgb = np.where(mean <= 0.0031308, 12.92 * mean, 1.055 * mean.clip(0, 1) ** (1 / 2.4) - 0.055)
    pixels = np.zeros((resolution, resolution, 4), np.uint8)
    alpha = count[..., None] / _SAMPLES**2
    pixels[where] = np.round(np.concatenate([srgb, alpha], axis=-1).clip(0, 1) * 255)
    return Image.fromarray(pixels, "RGBA")


def _linear(srgb: np.ndarray) -> np.ndarray:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
