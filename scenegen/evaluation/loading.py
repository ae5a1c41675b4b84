"""Finding and reading the scenes and pose files of a folder.

Two layouts are read, also mixed in one folder: `<id>.glb` with an optional `<id>.json`, and `<id>/scene.glb`
with an optional `<id>/poses.json`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safe_files.json_reader import read_json
from safe_files.limits import MAX_SYMMETRY
from safe_files.regular import UnreadableFile, shown
from scenegen.evaluation.glb import GlbMesh, read_glb
from scenegen.evaluation.registration import Similarity
from scenegen.export.names import POSES_FILE, SCENE_FILE
from scenegen.geometry import ROTATION, SCALE, SCENE_EXTENT, check_pose
from scenegen.inputs.names import natural_key
from trellis_modules.representations.mesh.triangle_arrays import triangle_areas

_OBJECT_NAME = re.compile(r"obj_(\d{1,9})")


class EvaluationError(ValueError):
    """Input that cannot be evaluated; the message names the file and what to do."""


@dataclass(frozen=True)
class SceneFiles:
    """The files of one scene; `poses` is None where the folder has none."""

    scene_id: str
    scene: Path
    poses: Path | None


@dataclass(frozen=True)
class ObjectMesh:
    """One object of a scene: `index` is the number in its node name, or its place among the mesh nodes."""

    index: int
    vertices: np.ndarray  # (V, 3) float64, scene frame, y up
    faces: np.ndarray  # (F, 3) int64


@dataclass(frozen=True)
class EvaluationScene:
    """Objects of one scene.

    Attributes:
        objects: by index, ascending; never empty.
        named: whether the indices come from `obj_<n>` node names (True) or from the order in the file.
        warnings: what was left out, one line each.
    """

    objects: dict[int, ObjectMesh]
    named: bool
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScenePoses:
    """Poses of one scene in the frame of its query object.

    Attributes:
        query: index of the query object.
        poses: (8,) float64 pose by object index, as `scenegen.geometry` describes it.
        symmetry: order of an object's rotational symmetry about its y axis: 1 none, 2, 4, ..., 0 continuous.
    """

    query: int
    poses: dict[int, Tensor]
    symmetry: dict[int, int]


def find_scene_files(root: Path) -> dict[str, SceneFiles]:
    """List the scenes of a folder by id, in natural order.

    Raises:
        EvaluationError: the folder does not exist, or one id occurs in both layouts.
    """
    if not root.is_dir():
        raise EvaluationError(f"{root}: expected a folder of scenes, got no such folder; check the path")
    found: dict[str, SceneFiles] = {}
    for path in sorted(root.glob("*.glb")):
        poses = path.with_suffix(".json")
        found[path.stem] = SceneFiles(path.stem, path, poses if poses.is_file() else None)
    for path in sorted(root.glob(f"*/{SCENE_FILE}")):
        scene_id = path.parent.name
        if scene_id in found:
            raise EvaluationError(
                f"{root}: scene {scene_id!r} is there twice, as {scene_id}.glb and as "
                f"{scene_id}/{SCENE_FILE}; remove one"
            )
        poses = path.with_name(POSES_FILE)
        found[scene_id] = SceneFiles(scene_id, path, poses if poses.is_file() else None)
    return {scene_id: found[scene_id] for scene_id in sorted(found, key=natural_key)}


def fault_of(error: OSError | UnreadableFile) -> str:
    """What is wrong with a file, for a message that names it."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def load_scene(path: Path) -> EvaluationScene:
    """Read the objects of a scene GLB.

    Objects are the mesh nodes at or under a node named `obj_<n>`. Without any such name every mesh node is
    an object and the order in the file gives the index. Objects without surface area count as not there.

    Raises:
        GlbError: the file cannot be read.
        EvaluationError: the file holds no object with a surface.
    """
    meshes = read_glb(path)
    indices = [_object_index(mesh) for mesh in meshes]
    named = any(index is not None for index in indices)
    if not named:
        indices = list(range(len(meshes)))
    parts: dict[int, list[GlbMesh]] = {}
    warnings = []
    for mesh, index in zip(meshes, indices, strict=True):
        if index is None:
            warnings.append(f"{path}: node {shown(mesh.node_path[-1])} is no part of an obj_<n>; left out")
        else:
            parts.setdefault(index, []).append(mesh)
    objects = {}
    for index in sorted(parts):
        item = ObjectMesh(index, *joined(parts[index]))
        if triangle_areas(item.vertices, item.faces).sum() > 0:
            objects[index] = item
        else:
            warnings.append(f"{path}: obj_{index} has no surface area; taken as missing")
    if not objects:
        raise EvaluationError(
            f"{path}: expected at least one object with a surface, got none; "
            f"check that the scene was exported with its meshes"
        )
    return EvaluationScene(objects, named, tuple(warnings))


def _object_index(mesh: GlbMesh) -> int | None:
    for name in mesh.node_path:
        if match := _OBJECT_NAME.fullmatch(name):
            return int(match.group(1))
    return None


def joined(meshes: Iterable[GlbMesh | ObjectMesh]) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) and faces (F, 3) of several meshes together."""
    meshes = list(meshes)
    offsets = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    faces = [mesh.faces + offset for mesh, offset in zip(meshes, offsets, strict=True)]
    return np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate(faces)


def normalise_scene(scene: EvaluationScene) -> EvaluationScene:
    """Move and scale a scene so that its box is centred at the origin with longest side 1.96.

    Source: normalisation of the true scenes, f * (x - c) with f = 1.96 / longest side.
    """
    to_box = scene_normalisation(scene)
    return EvaluationScene(
        {
            index: ObjectMesh(index, to_box.apply(item.vertices), item.faces)
            for index, item in scene.objects.items()
        },
        scene.named,
        scene.warnings,
    )


def scene_normalisation(scene: EvaluationScene) -> Similarity:
    """What `normalise_scene` does to the points of a scene."""
    low, high = bounds(item.vertices for item in scene.objects.values())
    factor = SCENE_EXTENT / float((high - low).max())
    return Similarity(translation=-factor * (low + high) / 2, scale=factor)


def bounds(clouds: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest corner, (3,) each, of the box around several (N, 3) arrays."""
    clouds = list(clouds)
    return (
        np.min([cloud.min(axis=0) for cloud in clouds], axis=0),
        np.max([cloud.max(axis=0) for cloud in clouds], axis=0),
    )


def sample_surface(item: ObjectMesh, num_points: int, rng: np.random.Generator) -> np.ndarray:
    """Draw independent points on the surface of an object, uniformly by area.

    Metrics are defined on independent points; training and preparation draw stratified ones, which cover a
    surface evenly (`scenegen.synthesis.furniture.surface`).

    Returns:
        (num_points, 3) float64 in the frame of the object's vertices.

    Source: R. Osada et al., Shape Distributions, ACM TOG 2002, sec. 4.2.
    """
    cumulative = np.cumsum(triangle_areas(item.vertices, item.faces))
    places = np.sort(rng.random(num_points))  # in order, so that neighbours are near each other in memory
    drawn = np.searchsorted(cumulative, places * cumulative[-1], side="right")
    corners = item.vertices[item.faces[np.minimum(drawn, len(item.faces) - 1)]]  # (N, 3 corners, 3)
    root, second = np.sqrt(rng.random(num_points)), rng.random(num_points)
    weights = np.stack([1 - root, root * (1 - second), root * second], axis=1)
    return np.einsum("nc,ncd->nd", weights, corners)


def load_poses(path: Path) -> ScenePoses:
    """Read a pose file: {"query": 0, "objects": [{"id", "translation", "rotation_wxyz", "scale"}, ...]}.

    An object may also have "symmetry", see `ScenePoses`.

    Raises:
        EvaluationError: the file is no such JSON, a number is not finite, an id is there twice, the query has
            no pose, a quaternion is zero or a scale is not positive.
    """
    try:
        raw = read_json(path)
    except (OSError, UnreadableFile) as error:
        raise EvaluationError(
            f"{path}: expected a JSON pose file, got {fault_of(error)}; write it again"
        ) from error
    try:
        entries = raw["objects"]
        indices = [int(entry["id"]) for entry in entries]
        poses = {int(entry["id"]): _pose(entry) for entry in entries}
        symmetry = {int(entry["id"]): _symmetry(entry) for entry in entries}
        query = int(raw.get("query", 0))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise EvaluationError(
            f"{path}: expected objects with id, translation, rotation_wxyz and scale, got "
            f"{type(error).__name__}: {error}; write the pose file again"
        ) from error
    if len(poses) != len(indices) or query not in poses:
        raise EvaluationError(
            f"{path}: expected different ids and a pose of the query object {query}, got ids "
            f"{indices}; write the pose file again"
        )
    return ScenePoses(query, poses, symmetry)


def _pose(entry: dict[str, Any]) -> Tensor:
    numbers = [*entry["translation"], *entry["rotation_wxyz"], entry["scale"]]
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        raise TypeError(f"object {shown(entry['id'])} has a pose of something else than numbers")
    pose = torch.tensor([float(number) for number in numbers], dtype=torch.float64)
    check_pose(pose, f"object {entry['id']}")
    if not torch.isfinite(pose).all() or not pose[ROTATION].any() or pose[SCALE] <= 0:
        raise ValueError(
            f"object {entry['id']} has a pose that is not finite, a zero quaternion or a scale <= 0"
        )
    return pose


def _symmetry(entry: dict[str, Any]) -> int:
    order = entry.get("symmetry")
    if order is None:
        return 1
    if isinstance(order, bool) or not isinstance(order, int) or not 0 <= order <= MAX_SYMMETRY:
        raise ValueError(
            f"object {shown(entry['id'])} has symmetry {shown(order)}, known are 0 (continuous), 1, 2, 4, "
            f"... up to {MAX_SYMMETRY}"
        )
    return order
