"""The stages of a scene one after the other: from photos to drafts of its objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from scenegen.checkpoints.schema import PipelineConfig
from scenegen.conditioning.scene_conditioner import SceneCond
from scenegen.confidence.calibration import SceneConfidence
from scenegen.inputs.scene_images import SceneImages
from scenegen.photo.camera import PhotoCamera
from scenegen.photo.colouring import MIN_OVERLAP
from scenegen.pipelines.appearance import AppearanceStage, object_cond, with_colours
from scenegen.pipelines.candidates import Candidate, best_of, judged
from scenegen.pipelines.drafts import MAX_VOXELS, ObjectDraft, draft_objects, usable
from scenegen.pipelines.face_budget import share_faces
from scenegen.pipelines.hole_closing import close_contradicted_holes, close_holes_seen_by, close_tears
from scenegen.pipelines.memory import StageMeter
from scenegen.pipelines.preview import PartialResults
from scenegen.pipelines.progress import ProgressReporter
from scenegen.pipelines.reroll import KnownScene
from scenegen.pipelines.result import GeneratedObject
from scenegen.pipelines.sampling import PATH_STEPS, POSE_TIMES, noise_generator
from scenegen.pipelines.settings import ResolvedSettings
from scenegen.pipelines.structure import StructureStage
from scenegen.pipelines.surface_queue import SurfaceQueue
from scenegen.pipelines.surfaces import add_surfaces, place_in_row
from trellis_modules.memory import release_memory


@dataclass(frozen=True)
class GeneratedDrafts:
    """What the stages made.

    Attributes:
        drafts: all objects, the query first.
        seeds: of the sample that each object is of.
        confidence: of its objects, in their order; None where the checkpoint has no calibration.
        camera: of the photo, where it had to be fitted on the way; it may explain the masks badly.
    """

    drafts: list[ObjectDraft]
    seeds: tuple[int, ...]
    confidence: SceneConfidence | None
    camera: PhotoCamera | None = None

    @property
    def camera_confidence(self) -> float | None:
        """The chance that the camera looks from the right direction."""
        return None if self.confidence is None else self.confidence.camera

    def finished(self, numbers: Sequence[int]) -> list[GeneratedObject]:
        """The objects with their numbers, which are in the order of the drafts."""
        items = [draft.finished(number) for draft, number in zip(self.drafts, numbers, strict=True)]
        if self.confidence is None:
            return items
        chances = self.confidence.objects
        return [replace(item, confidence=each) for item, each in zip(items, chances, strict=True)]

    def record(
        self, record: dict[str, Any], settings: ResolvedSettings, numbers: Sequence[int]
    ) -> dict[str, Any]:
        """What made the scene, with the seed that was chosen for each object."""
        if len(settings.seeds) == 1:
            return record
        chosen = dict(zip(map(str, numbers), self.seeds, strict=True))
        return record | {"candidates": len(settings.seeds), "chosen_seeds": chosen}


@dataclass(frozen=True)
class SceneStages:
    """All stages with their networks.

    Attributes:
        config: the checkpoint's description.
        structure, appearance: the two stages that sample.
    """

    config: PipelineConfig
    structure: StructureStage
    appearance: AppearanceStage

    def generate(
        self,
        views: Sequence[SceneImages],
        settings: ResolvedSettings,
        meter: StageMeter,
        shown: PartialResults,
        known: KnownScene | None = None,
    ) -> GeneratedDrafts:
        """Make all objects of a scene, or some of one that is known.

        Args:
            views: the photos.
            settings: of the run.
            meter: measures each stage.
            shown: the order of the objects, and what is told meanwhile.
            known: the scene that stays but for the objects that are made.

        Returns:
            All objects; plain surfaces have no colours yet.
        """
        order, reporter = shown.order, shown.reporter
        if settings.slat_sampling is not None:  # they start while structures are sampled
            self.appearance.pool.ready(settings.texture, len(order) if known is None else len(known.rows))
        masks = [views[0].masks[row] for row in order]
        candidates, objects = self.candidates(views, settings, meter, shown, known)
        chosen = best_of(candidates, range(len(order)) if known is None else known.rows)
        drafts, generator = chosen.drafts, candidates[0].generator
        shaped, is_placed, camera = usable(drafts), candidates[0].is_placed, chosen.camera
        if settings.close_holes:
            with meter.stage("holes"):
                camera = self._close_holes(drafts, masks, camera, known, reporter)
        share_faces([drafts[row] for row in shaped], settings.faces, settings.scene_faces)
        camera = camera if is_placed else None
        if objects is not None and shaped:
            if shown.on_preview is not None:
                with meter.stage("preview"):
                    shown.show_surfaces(drafts, is_placed, camera)
            self._add_appearance(drafts, objects, generator, settings, meter, shown)
        with meter.stage("mesh"):
            add_surfaces([drafts[row] for row in shaped], settings, reporter)
        if not is_placed:
            place_in_row(drafts)
        return GeneratedDrafts(drafts, chosen.seeds, chosen.confidence, camera)

    def candidates(
        self,
        views: Sequence[SceneImages],
        settings: ResolvedSettings,
        meter: StageMeter,
        shown: PartialResults,
        known: KnownScene | None = None,
    ) -> tuple[list[Candidate], SceneCond | None]:
        """Samples of the structures, judged where there is something to choose or to tell.

        Returns:
            One candidate for each of ``settings.seeds``, and the conditions of the appearance stage, if it
            runs. Tears are closed.
        """
        order, reporter, count = shown.order, shown.reporter, len(settings.seeds)
        with meter.stage("condition"):
            cond, objects = self._conditions(views, order, settings, reporter)
        generators = [noise_generator(seed) for seed in settings.seeds]
        held = None if known is None else known.held()
        calibration = self.config.structure_flow(settings.few_steps).confidence
        with meter.stage("sample"):
            is_judged = self.config.has_scene and (count > 1 or calibration is not None)
            steps = PATH_STEPS if is_judged else 0
            sample = self.structure.sample(cond, generators, settings, reporter, held, steps)
            told = None
            if is_judged:
                probe = noise_generator(settings.seed)
                told = self.structure.told_poses(cond, sample.latents, POSE_TIMES, probe, settings, reporter)
        rows = list(range(len(order))) if known is None else known.rows
        made = [number * len(order) + row for number in range(count) for row in rows]
        with meter.stage("decode"):
            if settings.structure is None:
                logits = self.structure.decode(sample.latents[made], reporter)
            else:
                logits = settings.structure[list(order)].float().cpu().repeat(count, 1, 1, 1)
        max_voxels = MAX_VOXELS if objects is not None else None
        found = []
        for number, (generator, shapes) in enumerate(zip(generators, logits.chunk(count), strict=True)):
            part = slice(number * len(order), (number + 1) * len(order))
            own, own_told = sample.of(part), None if told is None else told[:, part]
            if known is None:
                drafts, path = draft_objects(own, shapes, max_voxels), own.path
            else:
                drafts = known.joined(draft_objects(known.placed(own.of(rows)), shapes, max_voxels))
                path, own_told = (known.told_in_frame(poses) for poses in (own.path, own_told))
            if settings.close_holes:
                close_tears(drafts, reporter.check)
            is_placed = own.positions is not None
            found.append(Candidate(drafts, generator, settings.seeds[number], is_placed, path, own_told))
        if told is not None:
            with meter.stage("judge"):
                camera = None if known is None else known.result.camera
                masks = [views[0].masks[row] for row in order]
                found = judged(found, masks, calibration, camera)
        return found, objects

    def _conditions(
        self,
        views: Sequence[SceneImages],
        order: Sequence[int],
        settings: ResolvedSettings,
        reporter: ProgressReporter,
    ) -> tuple[SceneCond, SceneCond | None]:
        """The conditions of the structure stage and, if it runs, of the appearance stage."""
        prepared = self.structure.prepare(views, order)
        cond = self.structure.encode(prepared, settings.cond_parts, reporter)
        objects = object_cond(cond) if settings.slat_sampling is not None else None
        if objects is not None:
            objects = with_colours(objects, prepared, self.config)
        return cond, objects

    def _close_holes(
        self,
        drafts: Sequence[ObjectDraft],
        masks: Sequence[np.ndarray],
        camera: PhotoCamera | None,
        known: KnownScene | None,
        reporter: ProgressReporter,
    ) -> PhotoCamera | None:
        """Close holes that the photo contradicts.

        Args:
            drafts, masks: in the networks' order.
            camera: as a judge fitted it; None where none did.
            known: the scene whose camera counts more.
            reporter: asked before each object.

        Returns:
            The camera, which is fitted here where none was known.
        """
        if known is not None:
            camera = known.result.camera
        if camera is not None and (camera.modal_overlap or 0.0) >= MIN_OVERLAP:
            close_holes_seen_by(camera, drafts, masks, reporter.check)
        elif camera is None and known is None:
            return close_contradicted_holes(drafts, masks, reporter.check)
        return camera

    def _add_appearance(
        self,
        drafts: Sequence[ObjectDraft],
        objects: SceneCond,
        generator: torch.Generator,
        settings: ResolvedSettings,
        meter: StageMeter,
        shown: PartialResults,
    ) -> None:
        release_memory()
        reporter = shown.reporter
        with meter.stage("sample latents"):
            latents = self.appearance.sample(drafts, objects, generator, settings, reporter)
        workers = self.appearance.pool.ready(settings.texture, len(usable(drafts)))
        queue = None
        if settings.texture is not None and settings.texture.surface == "solid":
            device = self.appearance.device
            queue = SurfaceQueue(workers, settings.texture, settings.solid, reporter.check, device)
        try:
            with meter.stage("decode latents"):
                meshes = self.appearance.decode(drafts, latents, settings, reporter, queue)
            del latents
            with meter.stage("texture"):
                self.appearance.texture(drafts, meshes, settings, reporter, shown.show_object, queue)
        finally:
            if queue is not None:
                queue.cancel()
