"""Scene layouts: which furniture models stand where, seen by which camera, in which room and light.

Frames used here:

* object frame: the model's own mesh, y up, front = +Z, box centred at 0, longest side 1;
* world frame: y up, metres, floor at y = 0; ``world = size_m * Ry(yaw) @ object + centre``;
* camera frame: OpenCV (x right, y down, z forward);
* query frame: the object frame of the query object, unit = the query's longest side.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scenegen.geometry import world_pose, world_poses_to_query_poses

Vector3 = tuple[float, float, float]


@dataclass(frozen=True)
class PlacedObject:
    """One model standing in the world.

    ``mirror`` and ``stretch`` change the model's mesh before it is placed (see ``augment_vertices``); the
    object frame is that of the changed mesh, normalised again, and ``size_m`` is its longest side.
    """

    model_id: str
    centre: Vector3  # world position of the box centre, metres
    yaw: float  # radians about +y; the front direction is (sin yaw, 0, cos yaw)
    size_m: float
    stretch: Vector3 = (1.0, 1.0, 1.0)
    mirror: bool = False


@dataclass(frozen=True)
class Camera:
    """Pinhole camera with a square image, looking from ``position`` at ``target``, no roll."""

    position: Vector3
    target: Vector3
    fov_deg: float

    def extrinsics(self) -> np.ndarray:
        """Return the (4, 4) float64 world-to-camera matrix, OpenCV axes."""
        position = np.asarray(self.position, dtype=np.float64)
        forward = np.asarray(self.target, dtype=np.float64) - position
        forward /= np.linalg.norm(forward)
        right = np.array([-forward[2], 0.0, forward[0]])
        right /= np.linalg.norm(right)
        down = cross(forward, right)
        matrix = np.eye(4)
        matrix[:3, :3] = (right, down, forward)
        matrix[:3, 3] = -matrix[:3, :3] @ position
        return matrix

    def intrinsics(self) -> np.ndarray:
        """Return the (3, 3) float64 matrix normalised to the image size (centre at 0.5)."""
        focal = 0.5 / math.tan(math.radians(self.fov_deg) / 2)
        return np.array([[focal, 0.0, 0.5], [0.0, focal, 0.5], [0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class Lighting:
    """A white sun and a grey sky; ``pictures.light_model`` says what they do to a surface."""

    sun_direction: Vector3  # unit vector from the scene towards the sun
    sun_strength: float
    ambient_strength: float


@dataclass(frozen=True)
class Wall:
    """An infinite vertical plane; ``normal`` (unit) points into the room."""

    point: Vector3
    normal: Vector3


@dataclass(frozen=True)
class Room:
    """Floor at y = 0, walls behind the objects, perhaps a ceiling; colours are sRGB in [0, 1]."""

    floor_colour: Vector3
    wall_colour: Vector3
    walls: tuple[Wall, ...] = ()
    ceiling_m: float | None = None


@dataclass(frozen=True)
class SceneLayout:
    """A whole scene; the order of ``objects`` is the order of instance ids 0, 1, ..."""

    scene_id: str
    objects: tuple[PlacedObject, ...]
    camera: Camera
    lighting: Lighting
    room: Room

    def reordered(self, order: Sequence[int]) -> SceneLayout:
        """Return the scene with ``objects[order[0]]``, ``objects[order[1]]``, ... as its objects."""
        if sorted(order) != list(range(len(self.objects))):
            expected = f"a permutation of 0..{len(self.objects) - 1}"
            raise ValueError(f"{self.scene_id}: order must be {expected}, got {list(order)}")
        return replace(self, objects=tuple(self.objects[i] for i in order))

    def to_json(self) -> dict[str, Any]:
        """Return the layout as JSON-ready dicts, lists, numbers and strings, without a ceiling of None."""
        raw = json.loads(json.dumps(asdict(self)))
        if self.room.ceiling_m is None:
            del raw["room"]["ceiling_m"]
        return raw

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> SceneLayout:
        """Rebuild a layout from ``to_json`` output.

        Raises:
            ValueError: a key is missing or unknown.
        """
        try:
            return cls(
                scene_id=raw["scene_id"],
                objects=tuple(PlacedObject(**_tuples(item)) for item in raw["objects"]),
                camera=Camera(**_tuples(raw["camera"])),
                lighting=Lighting(**_tuples(raw["lighting"])),
                room=Room(
                    floor_colour=tuple(raw["room"]["floor_colour"]),
                    wall_colour=tuple(raw["room"]["wall_colour"]),
                    walls=tuple(Wall(**_tuples(item)) for item in raw["room"]["walls"]),
                    ceiling_m=raw["room"].get("ceiling_m"),
                ),
            )
        except (KeyError, TypeError) as error:
            name = raw.get("scene_id", "?") if isinstance(raw, Mapping) else "?"
            raise ValueError(
                f"scene layout {name}: expected the form SceneLayout.to_json writes, got {error!r}"
            ) from error


def _tuples(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()}


def layouts_sha256(layouts: Sequence[SceneLayout]) -> str:
    """Hash a list of layouts: sha256 of its canonical JSON (sorted keys, no spaces, shortest floats)."""
    canonical = json.dumps([layout.to_json() for layout in layouts], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def vector3(values: Iterable[float]) -> Vector3:
    """Three numbers of any kind as Python floats, which layouts hold."""
    x, y, z = (float(value) for value in values)
    return x, y, z


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross product of two vectors (3,): the numbers of ``numpy.cross``, in a tenth of the time."""
    (a_x, a_y, a_z), (b_x, b_y, b_z) = a.tolist(), b.tolist()
    return np.array([a_y * b_z - a_z * b_y, a_z * b_x - a_x * b_z, a_x * b_y - a_y * b_x])


def yaw_matrix(yaw: float | np.ndarray) -> np.ndarray:
    """Return Ry(yaw), (..., 3, 3) float64, for one yaw or several (...)."""
    matrix = np.zeros((*np.shape(yaw), 3, 3))
    matrix[..., 0, 0] = matrix[..., 2, 2] = np.cos(yaw)
    matrix[..., 0, 2] = np.sin(yaw)
    matrix[..., 2, 0] = -np.sin(yaw)
    matrix[..., 1, 1] = 1.0
    return matrix


def augment_vertices(vertices: np.ndarray, placed: PlacedObject) -> np.ndarray:
    """Mirror (x -> -x) and stretch a mesh, then centre its box and make its longest side 1 again.

    Args:
        vertices: (V, 3) object frame. A mirrored mesh also needs its faces' winding reversed by the caller.

    Returns:
        (V, 3) float32 in the object frame of ``placed``.
    """
    factors = np.asarray(placed.stretch, dtype=np.float32) * np.float32([-1 if placed.mirror else 1, 1, 1])
    changed = vertices * factors
    low, high = changed.min(axis=0), changed.max(axis=0)
    return ((changed - (low + high) / 2) / (high - low).max()).astype(np.float32)


def world_poses(layout: SceneLayout) -> Tensor:
    """Poses (N, 8) float64 of the objects in the world, in metres; see `scenegen.geometry`."""
    centre = torch.tensor([placed.centre for placed in layout.objects], dtype=torch.float64)
    yaw = torch.tensor([placed.yaw for placed in layout.objects], dtype=torch.float64)
    size = torch.tensor([placed.size_m for placed in layout.objects], dtype=torch.float64)
    return world_pose(centre, yaw, size)


def query_poses(layout: SceneLayout) -> Tensor:
    """Poses (N, 8) float32 of the objects in the frame of the query, object 0, whose own is the identity."""
    poses = world_poses_to_query_poses(world_poses(layout))
    return poses.float() + 0.0  # turns -0 into 0, as files should read the same for the same scene
