"""Pictures of scene files by ray casting (embree): the light of the true pictures, without bounces.

Point lights stand where the renders of the true scenes have them and shine on rough surfaces, with shadows.
Light that surfaces throw on each other, and the tone curve of a path tracer, are left out; predictions and
truth are drawn alike. Colours are computed in linear light and stored as sRGB.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from PIL import Image

from scenegen.evaluation.loading import EvaluationError
from scenegen.evaluation.pictures.cameras import SceneCamera
from scenegen.evaluation.registration import Similarity
from scenegen.geometry import apply_transform

# Watts and places of the lights in the frame of a scene file, whose box is [-1, 1]^3, y up.
LIGHTS = (
    (2000.0, (4.0, 4.0, 4.0)),
    (2000.0, (-4.0, 4.0, 4.0)),
    (1500.0, (4.0, 4.0, -4.0)),
    (1500.0, (-4.0, 4.0, -4.0)),
    (1000.0, (0.0, -5.0, 0.0)),
)
EXPOSURE = 0.4
"""Share of the light that is kept, so that a white floor amid the lights stays just below white."""

SAMPLES = 2
"""Rays along each edge of a pixel."""

_RAYS_AT_ONCE = 1 << 19  # bounds the memory of large pictures
_OFF_SURFACE = 1e-3
_NEAR = 1e-3


@dataclass(frozen=True)
class ColouredTriangles:
    """Triangles of a scene with their colours in linear light.

    Attributes:
        corners: (F, 3, 3) float32, frame of the file.
        colours: (F, 3, 3) float32, of the corners; multiplied by the texture where there is one.
        uv: (F, 3, 2) float32, v upwards; zeros without a texture.
        textures: (F,) int32 index into pictures, -1 without one.
        pictures: linear textures (H, W, 3) float32.
    """

    corners: np.ndarray
    colours: np.ndarray
    uv: np.ndarray
    textures: np.ndarray
    pictures: tuple[np.ndarray, ...] = ()

    def moved(self, transform: Similarity) -> ColouredTriangles:
        """The same triangles elsewhere."""
        corners = transform.apply(self.corners.reshape(-1, 3)).reshape(-1, 3, 3).astype(np.float32)
        return ColouredTriangles(corners, self.colours, self.uv, self.textures, self.pictures)


def load_triangles(path: Path) -> ColouredTriangles:
    """Read the triangles of a scene file with vertex colours, base colours and textures.

    Raises:
        EvaluationError: the file cannot be read as a scene with triangles.
    """
    try:
        scene = trimesh.load_scene(path, process=False)
        pictures: list[np.ndarray] = []
        pieces = []
        for node in scene.graph.nodes_geometry:
            to_scene, name = scene.graph[node]
            if len(getattr(scene.geometry[name], "faces", ())):
                pieces.append(_piece(scene.geometry[name], to_scene, pictures))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OSError) as error:
        raise EvaluationError(
            f"{path}: expected a GLB with triangles and their colours, got {type(error).__name__}: {error}; "
            "export the scene again"
        ) from error
    if not pieces:
        raise EvaluationError(f"{path}: expected a GLB with triangles, got none; export the scene again")
    return ColouredTriangles(*(np.concatenate(arrays) for arrays in zip(*pieces)), tuple(pictures))


def _piece(part: trimesh.Trimesh, to_scene: np.ndarray, pictures: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Corners, corner colours, uv and texture index of the faces of one mesh; adds its texture."""
    faces, count = np.asarray(part.faces), len(part.faces)
    corners = apply_transform(to_scene, np.asarray(part.vertices)).astype(np.float32)[faces]
    uv, textures = np.zeros((count, 3, 2), np.float32), np.full(count, -1, np.int32)
    visual = part.visual
    if visual.kind != "texture":
        return corners, _unit(visual.vertex_colors)[faces], uv, textures
    attributes = getattr(visual, "vertex_attributes", None) or {}
    colours = np.ones((count, 3, 3), np.float32)
    if "color" in attributes:
        colours = _unit(attributes["color"])[faces]
    material = visual.material
    if (factor := getattr(material, "baseColorFactor", None)) is not None:
        colours = colours * _unit(np.asarray(factor))
    image = getattr(material, "baseColorTexture", None)
    if image is not None and visual.uv is not None:
        uv = np.asarray(visual.uv, np.float32)[faces]
        textures[:] = len(pictures)
        pictures.append(_LINEAR_OF_BYTES[np.asarray(image.convert("RGB"))])
    return corners, colours.astype(np.float32), uv, textures


def _unit(colours: np.ndarray) -> np.ndarray:
    """Colours (..., 3 or 4), bytes or numbers in [0, 1], as (..., 3) float32 in [0, 1]."""
    colours = np.asarray(colours)
    share = 255 if colours.dtype.kind in "iu" else 1
    return (colours[..., :3] / share).astype(np.float32)


def srgb_to_linear(values: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] to linear light (IEC 61966-2-1)."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4).astype(np.float32)


_LINEAR_OF_BYTES = srgb_to_linear(np.arange(256, dtype=np.float32) / 255)


def linear_to_srgb(values: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] to sRGB (IEC 61966-2-1)."""
    encoded = 1.055 * np.maximum(values, 1e-8) ** (1 / 2.4) - 0.055
    return np.where(values <= 0.0031308, values * 12.92, encoded)


def cast(triangles: ColouredTriangles, camera: SceneCamera, samples: int = SAMPLES) -> Image.Image:
    """Draw a scene: RGBA, transparent where nothing is; edges are softened by `samples` rays an edge."""
    scene = EmbreeScene()
    TriangleMesh(scene, np.ascontiguousarray(triangles.corners))
    normals = _unit_normals(triangles.corners)
    top, bottom, left, right = _seen_pixels(triangles.corners, camera)
    picture = np.zeros((camera.height, camera.width, 4), np.uint8)
    if left == right:
        return Image.fromarray(picture, "RGBA")
    rows = max(1, _RAYS_AT_ONCE // ((right - left) * samples**2))
    for first in range(top, bottom, rows):
        last = min(first + rows, bottom)
        rays = _rays(camera, samples, (first, last), (left, right))
        shape = last - first, samples, right - left, samples
        picture[first:last, left:right] = _cast_rays(scene, triangles, normals, camera, rays, shape)
    return Image.fromarray(picture, "RGBA")


def _unit_normals(corners: np.ndarray) -> np.ndarray:
    """Unit normals (F, 3) of triangles (F, 3, 3)."""
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def _seen_pixels(corners: np.ndarray, camera: SceneCamera) -> tuple[int, int, int, int]:
    """First and last rows and columns outside of which no triangle (F, 3, 3) is seen, the last left out.

    The whole picture where a triangle reaches behind the camera.
    """
    points = corners.reshape(-1, 3) @ camera.extrinsics[:3, :3].T + camera.extrinsics[:3, 3]
    if points[:, 2].min() <= _NEAR:
        return 0, camera.height, 0, camera.width
    limits = []
    for axis, size in ((1, camera.height), (0, camera.width)):
        pixels = points[:, axis] / points[:, 2] * camera.focal[axis] + camera.centre[axis]
        limits += [
            int(np.clip(math.floor(pixels.min()) - 1, 0, size)),
            int(np.clip(math.ceil(pixels.max()) + 1, 0, size)),
        ]
    return tuple(limits)


def _cast_rays(
    scene: EmbreeScene,
    triangles: ColouredTriangles,
    normals: np.ndarray,
    camera: SceneCamera,
    rays: np.ndarray,
    shape: tuple[int, int, int, int],
) -> np.ndarray:
    """Pixels (rows, columns, 4) uint8 of rays (N, 3), which are `shape`: rows, samples, columns, samples."""
    origin = (-camera.extrinsics[:3, :3].T @ camera.extrinsics[:3, 3]).astype(np.float32)
    found = scene.run(np.broadcast_to(origin, rays.shape).copy(), rays, output=1)
    hit = np.flatnonzero((found["primID"] >= 0) & (found["tfar"] > _NEAR))
    light = np.zeros((len(rays), 3), np.float32)
    if len(hit):
        face, u, v = (found[name][hit] for name in ("primID", "u", "v"))
        weights = np.stack([1 - u - v, u, v], axis=1).astype(np.float32)
        points = origin + rays[hit] * found["tfar"][hit, None]
        light[hit] = _albedo(triangles, face, weights) * _received(scene, normals[face], points, rays[hit])
    alpha = np.zeros(len(rays), np.float32)
    alpha[hit] = 1
    coverage = alpha.reshape(shape).mean(axis=(1, 3))
    colour = light.clip(0, 1).reshape(*shape, 3).mean(axis=(1, 3)) / np.maximum(coverage, 1e-6)[..., None]
    rgba = np.concatenate([linear_to_srgb(colour), coverage[..., None]], axis=2)
    return np.round(rgba.clip(0, 1) * 255).astype(np.uint8)


def _rays(camera: SceneCamera, samples: int, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
    """Directions (rows * s * columns * s, 3) float32 in the frame of the file, of camera depth 1, by rows."""
    y, x = (
        ((np.arange(first * samples, last * samples) + 0.5) / samples - camera.centre[axis])
        / camera.focal[axis]
        for axis, (first, last) in ((1, rows), (0, columns))
    )
    x, y = np.meshgrid(x, y)
    in_camera = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3)
    return (in_camera @ camera.extrinsics[:3, :3]).astype(np.float32)


def _albedo(triangles: ColouredTriangles, face: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Linear colours (P, 3) at points of faces with barycentric weights (P, 3)."""
    colours = np.einsum("pk,pkc->pc", weights, triangles.colours[face])
    texture_of = triangles.textures[face]
    for index, picture in enumerate(triangles.pictures):
        here = np.flatnonzero(texture_of == index)
        uv = np.einsum("pk,pkc->pc", weights[here], triangles.uv[face[here]])
        colours[here] *= _texels(picture, uv)
    return colours


def _texels(picture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Nearest texels (P, 3) of a repeating texture (H, W, 3) at uv (P, 2), v upwards."""
    height, width = picture.shape[:2]
    wrapped = uv - np.floor(uv)
    columns = np.minimum((wrapped[:, 0] * width).astype(int), width - 1)
    rows = np.minimum(((1 - wrapped[:, 1]) * height).astype(int), height - 1)
    return picture[rows, columns]


def _received(scene: EmbreeScene, normals: np.ndarray, points: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """What a white rough surface sends out (P, 1) at points (P, 3) with their normals, seen along rays."""
    normals = np.where(np.einsum("pc,pc->p", normals, rays)[:, None] > 0, -normals, normals)
    starts = points + _OFF_SURFACE * normals
    total = np.zeros(len(points), np.float32)
    for watts, place in LIGHTS:
        total += EXPOSURE * _from_light(scene, starts, normals, watts, np.asarray(place, np.float32))
    return total[:, None]


def _from_light(
    scene: EmbreeScene, starts: np.ndarray, normals: np.ndarray, watts: float, place: Sequence[float]
) -> np.ndarray:
    """Light (P,) of one lamp that a white surface sends on: P cos / (4 pi^2 d^2), 0 in shadow."""
    away = place - starts
    squared = np.square(away).sum(axis=1)
    cosine = np.einsum("pc,pc->p", normals, away) / np.sqrt(squared)
    lit = np.flatnonzero(cosine > 0)
    lamp = np.ones(len(lit), np.float32)  # how far along the ray it is
    met = scene.run(starts[lit].astype(np.float32), away[lit].astype(np.float32), lamp, query="OCCLUDED")
    free = lit[met < 0]
    light = np.zeros(len(starts), np.float32)
    light[free] = watts * cosine[free] / (4 * math.pi**2 * squared[free])
    return light
