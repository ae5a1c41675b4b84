"""What the pipeline returns: objects with meshes and poses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import trimesh
from torch import Tensor

from scenegen.confidence.calibration import ObjectConfidence
from scenegen.geometry import apply_transform, pose_to_transform, sanitize_pose
from scenegen.photo.camera import PhotoCamera
from scenegen.photo.mask_overlap import MaskOverlap, mask_overlaps
from scenegen.photo.room_parts import RoomPart
from scenegen.photo.silhouettes import Surface
from trellis_modules.representations.gaussian import Gaussian
from trellis_modules.representations.strivec import Strivec

if TYPE_CHECKING:
    from scenegen.pipelines.state import ObjectLatents, SceneState

Representation = Literal["gaussian", "radiance_field"]
"""What an object can be returned as beside its mesh; attributes of `GeneratedObject`."""

QUERY_FRAME = (
    "query object: its own frame; x_query = scale * R(rotation_wxyz) @ p + translation for p in an object's "
    "own frame: y up, front +z, origin at the centre of the cube that its shape was generated in, unit = the "
    "edge of that cube; box tells where its mesh lies there, generated to be centred with longest side 1"
)
"""The words beside the poses: the networks place cubes of objects, which the meshes fill almost exactly."""


@dataclass(frozen=True)
class GeneratedObject:
    """One object of a generated scene.

    Attributes:
        object_id: the caller's number; the node is named ``obj_<object_id>``.
        pose: (8,) float32, object y-up frame -> query frame (see `scenegen.geometry`).
        logits: (R, R, R) float32 occupancy logits, object z-up frame.
        mesh: in the object y-up frame, on the CPU. With the appearance stage it has UVs, vertex normals and
            a PBR base-colour texture (``mesh.visual.kind == "texture"``), without it vertex colours
            ("vertex"). None for an object that could not be made.
        gaussian: object z-up frame, float32 on the CPU; None without the appearance stage or its decoder.
        radiance_field: likewise, only where it was asked for or the texture comes from it.
        problem: one line that says why ``mesh`` is None or only the plain surface of the structure; None for
            an object that was made as it should be.
        name: what people call the object; may be empty.
        latents: what the networks sampled for it; None where an object came from elsewhere.
        settings: what made this object, where that is not what made the scene.
        confidence: chances that it is right; None where the checkpoint has no calibration.
    """

    object_id: int
    pose: Tensor
    logits: Tensor
    mesh: trimesh.Trimesh | None
    gaussian: Gaussian | None = None
    radiance_field: Strivec | None = None
    problem: str | None = None
    name: str = ""
    latents: ObjectLatents | None = None
    settings: Mapping[str, object] | None = None
    confidence: ObjectConfidence | None = None

    @property
    def node(self) -> str:
        """Name of the object's node and file."""
        return f"obj_{self.object_id}"


@dataclass(frozen=True)
class SceneResult:
    """A generated scene.

    Attributes:
        objects: in the caller's order.
        query_id: the object whose frame the poses are in.
        camera: the photo's camera, fitted to the masks; None where no camera explains them.
        settings: what made the scene (checkpoint, seed, steps, ...), written to ``poses.json``.
        timings: seconds per stage, in order of work.
        peak_bytes: most memory in use, by stage on a GPU, under "process" on a CPU.
        left_out: number -> one line, for objects whose masks could not be used.
        overlaps: object id -> how well the object covers its mask as the camera sees the scene; empty where
            it was not measured since the scene last changed.
        room: floor and walls, where they were asked for and found, see `scenegen.refinement.room`.
        state: from which objects can be made anew; None for a scene that was read from its files.
        camera_confidence: chance that the camera looks from the right direction; None without a calibration.
    """

    objects: tuple[GeneratedObject, ...]
    query_id: int
    camera: PhotoCamera | None = None
    settings: dict[str, object] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)
    left_out: Mapping[int, str] = field(default_factory=dict)
    overlaps: Mapping[int, MaskOverlap] = field(default_factory=dict)
    room: tuple[RoomPart, ...] = ()
    state: SceneState | None = None
    camera_confidence: float | None = None

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Numbers of the objects, in the caller's order."""
        return tuple(item.object_id for item in self.objects)


def placed_surface(item: GeneratedObject) -> Surface:
    """The surface of an object that has a mesh, in the query frame."""
    to_query = pose_to_transform(sanitize_pose(item.pose.double())).numpy()
    return Surface(apply_transform(to_query, item.mesh.vertices), np.asarray(item.mesh.faces))


def with_overlaps(result: SceneResult, masks: Sequence[np.ndarray] | None) -> SceneResult:
    """Measure how well the objects cover their masks where they are now.

    Args:
        masks: per object, (H, W) bool in the photo; None takes away what was measured before.

    Returns:
        The scene with `overlaps`, and its camera with the means. An object without a mesh covers nothing.
    """
    camera = result.camera
    if camera is None:
        return replace(result, overlaps={})
    if masks is None:
        return replace(result, camera=replace(camera, overlap=None, modal_overlap=None), overlaps={})
    shown = [row for row, item in enumerate(result.objects) if item.mesh is not None]
    found = mask_overlaps(
        camera, [placed_surface(result.objects[row]) for row in shown], [masks[row] for row in shown]
    )
    overlaps = {item.object_id: MaskOverlap(0.0, 0.0) for item in result.objects}
    overlaps |= {result.objects[row].object_id: overlap for row, overlap in zip(shown, found)}
    modal = [each.modal for each in overlaps.values() if each.modal is not None]
    camera = replace(
        camera,
        overlap=float(np.mean([each.alone for each in overlaps.values()])),
        modal_overlap=float(np.mean(modal)) if modal else None,
    )
    return replace(result, camera=camera, overlaps=overlaps)
