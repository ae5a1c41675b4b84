"""Photo and masks to a 3D scene: the stages one after the other."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from torch import Tensor

from scenegen import hub
from scenegen.checkpoints.networks import CheckpointFolder, Networks
from scenegen.checkpoints.roles import FLOW_ROLES, SLAT_RADIANCE_FIELD_ROLE
from scenegen.checkpoints.schema import PipelineConfig
from scenegen.conditioning.image_preparation import RemoveBackground
from scenegen.geometry import average_poses
from scenegen.inputs.masks import inverse_order, order_objects
from scenegen.inputs.scene_images import SceneImages
from scenegen.pipelines.appearance import AppearanceStage
from scenegen.pipelines.arguments import check_structure, check_views, refuse_old_call
from scenegen.pipelines.candidates import Candidate
from scenegen.pipelines.memory import StageMeter, repeatable_kernels
from scenegen.pipelines.own_mesh import fitted_object
from scenegen.pipelines.preview import OnObject, OnPreview, PartialResults
from scenegen.pipelines.progress import OnProgress, ProgressReporter, ShouldStop
from scenegen.pipelines.reroll import plan_reroll, with_edit, with_new_overlaps
from scenegen.pipelines.result import Representation, SceneResult, with_overlaps
from scenegen.pipelines.sampling import POSE_TIMES, noise_generator
from scenegen.pipelines.settings import RunSettings
from scenegen.pipelines.stages import GeneratedDrafts, SceneStages
from scenegen.pipelines.state import SceneState
from scenegen.pipelines.structure import StructureStage
from scenegen.pipelines.surfaces import colour_by_camera, colour_objects
from trellis_modules.checkpoint import CheckpointError
from trellis_modules.devices import best_device, default_dtype, is_slow

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
        self._stages = SceneStages(
            config,
            StructureStage(config, networks, self.device, remove_background),
            AppearanceStage(config, networks, self.device),
        )
        self._digests: dict[bool, str] = {}

    @classmethod
    def from_pretrained(
        cls,
        path_or_repo: Path | str,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        revision: str | None = None,
        offload: bool = False,
        few_steps: bool = False,
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
            few_steps: of the flows of structures, load that of few steps now; a run loads the one that its
                settings ask for, in place of the other.
            remove_background: for cut-outs without transparency; None refuses them.

        Raises:
            CheckpointError: a file is missing or damaged, differs from its recorded sha256, or does not fit;
                or there is no flow of few steps.
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
        try:
            flow = source.config.structure_flow(few_steps).role
        except ValueError as error:
            raise CheckpointError(f"{path_or_repo}: {error}") from error
        networks.load(networks.roles - {SLAT_RADIANCE_FIELD_ROLE, *FLOW_ROLES} | {flow})
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
        main, meter = views[0], StageMeter(self.device)
        reporter = ProgressReporter(on_progress, should_stop)
        order = order_objects([int(mask.sum()) for mask in main.masks], resolved.order, resolved.query)
        record = self._provenance() | resolved.record() | {"views": len(views)}
        shown = PartialResults(main, order, record, reporter, on_preview, on_object)
        with repeatable_kernels(self.device):
            made = self._stages.generate(views, resolved, meter, shown)
        numbers = tuple(main.object_ids[row] for row in order)
        reporter.check()
        with meter.stage("colour"):
            result = _coloured(made, main, order)
        return replace(
            result,
            settings=made.record(record, resolved, numbers),
            state=SceneState(tuple(views), numbers, settings, self._digest(settings), resolved.seeds[-1]),
            **meter.measured,
        )

    @torch.no_grad()
    def sample_candidates(
        self, views: Sequence[SceneImages], settings: RunSettings
    ) -> tuple[list[Candidate], list[int]]:
        """Samples of the structures of a scene with what speaks for each, of which `run` takes the best.

        Args:
            views: see `run`.
            settings: with at least two candidates.

        Returns:
            The candidates, and the numbers of the objects in their order, the query first.

        Raises:
            ValueError, CheckpointError: see `run`.
        """
        check_views(views)
        resolved = settings.resolve(self.config, self.networks.roles)
        main = views[0]
        order = order_objects([int(mask.sum()) for mask in main.masks], resolved.order, resolved.query)
        shown = PartialResults(main, order, {}, ProgressReporter())
        with repeatable_kernels(self.device):
            candidates, _ = self._stages.candidates(views, resolved, StageMeter(self.device), shown)
        return candidates, [main.object_ids[row] for row in order]

    @torch.no_grad()
    def reroll(
        self,
        result: SceneResult,
        objects: Collection[int] = (),
        settings: RunSettings | None = None,
        *,
        masks: Mapping[int, np.ndarray] | None = None,
        lock_pose: bool = False,
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
        on_object: OnObject | None = None,
    ) -> SceneResult:
        """Make some objects of a scene anew; all others stay as they are, to the last bit.

        The networks see the other objects while they make the new ones: their latents are held where they
        pass on the way from noise to what they are. The frame of the scene and its camera stay.

        Args:
            result: of `run` or of this function, or read from a folder that has the scene's state.
            objects: numbers of the objects.
            settings: how they are made; None takes those of the scene with the next seed.
            masks: number of an object -> (H, W), above 0 on the object, in place of its own mask; of a number
                that the scene lacks, an object that is added. These objects are made, too.
            lock_pose: objects that were there keep their places, and get other shapes and textures.
            on_progress, should_stop, on_object: see `run`.

        Raises:
            EditError: see `plan_reroll`, or the settings give structures.
            ValueError, CheckpointError, Cancelled: see `run`.
        """
        taken = {number: np.asarray(mask) > 0 for number, mask in (masks or {}).items()}
        known = plan_reroll(result, objects, self._digest_for(result), masks=taken, lock_pose=lock_pose)
        settings = settings or known.next_settings()
        resolved = replace(settings, structure=None, query=None).resolve(self.config, self.networks.roles)
        reporter, meter = ProgressReporter(on_progress, should_stop), StageMeter(self.device)
        views, order = known.state.views, known.order
        record = self._provenance() | resolved.record() | {"views": len(views)}
        shown = PartialResults(views[0], order, record, reporter, None, on_object)
        with repeatable_kernels(self.device):
            generated = self._stages.generate(views, resolved, meter, shown, known)
        items = generated.finished(known.state.order)
        made = {known.state.order[row]: items[row] for row in known.rows}
        reporter.check()
        with meter.stage("colour"):
            colour_by_camera(list(made.values()), views[0], result.camera)
            known = replace(known, state=replace(known.state, seed=resolved.seeds[-1]))
            finished = known.finished(made, generated.record(record, resolved, known.state.order))
            finished = with_new_overlaps(with_edit(finished, "reroll", made, seed=resolved.seed))
        return replace(finished, **meter.measured)

    @torch.no_grad()
    def place_mesh(
        self,
        result: SceneResult,
        object_id: int,
        mesh: trimesh.Trimesh,
        *,
        lock_pose: bool = False,
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> SceneResult:
        """Put a mesh of one's own in the place of an object, turned and placed as the photo shows it.

        Args:
            result, lock_pose, on_progress, should_stop: see `reroll`.
            object_id: the object.
            mesh: y up, box centred with longest side 1, as `scenegen.inputs.mesh_files.read_mesh` reads it.

        Raises:
            EditError: see `plan_reroll`.
            CheckpointError: there is no structure encoder beside the networks.
            Cancelled: ``should_stop`` said so.
        """
        known = plan_reroll(result, [object_id], self._digest_for(result), lock_pose=lock_pose)
        settings = replace(known.state.settings, structure=None).resolve(self.config, self.networks.roles)
        reporter, meter = ProgressReporter(on_progress, should_stop), StageMeter(self.device)
        if self.source is None:
            raise CheckpointError("place_mesh: expected a pipeline from a folder, which has the encoder")
        encode = self.source.load_structure_encoder()
        with repeatable_kernels(self.device), meter.stage("condition"):
            prepared = self._stages.structure.prepare(known.state.views, known.order)
            cond = self._stages.structure.encode(prepared, settings.cond_parts, reporter)

        def poses_of(latents: Tensor) -> Tensor:
            generator = noise_generator(settings.seed)
            told = self._stages.structure.told_poses(cond, latents, POSE_TIMES, generator, settings, reporter)
            return average_poses(told)

        with repeatable_kernels(self.device), meter.stage("place"):
            item = fitted_object(known, mesh, lambda each: encode(each.to(self.device)), poses_of)
            colour_by_camera([item], known.state.views[0], result.camera)
        finished = with_edit(known.finished({object_id: item}, self._provenance()), "use-mesh", [object_id])
        finished = with_new_overlaps(finished)
        return replace(finished, **meter.measured)

    @torch.no_grad()
    def with_representations(self, result: SceneResult, wanted: Collection[Representation]) -> SceneResult:
        """A scene that was read from its state, with what its objects lack decoded from their latents.

        Raises:
            CheckpointError: a network cannot be loaded.
        """
        with repeatable_kernels(self.device):
            items = self._stages.appearance.decode_again(result.objects, wanted, ProgressReporter())
        return replace(result, objects=tuple(items))

    def _digest(self, settings: RunSettings) -> str:
        """What tells the networks of a run from others; empty for networks that came from no folder."""
        if self.source is None:
            return ""
        if settings.few_steps not in self._digests:
            self._digests[settings.few_steps] = self.source.networks_digest(settings.few_steps)
        return self._digests[settings.few_steps]

    def _digest_for(self, result: SceneResult) -> str:
        """The digest of the networks at hand that would have made a scene."""
        return self._digest(RunSettings() if result.state is None else result.state.settings)

    def _provenance(self) -> dict[str, Any]:
        """What made the scene, beside the arguments of the run."""
        record: dict[str, Any] = {"torch": torch.__version__, "threads": torch.get_num_threads()}
        if self.source is not None:
            record["checkpoint"] = self.source.path.resolve().name
            record["dtype"] = str(self.source.dtype).removeprefix("torch.")
        return record | {"device": self.device.type, "offload": not self.networks.keeps}


def _coloured(made: GeneratedDrafts, view: SceneImages, order: Sequence[int]) -> SceneResult:
    """The objects that the stages made as a scene, in the photo's colours where they have no own.

    Args:
        made: in the networks' order.
        view: the photo.
        order: for each row of the drafts, its place among the photo's objects.
    """
    items = made.finished([view.object_ids[row] for row in order])
    objects = tuple(items[row] for row in inverse_order(order))
    camera = colour_objects(objects, view, made.camera)
    query = view.object_ids[order[0]]
    scene = SceneResult(objects, query, camera, camera_confidence=made.camera_confidence)
    return with_overlaps(scene, view.masks)
