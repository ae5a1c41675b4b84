"""The two records every furniture source produces: what a model is, and its mesh.

Object frame ("y-up"): y up, front of the furniture towards +z, bounding box centred at the origin,
longest side of the box = 1. Multiply by the longest side in metres to get the true size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from trellis_modules.representations.mesh.triangle_arrays import drop_unreferenced


@dataclass(frozen=True)
class ModelInfo:
    """What is known of one furniture model.

    Attributes:
        id: unique name, "library/model" or "procedural/class/seed".
        name: name for people.
        super_category: class of furniture, e.g. "Chair".
        tier: where it stands: floor, small (on a table), mounted, flat or drop.
        split: train, validation or test.
        size_m: (width, height, depth) along x, y, z in metres.
        symmetry: order of the symmetry about the vertical axis: 1 none, 2 half turns, 4 quarter turns,
            0 continuous.
        licence: short name of the licence.
        creator: who is to be credited.
    """

    id: str
    name: str
    super_category: str
    tier: str
    split: str
    size_m: tuple[float, float, float]
    symmetry: int = 1
    licence: str = ""
    creator: str = ""

    def to_json(self) -> dict[str, Any]:
        """The record as JSON-serialisable values."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> ModelInfo:
        """Rebuild a record from `to_json` output.

        Raises:
            ValueError: a key is unknown or missing.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(raw.keys() - known):
            raise ValueError(
                f"ModelInfo {raw.get('id')!r}: unknown key {unknown[0]!r}; known: {sorted(known)}"
            )
        try:
            return cls(**{**raw, "size_m": tuple(float(side) for side in raw["size_m"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"ModelInfo {raw.get('id')!r}: missing key ({error})") from error


@dataclass(frozen=True)
class FurnitureMesh:
    """A triangle mesh with one colour per face, in the object frame of this module.

    Attributes:
        vertices: (V, 3) float32.
        faces: (F, 3) int32 indices into `vertices`.
        face_colours: (F, 3) uint8 sRGB.
    """

    vertices: np.ndarray
    faces: np.ndarray
    face_colours: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "vertices", np.ascontiguousarray(self.vertices, dtype=np.float32))
        object.__setattr__(self, "faces", np.ascontiguousarray(self.faces, dtype=np.int32))
        object.__setattr__(self, "face_colours", np.ascontiguousarray(self.face_colours, dtype=np.uint8))
        if self.vertices.ndim != 2 or self.vertices.shape[1] != 3:
            raise ValueError(f"FurnitureMesh: vertices must be (V, 3), got {self.vertices.shape}")
        if self.faces.ndim != 2 or self.faces.shape[1] != 3:
            raise ValueError(f"FurnitureMesh: faces must be (F, 3), got {self.faces.shape}")
        if self.face_colours.shape != self.faces.shape:
            raise ValueError(
                f"FurnitureMesh: face_colours must be (F, 3) for {len(self.faces)} faces, "
                f"got {self.face_colours.shape}"
            )


def normalise(vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre the bounding box at the origin and scale its longest side to 1.

    Args:
        vertices: (V, 3) in any unit.

    Returns:
        (V, 3) float64 vertices in the object frame, and the (3,) sides of the box in the unit given.

    Raises:
        ValueError: no vertices, or all at one point.
    """
    if len(vertices) == 0:
        raise ValueError("normalise: expected at least one vertex, got none")
    low, high = vertices.min(axis=0).astype(np.float64), vertices.max(axis=0).astype(np.float64)
    size = high - low
    if not size.max() > 0:
        raise ValueError("normalise: all vertices lie at one point; the model has no size")
    return (vertices - (low + high) / 2) / size.max(), size


def take_faces(mesh: FurnitureMesh, kept: np.ndarray) -> FurnitureMesh:
    """The mesh with only the faces `kept` (indices or mask) and their vertices; the frame is unchanged."""
    vertices, faces = drop_unreferenced(mesh.vertices, mesh.faces[kept])
    return FurnitureMesh(vertices, faces, mesh.face_colours[kept])
