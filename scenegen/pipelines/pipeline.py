"""Photo and masks to a 3D scene: the stages one after the other."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from scenegen import hub
from scenegen.checkpoints.networks import CheckpointFolder, Networks
from scenegen.checkpoints.roles import SLAT_RADIANCE_FIELD_ROLE
from scenegen.checkpoints.schema import PipelineConfig
from scenegen.conditioning.image_preparation import RemoveBackground
from scenegen.conditioning.scene_conditioner import SceneCond
from scenegen.inputs.masks import inverse_order, order_objects
from scenegen.inputs.scene_images import SceneImages
from scenegen.pipelines.appearance import AppearanceStage, object_cond, with_patch_details
from scenegen.pipelines.arguments import check_structure, check_views, refuse_old_call
from scenegen.pipelines.drafts import MAX_VOXELS, ObjectDraft, draft_objects, usable
from scenegen.pipelines.face_budget import share_faces
from scenegen.pipelines.hole_closing import close_contradicted_holes, close_tears
from scenegen.pipelines.memory import StageMeter, repeatable_kernels
from scenegen.pipelines.preview import OnObject, OnPreview, PartialResults
from scenegen.pipelines.progress import OnProgress, ProgressReporter, ShouldStop
from scenegen.pipelines.result import SceneResult, with_overlaps
from scenegen.pipelines.sampling import StructureSample, noise_generator
from scenegen.pipelines.settings import ResolvedSettings, RunSettings
from scenegen.pipelines.structure import StructureStage
from scenegen.pipelines.surface_queue import SurfaceQueue
from scenegen.pipelines.surfaces import add_surfaces, colour_objects, place_in_row
from trellis_modules.devices import best_device, default_dtype, is_slow
from trellis_modules.memory import release_memory

logger = logging.getLogger(__name__)


class SceneGenPipeline:
    """Structures and poses from the photo; then textured meshes, or surfaces in the photo's colours.

    Attributes:
        config: the checkpoint's description.
        networks: its networks by role.
        device: where they run.
        source: the folder it was loaded from, if any.
    """

    def __init__(
        self,
        config: PipelineConfig,
        networks: Networks,
        device: torch.device | str = "cpu",
        *,
        source: CheckpointFolder | None = None,
        remove_background: RemoveBackground | None = None,
    ) -> None:
        """Take the networks, all of which run on one device.

        Args:
            config: default settings.
            networks: by the roles of ``config``.
            device: where they run.
            source: the folder they are from, if any.
            remove_background: for cut-outs without transparency; None refuses them.
        """
        self.config = config
        self.networks = networks
        self.device = torch.device(device)
        self.source = source
        self._structure = StructureStage(config, networks, self.device, remove_background)
        self._appearance = AppearanceStage(config, networks, self.device)

    @classmethod
    def from_pretrained(
        cls,
        path_or_repo: Path | str,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        revision: str | None = None,
        offload: bool = False,
        remove_background: RemoveBackground | None = None,
    ) -> SceneGenPipeline:
        """Load a checkpoint: ours, the published SceneGen layout, or that of TRELLIS.

        Args:
            path_or_repo: folder with ``pipeline.json`` (then the network is never touched), or the name of a
                repository on the model hub.
            device: where the networks run; None takes an NVIDIA GPU, else Apple's, else the CPU.
            dtype: what their large layers compute in; None takes float32 on a CPU and float16 elsewhere.
            revision: of the repository.
            offload: keep no network in memory: each is loaded for its stage and freed after it.
            remove_background: for cut-outs without transparency; None refuses them.

        Raises:
            CheckpointError: a file is missing or damaged, differs from its recorded sha256, or does not fit.
        """
        device = best_device() if device is None else torch.device(device)
        dtype = default_dtype(device) if dtype is None else dtype
        if is_slow(device, dtype):
            logger.warning(
                "%s takes several times as long as float32 on this CPU, which has no units for it", dtype
            )
        folder = hub.resolve_checkpoint(path_or_repo, revision)
        is_local = Path(path_or_repo).expanduser() == folder
        source = CheckpointFolder(folder, PipelineConfig.load(folder), device, dtype, from_hub=not is_local)
        networks = source.networks(keep=not offload, optional=(SLAT_RADIANCE_FIELD_ROLE,))
        networks.load(networks.roles - {SLAT_RADIANCE_FIELD_ROLE})
        return cls(source.config, networks, device, source=source, remove_background=remove_background)

    def save_pretrained(self, folder: Path | str) -> Path:
        """Write a checkpoint folder that `from_pretrained` loads as the same pipeline.

        All networks are in memory at once, also with ``offload``.

        Returns:
            The folder.

        Raises:
            CheckpointError: a network does not know its configuration, or its file is damaged.
        """
        with ExitStack() as stack:
            networks = {role: stack.enter_context(self.networks.use(role)) for role in self.networks.roles}
            return hub.save_pretrained(self.config.to_named(), networks, folder)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload the checkpoint to a repository ``owner/name`` of the model hub.

        Args:
            repo_id: made where it is missing.
            options: see `scenegen.hub.push_to_hub`.

        Returns:
            URL of the commit.

        Raises:
            CheckpointError: see `save_pretrained`; or the hub refuses.
        """
        with tempfile.TemporaryDirectory() as folder:
            return hub.push_to_hub(self.save_pretrained(folder), repo_id, **options)

    @torch.no_grad()
    def run(
        self,
        views: Sequence[SceneImages],
        settings: RunSettings | None = None,
        *old_arguments: Any,
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
        on_preview: OnPreview | None = None,
        on_object: OnObject | None = None,
        **old_options: Any,
    ) -> SceneResult:
        """Generate a scene.

        The poses are in the frame of the query, that is the object with the largest mask where ``settings``
        name no other. An object that a stage cannot use comes with its ``problem``: without a mesh where its
        structure is empty or not finite, with the plain surface of its structure where its appearance fails.

        Args:
            views: photos of the scene, each with the same objects in the same order; sampling steps take
                turns between them. Masks, colours and object ids are those of the first.
            settings: how the scene is made; None takes the checkpoint's.
            old_arguments, old_options: refused; the form of earlier versions had them.
            on_progress: called as each stage goes on, see `Progress`.
            should_stop: asked between sampling steps, objects and pieces of the texture.
            on_preview: called with plain surfaces when the structures are known, see `OnPreview`.
            on_object: called with each textured object, see `OnObject`.

        Returns:
            The objects in the caller's order; the same whichever functions are given.

        Raises:
            TypeError: called in the form of earlier versions; the message shows this one.
            ValueError: numbers of images, masks and ids differ or are 0, a mask is empty or of another size
                than its photo, a cut-out has no opaque pixel, a setting is out of range, the structure has
                another shape, or the checkpoint has no decoder for a representation.
            CheckpointError: networks are loaded stage by stage, and a file is damaged.
            Cancelled: ``should_stop`` said so.
        """
        refuse_old_call(views, settings, old_arguments, old_options)
        settings = settings or RunSettings()
        check_views(views)
        check_structure(settings.structure, len(views[0].cutouts))
        resolved = settings.resolve(self.config, self.networks.roles)
        reporter = ProgressReporter(on_progress, should_stop)
        meter = StageMeter(self.device)
        main = views[0]
        order = order_objects([int(mask.sum()) for mask in main.masks], resolved.order, resolved.query)
        record = self._provenance() | resolved.record() | {"views": len(views)}
        shown = PartialResults(main, order, record, reporter, on_preview, on_object)
        with repeatable_kernels(self.device):
            drafts = self._generate(views, resolved, meter, shown)
        places = zip(main.object_ids, inverse_order(order), strict=True)
        objects = tuple(drafts[row].finished(object_id) for object_id, row in places)
        reporter.check()
        with meter.stage("colour"):
            camera = colour_objects(objects, main)
            made = SceneResult(objects, main.object_ids[order[0]], camera, record)
            result = with_overlaps(made, main.masks)
        return replace(result, timings=meter.seconds, peak_bytes=meter.peak_bytes)

    def _generate(
        self,
        views: Sequence[SceneImages],
        settings: ResolvedSettings,
        meter: StageMeter,
        shown: PartialResults,
    ) -> list[ObjectDraft]:
        """All objects, the query first; plain surfaces have no colours yet."""
        order, reporter = shown.order, shown.reporter
        if settings.slat_sampling is not None:
            self._appearance.pool.ready(
                settings.texture, len(order)
            )  # they start while structures are sampled
        generator = noise_generator(settings.seed)
        sample, objects = self._sample_structure(views, order, generator, settings, meter, reporter)
        with meter.stage("decode"):
            if settings.structure is None:
                logits = self._structure.decode(sample.latents, reporter)
            else:
                logits = settings.structure[list(order)].float().cpu()
        drafts = draft_objects(sample, logits, MAX_VOXELS if objects is not None else None)
        shaped = usable(drafts)
        if settings.close_holes:
            with meter.stage("holes"):
                close_tears(drafts, reporter.check)
                close_contradicted_holes(drafts, [views[0].masks[row] for row in order], reporter.check)
        share_faces([drafts[row] for row in shaped], settings.faces, settings.scene_faces)
        if objects is not None and shaped:
            if shown.on_preview is not None:
                with meter.stage("preview"):
                    shown.show_surfaces(drafts, has_poses=sample.positions is not None)
            self._add_appearance(drafts, objects, generator, settings, meter, shown)
        with meter.stage("mesh"):
            add_surfaces([drafts[row] for row in shaped], settings, reporter)
        if sample.positions is None:
            place_in_row(drafts)
        return drafts

    def _sample_structure(
        self,
        views: Sequence[SceneImages],
        order: Sequence[int],
        generator: torch.Generator,
        settings: ResolvedSettings,
        meter: StageMeter,
        reporter: ProgressReporter,
    ) -> tuple[StructureSample, SceneCond | None]:
        """Latents and poses, and what the appearance stage needs of the condition; the rest is freed."""
        with meter.stage("condition"):
            prepared = self._structure.prepare(views, order)
            cond = self._structure.encode(prepared, settings.cond_parts, reporter)
            objects = object_cond(cond) if settings.slat_sampling is not None else None
            if objects is not None and (grid := self.config.slat_patch_grid):
                objects = with_patch_details(objects, prepared, self.config.image_size, grid)
        with meter.stage("sample"):
            sample = self._structure.sample(cond, generator, settings, reporter)
        return sample, objects

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
            latents = self._appearance.sample(drafts, objects, generator, settings, reporter)
        workers = self._appearance.pool.ready(settings.texture, len(usable(drafts)))
        queue = None
        if settings.texture is not None and settings.texture.surface == "solid":
            queue = SurfaceQueue(workers, settings.texture, settings.solid, reporter.check)
        try:
            with meter.stage("decode latents"):
                meshes = self._appearance.decode(drafts, latents, settings, reporter, queue)
            del latents
            with meter.stage("texture"):
                self._appearance.texture(drafts, meshes, settings, reporter, shown.show_object, queue)
        finally:
            if queue is not None:
                queue.cancel()

    def _provenance(self) -> dict[str, Any]:
        """What made the scene, beside the arguments of the run."""
        record: dict[str, Any] = {"torch": torch.__version__, "threads": torch.get_num_threads()}
        if self.source is not None:
            record["checkpoint"] = self.source.path.resolve().name
            record["dtype"] = str(self.source.dtype).removeprefix("torch.")
        return record | {"device": self.device.type, "offload": not self.networks.keeps}
