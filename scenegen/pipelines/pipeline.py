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
from PIL import Image
from torch import Tensor

from scenegen import hub
from scenegen.checkpoints.networks import CheckpointFolder, Networks
from scenegen.checkpoints.roles import SLAT_GAUSSIAN_ROLE, SLAT_RADIANCE_FIELD_ROLE
from scenegen.checkpoints.schema import PipelineConfig
from scenegen.conditioning.image_preparation import RemoveBackground
from scenegen.conditioning.parts import CondParts
from scenegen.conditioning.scene_conditioner import SceneCond
from scenegen.geometry import apply_transform, pose_to_transform
from scenegen.inputs.masks import inverse_order, order_by_area
from scenegen.photo.camera import PhotoView, fit_photo_view
from scenegen.photo.colouring import MIN_OVERLAP, colour_by_height, colour_from_photo
from scenegen.pipelines.appearance import AppearanceStage, object_cond, with_patch_details
from scenegen.pipelines.assembly import row_poses
from scenegen.pipelines.decoding import occupancy_to_mesh
from scenegen.pipelines.drafts import EMPTY, MAX_VOXELS, ObjectDraft, draft_objects, usable
from scenegen.pipelines.memory import StageMeter, repeatable_kernels
from scenegen.pipelines.result import GeneratedObject, SceneResult
from scenegen.pipelines.sampling import PositionsType, StructureSample, noise_generator
from scenegen.pipelines.settings import OnStep, Representation, RunOptions
from scenegen.pipelines.structure import SceneImages, StructureStage
from scenegen.pipelines.texturing import TextureSettings
from trellis_modules.memory import release_memory
from trellis_modules.samplers import SamplingParams
from trellis_modules.samplers.registry import merge_params

logger = logging.getLogger(__name__)

DEFAULT_TEXTURE = TextureSettings()

_DECODERS: Mapping[Representation, str] = {
    "gaussian": SLAT_GAUSSIAN_ROLE,
    "radiance_field": SLAT_RADIANCE_FIELD_ROLE,
}


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
        device: torch.device | str = "cpu",
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
            device: where the networks run.
            dtype: what their large layers compute in; None takes float32 on a CPU and float16 elsewhere.
            revision: of the repository.
            offload: keep no network in memory: each is loaded for its stage and freed after it.
            remove_background: for cut-outs without transparency; None refuses them.

        Raises:
            CheckpointError: a file is missing or damaged, differs from its recorded sha256, or does not fit.
        """
        device = torch.device(device)
        if dtype is None:
            dtype = torch.float32 if device.type == "cpu" else torch.float16
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
        scene_image: Image.Image,
        asset_images: Sequence[Image.Image],
        mask_images: Sequence[np.ndarray],
        *,
        more_views: Sequence[SceneImages] = (),
        object_ids: Sequence[int] | None = None,
        seed: int = 42,
        steps: int | None = None,
        sampling: Mapping[str, Any] | None = None,
        slat_sampling: Mapping[str, Any] | None = None,
        cond_parts: CondParts | None = None,
        scene_attention: bool = True,
        appearance: bool = True,
        positions_type: PositionsType = "last",
        structure: Tensor | None = None,
        max_faces: int | None = 20_000,
        texture: TextureSettings | None = DEFAULT_TEXTURE,
        representations: Collection[Representation] = (),
        on_step: OnStep | None = None,
    ) -> SceneResult:
        """Generate a scene.

        The object with the largest mask is the query, whose frame the poses are in. An object that a stage
        cannot use comes with its ``problem``: without a mesh where its structure is empty or not finite, with
        the plain surface of its structure where its appearance fails. The others are not affected.

        Args:
            scene_image: the photo.
            asset_images: per object, an RGBA cut-out of any size.
            mask_images: per object, (H, W) bool in the photo, not empty.
            more_views: further photos of the scene with the same objects in the same order; sampling steps
                take turns between the photos.
            object_ids: the caller's numbers; default 0, 1, ...
            seed: of all noise.
            steps: Euler steps of the structure stage; None takes the checkpoint's setting.
            sampling: settings of the structure stage that replace the checkpoint's, by the names of
                `SamplingParams`.
            slat_sampling: likewise for the appearance stage.
            cond_parts: which conditions are used; None takes those that the checkpoint was trained with.
            scene_attention: let the assets see each other; without it only for comparisons.
            appearance: without it objects stay the plain surfaces of their structure, in the photo's colours,
                as they are where the checkpoint has no appearance stage; takes less time.
            positions_type: see `sample_structure`.
            structure: (B, R, R, R) occupancy logits in the caller's order that replace those of the structure
                stage, for shapes that are known or edited; poses still come from sampling.
            max_faces: triangles of an object without an appearance stage; None keeps all.
            texture: how meshes of the appearance stage are textured; None leaves them as they are decoded,
                with colours at their many vertices.
            representations: what else the objects are returned as.
            on_step: called with (steps done, steps) after each sampling step; counts anew in each stage.

        Returns:
            The objects in the caller's order.

        Raises:
            ValueError: numbers of images, masks and ids differ or are 0, a mask is empty or of another size
                than its photo, a cut-out has no opaque pixel, a setting is out of range, ``structure`` has
                another shape, or the checkpoint has no decoder for a representation.
            CheckpointError: networks are loaded stage by stage, and a file is damaged.
        """
        views = [SceneImages(scene_image, asset_images, mask_images), *more_views]
        ids = list(range(len(asset_images))) if object_ids is None else list(object_ids)
        _check_counts(views, ids)
        for number, view in enumerate(views):
            _check_masks(view, number)
        _check_structure(structure, len(ids))
        options = RunOptions(
            seed=seed,
            sampling=merge_params(
                self.config.sparse_structure_sampler.params,
                {**(sampling or {}), **({} if steps is None else {"steps": steps})},
                "run",
            ),
            slat_sampling=self._slat_sampling(slat_sampling or {}, appearance),
            cond_parts=cond_parts or self.config.cond_parts,
            scene_attention=scene_attention,
            positions_type=positions_type,
            structure=structure,
            max_faces=max_faces,
            texture=texture and replace(texture, source=texture.source or self.config.default_texture_source),
            representations=frozenset(representations),
            on_step=on_step,
        )
        self._check_decoders(options)
        meter = StageMeter(self.device)
        order = order_by_area([int(mask.sum()) for mask in mask_images])
        with repeatable_kernels(self.device):
            drafts = self._generate(views, order, options, meter)
        restore = inverse_order(order)
        objects = tuple(drafts[row].finished(object_id) for object_id, row in zip(ids, restore, strict=True))
        with meter.stage("colour"):
            photo_view = colour_objects(objects, scene_image, asset_images, mask_images)
        settings = self._provenance() | options.record() | {"views": len(views)}
        return SceneResult(objects, ids[order[0]], photo_view, settings, meter.seconds, meter.peak_bytes)

    def _generate(
        self, views: Sequence[SceneImages], order: Sequence[int], options: RunOptions, meter: StageMeter
    ) -> list[ObjectDraft]:
        """All objects, the query first; plain surfaces have no colours yet."""
        generator = noise_generator(options.seed)
        sample, objects = self._sample_structure(views, order, generator, options, meter)
        with meter.stage("decode"):
            if options.structure is None:
                logits = self._structure.decode(sample.latents)
            else:
                logits = options.structure[list(order)].float().cpu()
        drafts = draft_objects(sample, logits, MAX_VOXELS if objects is not None else None)
        shaped = usable(drafts)
        if objects is not None and shaped:
            self._add_appearance(drafts, objects, generator, options, meter)
        with meter.stage("mesh"):
            add_surfaces([drafts[row] for row in shaped], options.max_faces)
        if sample.positions is None:
            poses = row_poses([_vertices(draft) for draft in drafts])
            for draft, pose in zip(drafts, poses, strict=True):
                draft.pose = pose
        return drafts

    def _sample_structure(
        self,
        views: Sequence[SceneImages],
        order: Sequence[int],
        generator: torch.Generator,
        options: RunOptions,
        meter: StageMeter,
    ) -> tuple[StructureSample, SceneCond | None]:
        """Latents and poses, and what the appearance stage needs of the condition; the rest is freed."""
        with meter.stage("condition"):
            prepared = self._structure.prepare(views, order)
            cond = self._structure.encode(prepared, options.cond_parts)
            objects = object_cond(cond) if options.slat_sampling is not None else None
            if objects is not None and (grid := self.config.slat_patch_grid):
                objects = with_patch_details(objects, prepared, self.config.image_size, grid)
        with meter.stage("sample"):
            sample = self._structure.sample(cond, generator, options)
        return sample, objects

    def _add_appearance(
        self,
        drafts: Sequence[ObjectDraft],
        objects: SceneCond,
        generator: torch.Generator,
        options: RunOptions,
        meter: StageMeter,
    ) -> None:
        release_memory()
        with meter.stage("sample latents"):
            latents = self._appearance.sample(drafts, objects, generator, options)
        with meter.stage("decode latents"):
            meshes = self._appearance.decode(drafts, latents, options)
        del latents
        with meter.stage("texture"):
            self._appearance.texture(drafts, meshes, options)

    def _slat_sampling(self, overrides: Mapping[str, Any], appearance: bool) -> SamplingParams | None:
        if appearance and self.config.has_appearance:
            return merge_params(self.config.slat_sampler.params, overrides, "run: slat_sampling")
        if overrides:
            reason = "the checkpoint has no appearance stage" if appearance else "appearance is False"
            raise ValueError(f"run: slat_sampling was given, but {reason}")
        return None

    def _check_decoders(self, options: RunOptions) -> None:
        if options.wanted and options.slat_sampling is None:
            raise ValueError(f"run: {sorted(options.wanted)} need the appearance stage, which does not run")
        for name in sorted(options.wanted):
            if name not in _DECODERS:
                raise ValueError(f"run: unknown representation {name!r}; known: {sorted(_DECODERS)}")
            if _DECODERS[name] not in self.networks.roles:
                raise ValueError(
                    f"run: {name!r} needs the network {_DECODERS[name]!r}, which the checkpoint lacks; "
                    "leave it out, or take the texture from the mesh"
                )

    def _provenance(self) -> dict[str, Any]:
        """What made the scene, beside the arguments of the run."""
        record: dict[str, Any] = {"torch": torch.__version__}
        if self.source is not None:
            record["checkpoint"] = self.source.path.resolve().name
            record["dtype"] = str(self.source.dtype).removeprefix("torch.")
        return record | {"device": self.device.type, "offload": not self.networks.keeps}


def add_surfaces(drafts: Sequence[ObjectDraft], max_faces: int | None) -> None:
    """Give drafts without a mesh the surface of their structure; it has no colours."""
    for draft in drafts:
        if draft.mesh is not None:
            continue
        draft.mesh = occupancy_to_mesh(draft.logits.numpy(), max_faces)
        if draft.problem is not None:
            logger.warning("%s; the object gets the surface of its structure", draft.problem)
        elif draft.mesh is None:
            draft.problem = EMPTY


def colour_objects(
    objects: Sequence[GeneratedObject],
    photo: Image.Image,
    cutouts: Sequence[Image.Image],
    masks: Sequence[np.ndarray],
) -> PhotoView | None:
    """Colour the meshes that have no colours yet, in place, from the photo.

    Returns:
        The fitted camera of the photo, or None where no camera explains the masks.
    """
    shown = [index for index, item in enumerate(objects) if item.mesh is not None]
    if not shown:
        return None
    transforms = {index: pose_to_transform(objects[index].pose.double()).numpy() for index in shown}
    clouds = [apply_transform(transforms[index], objects[index].mesh.vertices) for index in shown]
    view = fit_photo_view(clouds, [masks[index] for index in shown])
    is_believed = view.overlap >= MIN_OVERLAP
    pixels = np.asarray(photo.convert("RGB"))
    for index in shown:
        mesh = objects[index].mesh
        if mesh.visual.defined:
            continue
        if not (is_believed and colour_from_photo(mesh, transforms[index], view, pixels, masks[index])):
            colour_by_height(mesh, cutouts[index])
    return view if is_believed else None


def _vertices(draft: ObjectDraft) -> np.ndarray:
    return np.zeros((0, 3)) if draft.mesh is None else draft.mesh.vertices


def _check_counts(views: Sequence[SceneImages], ids: Sequence[int]) -> None:
    count = len(views[0].cutouts)
    if not count or not count == len(views[0].masks) == len(ids):
        raise ValueError(
            "run: expected asset images and as many masks and ids, "
            f"got {count} images, {len(views[0].masks)} masks, {len(ids)} ids"
        )
    if len(set(ids)) != len(ids):
        raise ValueError(f"run: expected different object ids, got {list(ids)}")
    for number, view in enumerate(views[1:], start=1):
        if not len(view.cutouts) == len(view.masks) == count:
            raise ValueError(
                f"run: expected the {count} objects of the photo in view {number} too, "
                f"got {len(view.cutouts)} images and {len(view.masks)} masks"
            )


def _check_masks(view: SceneImages, number: int) -> None:
    shape = (view.photo.height, view.photo.width)
    for index, mask in enumerate(view.masks):
        if np.shape(mask) != shape or not np.any(mask):
            raise ValueError(
                f"run: expected masks of {shape} like photo {number}, with pixels above 0, got shape "
                f"{np.shape(mask)} with {np.count_nonzero(mask)} such pixels for object {index}"
            )


def _check_structure(structure: Tensor | None, count: int) -> None:
    if structure is None:
        return
    if structure.ndim != 4 or len(structure) != count or len(set(structure.shape[1:])) != 1:
        raise ValueError(
            f"run: structure: expected ({count}, R, R, R) occupancy logits, got {tuple(structure.shape)}"
        )
