"""Pictures of a single asset without Blender: the same cameras and files, drawn by our ray caster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import trimesh
from PIL import Image

from dataset_toolkits.asset_views import (
    MESH_NAME,
    OPENGL_TO_OPENCV,
    TRANSFORMS_NAME,
    View,
    camera_to_world,
    picture_name,
    write_transforms,
)
from scenegen.synthesis.pictures.light_model import facing_eye
from scenegen.synthesis.pictures.render_mesh import RenderMesh, load_model
from trellis_modules.renderers.cameras import fov_intrinsics
from trellis_modules.renderers.mesh_renderer import render_mesh

# Importers turn formats whose axes are y up; these keep their axes.
_Z_UP = (".ply", ".stl")
_SAMPLES = 2  # a pixel and axis
_NEAR, _FAR = 0.01, 100.0
# The lamp, the sky above and what comes from all around, about as bright as the lights of the Blender script.
_LAMP_PLACE, _LAMP, _SKY, _AROUND = np.array([4.0, 1.0, 6.0]), 0.48, 0.30, 0.06
_CORNERS = np.float32([[0, 0], [1, 0], [0, 1]])


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
    for number, view in enumerate(views):
        draw(mesh, view, resolution).save(folder / picture_name(number))
    if with_mesh:
        plain = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
        (folder / MESH_NAME).write_bytes(trimesh.exchange.ply.export_ply(plain))
    write_transforms(folder / TRANSFORMS_NAME, views, scale, offset)


def draw(mesh: RenderMesh, view: View, resolution: int) -> Image.Image:
    """One RGBA picture of a mesh in the frame of the pictures; transparent where nothing is."""
    corners = np.ascontiguousarray(mesh.vertices[mesh.faces]).reshape(-1, 3)
    to_world = camera_to_world(view)
    rendering = render_mesh(
        torch.from_numpy(corners),
        torch.arange(len(corners)).view(-1, 3),
        torch.from_numpy(np.linalg.inv(to_world @ OPENGL_TO_OPENCV)).float()[None],
        fov_intrinsics(view.fov),
        _SAMPLES * resolution,
        vertex_attributes=torch.from_numpy(np.tile(_CORNERS, (len(mesh.faces), 1))),
        near=_NEAR,
        far=_FAR,
    )
    hit = rendering.face[0].numpy() >= 0
    face = rendering.face[0].numpy()[hit]
    weights = rendering.attributes[0].numpy()[hit]
    colour = np.zeros((*hit.shape, 3))
    if len(face):
        albedo = mesh.point_colours(face, weights[:, 0], weights[:, 1])
        a, b, c = np.moveaxis(corners.reshape(-1, 3, 3)[face].astype(np.float64), 1, 0)
        points = a + weights[:, :1] * (b - a) + weights[:, 1:] * (c - a)
        normals = rendering.normal[0].numpy()[hit]
        colour[hit] = _linear(albedo) * _light(points, facing_eye(normals, points - to_world[:3, 3]))[:, None]
    return _picture(colour, hit, resolution)


def _light(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Light (P,) that leaves a white matt surface at points (P, 3) with normals (P, 3)."""
    to_lamp = _LAMP_PLACE - points
    distance = np.linalg.norm(to_lamp, axis=1)
    cosine = np.maximum((normals * to_lamp).sum(axis=1) / distance, 0)
    fall = (np.linalg.norm(_LAMP_PLACE) / distance) ** 2
    return _AROUND + _SKY * (1 + normals[:, 2]) / 2 + _LAMP * cosine * fall


def _picture(colour: np.ndarray, hit: np.ndarray, resolution: int) -> Image.Image:
    """Mean of the samples of each pixel: linear colour (S, S, 3) where a ray hits (S, S), to RGBA in sRGB."""
    shape = (resolution, _SAMPLES, resolution, _SAMPLES)
    count = hit.reshape(shape).sum(axis=(1, 3))
    mean = colour.reshape(*shape, 3).sum(axis=(1, 3)) / np.maximum(count, 1)[..., None]
    srgb = np.where(mean <= 0.0031308, 12.92 * mean, 1.055 * mean.clip(0, 1) ** (1 / 2.4) - 0.055)
    pixels = np.concatenate([srgb, count[..., None] / _SAMPLES**2], axis=-1)
    return Image.fromarray(np.round(pixels.clip(0, 1) * 255).astype(np.uint8), "RGBA")


def _linear(srgb: np.ndarray) -> np.ndarray:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
