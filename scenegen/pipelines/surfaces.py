"""Plain surfaces of structures, their colours, and the row in which objects without poses stand."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from scenegen.geometry import pose_to_transform
from scenegen.inputs.scene_images import SceneImages
from scenegen.photo.camera import PhotoCamera
from scenegen.photo.camera_fit import fit_photo_camera
from scenegen.photo.colouring import MIN_OVERLAP, colour_by_height, colour_from_photo
from scenegen.pipelines.assembly import row_poses
from scenegen.pipelines.decoding import occupancy_to_mesh
from scenegen.pipelines.drafts import EMPTY, ObjectDraft
from scenegen.pipelines.progress import ProgressReporter
from scenegen.pipelines.result import GeneratedObject, placed_surface
from scenegen.pipelines.settings import ResolvedSettings

logger = logging.getLogger(__name__)


def add_surfaces(
    drafts: Sequence[ObjectDraft], settings: ResolvedSettings, reporter: ProgressReporter
) -> None:
    """Give drafts without a mesh the surface of their structure; it has no colours."""
    plain = [draft for draft in drafts if draft.mesh is None]
    if not plain:
        return
    advance = reporter.counter("meshes", len(plain))
    for draft in plain:
        counted = draft.num_faces is not None
        draft.mesh = occupancy_to_mesh(
            draft.logits.numpy(),
            draft.num_faces if counted else settings.max_faces,
            None if counted else settings.simplify,
            watertight=settings.solid,
        )
        if draft.problem is not None:
            logger.warning("%s; the object gets the surface of its structure", draft.problem)
        elif draft.mesh is None:
            draft.problem = EMPTY
        advance()


def place_in_row(drafts: Sequence[ObjectDraft]) -> None:
    """Give drafts that no network has placed the poses of a row."""
    vertices = [np.zeros((0, 3)) if draft.mesh is None else draft.mesh.vertices for draft in drafts]
    for draft, pose in zip(drafts, row_poses(vertices), strict=True):
        draft.pose = pose


def colour_objects(
    objects: Sequence[GeneratedObject], view: SceneImages, camera: PhotoCamera | None = None
) -> PhotoCamera | None:
    """Colour the meshes that have no colours yet, in place, from the photo.

    Args:
        objects: in the order of the photo's objects.
        view: the photo.
        camera: fitted to the structures of the objects; None fits one to the meshes.

    Returns:
        The camera of the photo, or None where no camera explains the masks.
    """
    shown = [index for index, item in enumerate(objects) if item.mesh is not None]
    if not shown:
        return None
    if camera is None:
        surfaces = [placed_surface(objects[index]) for index in shown]
        camera = fit_photo_camera(surfaces, [view.masks[index] for index in shown])
    if camera.modal_overlap is not None and camera.modal_overlap < MIN_OVERLAP:
        camera = None
    colour_by_camera(objects, view, camera)
    return camera


def colour_by_camera(
    objects: Sequence[GeneratedObject], view: SceneImages, camera: PhotoCamera | None
) -> None:
    """Colour the meshes that have no colours yet, in place.

    Args:
        objects: some of the photo's objects.
        view: the photo.
        camera: of the photo; None where none is known, then colours follow the height in the picture.
    """
    pixels = np.asarray(view.photo.convert("RGB"))
    places = {number: place for place, number in enumerate(view.object_ids)}
    for item in objects:
        if item.mesh is None or item.mesh.visual.defined:
            continue
        to_query, place = pose_to_transform(item.pose.double()).numpy(), places[item.object_id]
        mask = view.masks[place]
        if camera is None or not colour_from_photo(item.mesh, to_query, camera, pixels, mask):
            colour_by_height(item.mesh, view.cutouts[place])
