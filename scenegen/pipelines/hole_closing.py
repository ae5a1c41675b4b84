"""Closing tears of structures, and holes that the photo contradicts, before anything is made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from scenegen.geometry import apply_transform, pose_to_transform
from scenegen.photo.camera import PhotoCamera
from scenegen.photo.camera_fit import fit_photo_camera
from scenegen.photo.colouring import MIN_OVERLAP
from scenegen.photo.silhouettes import Surface
from scenegen.photo.through_holes import membranes_of_holes
from scenegen.pipelines.decoding import occupancy_surface, with_voxels_at
from scenegen.pipelines.drafts import ObjectDraft, usable
from scenegen.pipelines.tears import without_tears


def close_tears(drafts: Sequence[ObjectDraft], check: Callable[[], object]) -> None:
    """Close, in the logits of drafts, small holes where the network is undecided, see `without_tears`.

    Args:
        drafts: all objects; those that have a problem are left out.
        check: called before each object; what it raises ends the work.
    """
    for row in usable(drafts):
        check()
        drafts[row].logits = torch.from_numpy(without_tears(drafts[row].logits.numpy()))


def close_contradicted_holes(
    drafts: Sequence[ObjectDraft], masks: Sequence[np.ndarray], check: Callable[[], object]
) -> PhotoCamera | None:
    """Occupy, in the logits of drafts, membranes over holes right through them that the photo does not show.

    Nothing is done where no camera explains the masks. See `scenegen.photo.through_holes`.

    Args:
        drafts: all objects, with poses in the query frame; those that have a problem are left out.
        masks: of the objects in the photo, (H, W) bool.
        check: called before each object; what it raises ends the work.

    Returns:
        The camera that was fitted for it, as far as it explains the masks; None without any surface.
    """
    surfaces = _surfaces(drafts)
    if not surfaces:
        return None
    placed = [
        Surface(apply_transform(_to_query(drafts[row]), vertices), faces)
        for row, (vertices, faces) in surfaces.items()
    ]
    camera = fit_photo_camera(placed, [masks[row] for row in surfaces])
    if camera.modal_overlap >= MIN_OVERLAP:
        close_holes_seen_by(camera, drafts, masks, check)
    return camera


def close_holes_seen_by(
    camera: PhotoCamera,
    drafts: Sequence[ObjectDraft],
    masks: Sequence[np.ndarray],
    check: Callable[[], object],
) -> None:
    """As `close_contradicted_holes`, where the camera of the photo is known."""
    covered = np.sum(masks, axis=0)
    for row, surface in _surfaces(drafts).items():
        check()
        logits, others = drafts[row].logits.numpy(), covered - masks[row] > 0
        points = membranes_of_holes(
            *surface, _to_query(drafts[row]), camera, masks[row], others, voxel=1 / len(logits)
        )
        if len(points):
            drafts[row].logits = torch.from_numpy(with_voxels_at(logits, points))


def _surfaces(drafts: Sequence[ObjectDraft]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Vertices and faces of the structures of usable drafts that have any, by row."""
    surfaces = {row: occupancy_surface(drafts[row].logits.numpy()) for row in usable(drafts)}
    return {row: surface for row, surface in surfaces.items() if len(surface[1])}


def _to_query(draft: ObjectDraft) -> np.ndarray:
    return pose_to_transform(draft.pose.double()).numpy()
