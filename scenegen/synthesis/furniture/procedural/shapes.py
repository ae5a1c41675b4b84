"""Closed triangle shapes in metres, y up, outward faces: the bricks of procedural furniture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache

import numpy as np
from scipy.spatial import ConvexHull

AXES = {"x": 0, "y": 1, "z": 2}


@dataclass(frozen=True)
class Shape:
    """Vertices (V, 3) float64 in metres and faces (F, 3) int."""

    vertices: np.ndarray
    faces: np.ndarray

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Shape:
        """The shape shifted, in metres."""
        return Shape(self.vertices + (x, y, z), self.faces)

    def turned(self, axis: str, angle: float) -> Shape:
        """The shape turned about an axis through the origin; `angle` in radians, right-handed."""
        i, j = ((1, 2), (2, 0), (0, 1))[AXES[axis]]
        cosine, sine = np.cos(angle), np.sin(angle)
        vertices = self.vertices.copy()
        vertices[:, i] = cosine * self.vertices[:, i] - sine * self.vertices[:, j]
        vertices[:, j] = sine * self.vertices[:, i] + cosine * self.vertices[:, j]
        return Shape(vertices, self.faces)

    def mirrored(self, axis: str = "x") -> Shape:
        """The mirror image, with faces still outward."""
        vertices = self.vertices.copy()
        vertices[:, AXES[axis]] *= -1
        return Shape(vertices, self.faces[:, ::-1])


@dataclass
class Assembly:
    """Coloured shapes that together make one piece of furniture; front towards +z."""

    vertices: list[np.ndarray] = field(default_factory=list)
    faces: list[np.ndarray] = field(default_factory=list)
    colours: list[np.ndarray] = field(default_factory=list)
    _count: int = 0

    def add(self, shape: Shape, colour: Sequence[float]) -> None:
        """Add a shape in one sRGB colour, components in [0, 255]."""
        self.vertices.append(shape.vertices)
        self.faces.append(shape.faces + self._count)
        self.colours.append(np.tile(np.clip(colour, 0, 255).astype(np.uint8), (len(shape.faces), 1)))
        self._count += len(shape.vertices)

    def add_pair(self, shape: Shape, colour: Sequence[float]) -> None:
        """Add a shape and its mirror image in x."""
        self.add(shape, colour)
        self.add(shape.mirrored("x"), colour)

    def add_corners(self, shape: Shape, colour: Sequence[float]) -> None:
        """Add a shape and its mirror images in x, in z and in both."""
        self.add_pair(shape, colour)
        self.add_pair(shape.mirrored("z"), colour)

    def add_assembly(self, other: Assembly, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> None:
        """Add all shapes of another assembly, shifted by metres."""
        self.faces += [faces + self._count for faces in other.faces]
        self.vertices += [vertices + (x, y, z) for vertices in other.vertices]
        self.colours += other.colours
        self._count += other._count

    def joined(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Vertices (V, 3) in metres, faces (F, 3) and face colours (F, 3) uint8 of all shapes."""
        return np.concatenate(self.vertices), np.concatenate(self.faces), np.concatenate(self.colours)


def box(width: float, height: float, depth: float, bevel: float = 0.0) -> Shape:
    """Box centred at the origin; `bevel` metres are cut off its edges (at most 45 % of the thinnest side)."""
    half = np.array([width, height, depth]) / 2
    if bevel <= 0:
        signs, faces = _plain_box()
        return Shape(signs * half, faces)
    bevel = min(bevel, 0.9 * half.min())
    signs, inset, faces = _bevelled_box()
    return Shape(signs * (half - bevel * inset), faces)


def panel(width: float, height: float, depth: float, bow: float, segments: int = 6) -> Shape:
    """Box centred at the origin whose middle is pushed by `bow` metres to -z: a curved backrest or screen."""
    steps = np.linspace(-1, 1, segments + 1)
    ring = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) / 2  # (y, z)
    vertices = np.array(
        [(x * width / 2, y * height, z * depth - bow * (1 - x * x)) for x in steps for y, z in ring]
    )
    return Shape(vertices, ring_faces(len(steps), 4))


def prism(base: float, top: float, height: float, segments: int = 12) -> Shape:
    """Upright cylinder or cone frustum from y=0 to y=height with radii `base` and `top`."""
    return lathe([(base, 0.0), (top, height)], segments)


def rod(
    start: Sequence[float],
    end: Sequence[float],
    radius: float,
    end_radius: float | None = None,
    segments: int = 8,
) -> Shape:
    """Round bar between two points."""
    return tube([start, end], radius, segments, end_radius)


def lathe(profile: Sequence[tuple[float, float]], segments: int = 16, hollow: bool = False) -> Shape:
    """Turn a profile of (radius, y) about the y axis.

    Args:
        profile: points from bottom to top on the outside; the ends are capped unless the radius is 0. With
            `hollow` the profile is a closed outline (out and up, then in and down), as for a lamp shade.
    """
    angles = 2 * np.pi * np.arange(segments) / segments
    circle = np.stack([np.sin(angles), np.zeros(segments), np.cos(angles)], axis=1)
    rings = np.concatenate([circle * radius + (0, y, 0) for radius, y in profile])
    return Shape(rings, ring_faces(len(profile), segments, closed=hollow))


def tube(
    path: Sequence[Sequence[float]], radius: float, segments: int = 8, end_radius: float | None = None
) -> Shape:
    """Round bar along a path of points; the radius goes linearly to `end_radius`."""
    points = np.asarray(path, dtype=np.float64)
    radii = np.linspace(radius, radius if end_radius is None else end_radius, len(points))
    angles = 2 * np.pi * np.arange(segments) / segments
    tangents = np.gradient(points, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    first = np.cross(tangents[0], np.eye(3)[np.argmin(np.abs(tangents[0]))])
    vertices = []
    for point, tangent, ring_radius in zip(points, tangents, radii, strict=True):
        first = first - tangent * (first @ tangent)
        first /= np.linalg.norm(first)
        second = np.cross(tangent, first)
        vertices.append(
            point + ring_radius * (np.outer(np.cos(angles), first) + np.outer(np.sin(angles), second))
        )
    return Shape(np.concatenate(vertices), ring_faces(len(points), segments))


def cushion(width: float, height: float, depth: float, roundness: float = 0.4, segments: int = 12) -> Shape:
    """Superellipsoid in a box centred at the origin: 1 is an ellipsoid, towards 0 a box with soft edges."""
    signs, faces = _superellipsoid(round(float(roundness), 2), segments)
    return Shape(signs * (width / 2, height / 2, depth / 2), faces)


@cache
def _plain_box() -> tuple[np.ndarray, np.ndarray]:
    signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
    return signs, _convex_faces(signs)


@cache
def _bevelled_box() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Corner signs (24, 3), which axes are inset (24, 3), faces."""
    corners, _ = _plain_box()
    signs = np.repeat(corners, 3, axis=0)
    inset = np.tile(1 - np.eye(3), (8, 1))
    return signs, inset, _convex_faces(signs * (1 - 0.2 * inset))


@lru_cache(maxsize=64)
def _superellipsoid(roundness: float, segments: int) -> tuple[np.ndarray, np.ndarray]:
    def power(value: np.ndarray) -> np.ndarray:
        return np.sign(value) * np.abs(value) ** max(roundness, 0.05)

    latitudes = np.linspace(-np.pi / 2, np.pi / 2, segments // 2 + 2)[1:-1]
    longitudes = 2 * np.pi * np.arange(segments) / segments
    latitude, longitude = np.meshgrid(latitudes, longitudes, indexing="ij")
    rings = np.stack(
        [
            power(np.cos(latitude)) * power(np.sin(longitude)),
            power(np.sin(latitude)),
            power(np.cos(latitude)) * power(np.cos(longitude)),
        ],
        axis=-1,
    )
    rings /= np.abs(rings).max(axis=(0, 1))
    return rings.reshape(-1, 3), ring_faces(len(latitudes), segments)


@lru_cache(maxsize=256)
def ring_faces(count: int, segments: int, closed: bool = False) -> np.ndarray:
    """Faces between `count` rings of `segments` vertices; ends capped, or the last ring joined to the first.

    The array is shared: do not write to it.
    """
    faces = []
    for ring in range(count if closed else count - 1):
        low, high = ring * segments, (ring + 1) % count * segments
        for i in range(segments):
            j = (i + 1) % segments
            faces += [(low + i, low + j, high + j), (low + i, high + j, high + i)]
    if not closed:
        last = (count - 1) * segments
        faces += [(0, i + 1, i) for i in range(1, segments - 1)]
        faces += [(last, last + i, last + i + 1) for i in range(1, segments - 1)]
    return np.array(faces)


def _convex_faces(points: np.ndarray) -> np.ndarray:
    """Outward triangles of the convex hull of points around the origin."""
    faces = ConvexHull(points).simplices
    corners = points[faces]
    inward = np.einsum(
        "fc,fc->f", np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), corners[:, 0]
    )
    faces[inward < 0] = faces[inward < 0][:, ::-1]
    return faces
