"""What the caller sees of a scene before it is finished: plain surfaces first, then object by object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scenegen.inputs.masks import inverse_order
from scenegen.inputs.scene_images import SceneImages
from scenegen.photo.camera import PhotoCamera
from scenegen.pipelines.decoding import occupancy_to_mesh
from scenegen.pipelines.drafts import ObjectDraft, usable
from scenegen.pipelines.progress import ProgressReporter
from scenegen.pipelines.result import GeneratedObject, SceneResult
from scenegen.pipelines.surfaces import colour_objects, place_in_row

PREVIEW_FACES = 5_000
"""Triangles of each object: enough for a look, and quick to draw and to send."""

OnPreview = Callable[[SceneResult], Any]
"""Called once, as soon as the structures are known, with plain surfaces of the scene in the photo's colours.

Its meshes are the caller's own. There is no preview without appearance stage: the result is of the same kind.
"""

OnObject = Callable[[int, GeneratedObject], Any]
"""Called with an object's place in the caller's order, from 0, and the object, as soon as it is textured.

Its mesh is that of the result: do not change it. An object whose appearance fails is only in the result.
"""


@dataclass(frozen=True)
class PartialResults:
    """Tells the caller what is there already; the result is the same with it and without.

    Attributes:
        view: the first photo.
        order: for each row of the drafts, its place in the caller's order; the first is the query.
        settings: what makes the scene, as in `SceneResult`.
        reporter: asked between objects whether to go on.
        on_preview, on_object: the caller's functions; None is silent.
    """

    view: SceneImages
    order: Sequence[int]
    settings: dict[str, Any]
    reporter: ProgressReporter
    on_preview: OnPreview | None = None
    on_object: OnObject | None = None

    def show_surfaces(
        self, drafts: Sequence[ObjectDraft], has_poses: bool, camera: PhotoCamera | None = None
    ) -> None:
        """Show the scene as plain surfaces; the drafts are left as they are.

        Args:
            drafts: all objects; those that cannot be used are shown without a mesh.
            has_poses: whether a network has placed them; otherwise they stand in a row.
            camera: of the photo; None fits one.

        Raises:
            Cancelled: the caller wants to stop.
        """
        assert self.on_preview is not None
        shown = [replace(draft) for draft in drafts]
        for row in usable(shown):
            self.reporter.check()
            shown[row].mesh = occupancy_to_mesh(shown[row].logits.numpy(), PREVIEW_FACES)
        if not has_poses:
            place_in_row(shown)
        ids = self.view.object_ids
        objects = tuple(
            shown[row].finished(object_id)
            for object_id, row in zip(ids, inverse_order(self.order), strict=True)
        )
        self.reporter.check()
        camera = colour_objects(objects, self.view, camera)
        self.reporter.check()
        self.on_preview(SceneResult(objects, ids[self.order[0]], camera, dict(self.settings)))

    def show_object(self, row: int, draft: ObjectDraft) -> None:
        """Show an object that is finished."""
        if self.on_object is not None:
            place = self.order[row]
            self.on_object(place, draft.finished(self.view.object_ids[place]))
