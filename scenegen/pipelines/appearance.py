"""The appearance stage: structured latents at the voxels of the structure, and what they decode to.

Objects no longer see each other here: the condition of each is its own crop, and each is decoded by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scenegen.checkpoints.networks import Networks
from scenegen.checkpoints.roles import (
    SLAT_FLOW_ROLE,
    SLAT_GAUSSIAN_ROLE,
    SLAT_MESH_ROLE,
    SLAT_RADIANCE_FIELD_ROLE,
)
from scenegen.checkpoints.schema import PipelineConfig, SlatNormalization
from scenegen.conditioning.image_preparation import images_to_tensor
from scenegen.conditioning.scene_conditioner import SceneCond, append_patch_details
from scenegen.conditioning.scene_light import append_light, light_tones
from scenegen.inputs.scene_images import SceneImages
from scenegen.pipelines.drafts import ObjectDraft, latents_problem, usable
from scenegen.pipelines.progress import ProgressReporter
from scenegen.pipelines.result import GeneratedObject, Representation
from scenegen.pipelines.sampling import FlowFunction, occupied_coords, prepare_cond, prepare_neg_cond
from scenegen.pipelines.settings import DECODER_ROLES, ResolvedSettings
from scenegen.pipelines.state import ObjectLatents
from scenegen.pipelines.surface_queue import SurfaceQueue, WorkerPool
from scenegen.pipelines.texturing import TEXTURE_PIECES, TextureSettings, texture_mesh, vertex_coloured_mesh
from trellis_modules.models import SLatFlowModel
from trellis_modules.representations.mesh.mesh_result import MeshExtractResult
from trellis_modules.representations.moving import to_device
from trellis_modules.samplers import FlowEulerSampler, MultiViewCond, SamplingParams
from trellis_modules.samplers.recording import recorded
from trellis_modules.sparse import SparseTensor, sparse_cat

_VOXELS_AT_ONCE = 64_000


@dataclass(frozen=True)
class AppearanceStage:
    """Samples structured latents and decodes them to textured meshes and further representations.

    Attributes:
        config: the checkpoint's description.
        networks: its networks by role.
        device: where they run.
        pool: processes that prepare surfaces.
    """

    config: PipelineConfig
    networks: Networks
    device: torch.device
    pool: WorkerPool = field(default_factory=WorkerPool)

    def sample(
        self,
        drafts: Sequence[ObjectDraft],
        objects: SceneCond,
        generator: torch.Generator,
        settings: ResolvedSettings,
        reporter: ProgressReporter,
    ) -> SparseTensor:
        """Structured latents of the usable drafts, in their order.

        Args:
            drafts: all objects.
            objects: their conditions, see `object_cond`.
            generator: gives the noise, after that of the structure stage.
            settings: of the run.
            reporter: hears of every step.

        Raises:
            ValueError: the structure has another resolution than the latents.
        """
        rows = usable(drafts)
        logits = torch.stack([drafts[row].logits for row in rows])
        with self.networks.use(SLAT_FLOW_ROLE) as flow, reporter.watching(flow):
            if logits.shape[-1] != flow.config.resolution:
                raise ValueError(
                    f"appearance stage: expected structures of {flow.config.resolution}^3 voxels, "
                    f"got {tuple(logits.shape)}; the structure decoder does not fit the latent flow"
                )
            coords = occupied_coords(logits[:, None])
            return sample_structured_latents(
                flow,
                self.config.slat_sampler.build_sampler(),
                select_objects(objects, rows),
                latent_noise(coords, len(rows), flow.config.in_channels, generator, self.device),
                settings.slat_sampling,
                self.config.slat_normalization,
                max_voxels=_VOXELS_AT_ONCE if self.networks.keeps else 1,
                record=self.networks.keeps,
                on_step=partial(reporter.report, "latents"),
            )

    def decode(
        self,
        drafts: Sequence[ObjectDraft],
        latents: SparseTensor,
        settings: ResolvedSettings,
        reporter: ProgressReporter,
        queue: SurfaceQueue | None = None,
    ) -> dict[int, MeshExtractResult]:
        """Decode the usable drafts: Gaussians and radiance fields into the drafts, meshes into the result.

        Args:
            drafts: all objects; those that cannot be decoded get a problem.
            latents: of the usable ones, in their order.
            settings: of the run.
            reporter: hears of every mesh.
            queue: takes every mesh as soon as it is there.

        Returns:
            Row -> mesh, on the CPU, not empty.
        """
        elements = {row: latents[[index]] for index, row in enumerate(usable(drafts))}
        for row, element in elements.items():
            drafts[row].problem = latents_problem(element.feats)
            if drafts[row].latents is not None:
                coords, feats = element.coords[:, 1:].cpu(), element.feats.float().cpu()
                drafts[row].latents = replace(drafts[row].latents, coords=coords, feats=feats)
        if "gaussian" in settings.wanted:
            for row, gaussian in self._decoded(SLAT_GAUSSIAN_ROLE, drafts, elements, reporter).items():
                drafts[row].gaussian = gaussian
        if "radiance_field" in settings.wanted:
            fields = self._decoded(SLAT_RADIANCE_FIELD_ROLE, drafts, elements, reporter)
            for row, radiance_field in fields.items():
                drafts[row].radiance_field = radiance_field
        advance = reporter.counter("meshes", len(usable(drafts)))
        surface = (settings.texture or TextureSettings()).surface

        def on_mesh(row: int, mesh: MeshExtractResult | None) -> None:
            if queue is not None and mesh is not None and mesh.success:
                queue.begin(row, mesh, drafts[row].num_faces)
            advance()

        meshes = self._decoded(SLAT_MESH_ROLE, drafts, elements, reporter, on_mesh, surface=surface)
        for row, mesh in meshes.items():
            if not mesh.success:
                drafts[row].problem = f"{SLAT_MESH_ROLE}: it left no surface"
        return {row: meshes[row] for row in usable(drafts)}

    def decode_again(
        self, items: Sequence[GeneratedObject], wanted: Collection[Representation], reporter: ProgressReporter
    ) -> list[GeneratedObject]:
        """Objects with what they lack of ``wanted``, decoded from the latents that they keep."""
        drafts = [replace(ObjectDraft.of(item), problem=item.problem) for item in items]
        for name in sorted(wanted):
            elements = {
                row: _element(item.latents, self.device)
                for row, item in enumerate(items)
                if getattr(item, name) is None and item.latents is not None and item.latents.feats is not None
            }
            lacking = [drafts[row] for row in elements]
            elements = dict(enumerate(elements.values()))
            for row, made in self._decoded(DECODER_ROLES[name], lacking, elements, reporter).items():
                setattr(lacking[row], name, made)
        found = {name: [getattr(draft, name) for draft in drafts] for name in wanted}
        return [
            replace(
                item,
                **{name: made[row] for name, made in found.items() if getattr(item, name) is None},
            )
            for row, item in enumerate(items)
        ]

    def _decoded(
        self,
        role: str,
        drafts: Sequence[ObjectDraft],
        elements: Mapping[int, SparseTensor],
        reporter: ProgressReporter,
        on_object: Callable[[int, Any], object] | None = None,
        **options: Any,
    ) -> dict[int, Any]:
        """What a decoder, with its options, makes of the usable drafts, by row, on the CPU.

        A refusal becomes a problem. ``on_object`` is called with each row and what it became, or None.
        """
        decoded = {}
        with self.networks.use(role) as decoder, reporter.watching(decoder):
            for row in usable(drafts):
                try:
                    decoded[row] = to_device(decoder(elements[row], **options)[0], "cpu")
                except ValueError as error:  # features that are not finite
                    drafts[row].problem = f"{role}: {error}"
                if on_object is not None:
                    on_object(row, decoded.get(row))
        return decoded

    def texture(
        self,
        drafts: Sequence[ObjectDraft],
        meshes: dict[int, MeshExtractResult],
        settings: ResolvedSettings,
        reporter: ProgressReporter,
        on_object: Callable[[int, ObjectDraft], object],
        queue: SurfaceQueue | None = None,
    ) -> None:
        """Put the textured meshes into the drafts; a mesh that cannot be textured becomes a problem.

        ``on_object`` is called with the row and the draft of every object that has its mesh; ``queue`` has
        taken the meshes in `decode`.
        """
        if settings.texture is None:
            for row, mesh in meshes.items():
                drafts[row].mesh = vertex_coloured_mesh(mesh)
                on_object(row, drafts[row])
            return
        done, total = 0, TEXTURE_PIECES * len(meshes)
        reporter.report("textures", done, total)
        for row, mesh in meshes.items():
            sources = {"gaussian": drafts[row].gaussian, "radiance_field": drafts[row].radiance_field}

            def on_piece(pieces: int, done: int = done) -> None:
                reporter.report("textures", done + pieces, total)

            try:
                surface = None if queue is None else queue.take(row, on_piece)
                if queue is None or surface is not None:
                    drafts[row].mesh = texture_mesh(
                        mesh,
                        sources.get(settings.texture.source),
                        settings.texture,
                        self.device,
                        num_faces=drafts[row].num_faces,
                        watertight=settings.solid,
                        on_piece=on_piece,
                        surface=surface,
                    )
            except ValueError as error:  # what the decoders made is out of range
                drafts[row].problem = f"texturing: {error}"
            if drafts[row].mesh is None and drafts[row].problem is None:
                drafts[row].problem = "texturing: nothing is left of the decoded mesh"
            done += TEXTURE_PIECES
            if drafts[row].mesh is not None:
                on_object(row, drafts[row])
            reporter.report("textures", done, total)


def _element(latents: ObjectLatents, device: torch.device) -> SparseTensor:
    """The appearance latents of one object, which has some, as decoders take them."""
    assert latents.coords is not None and latents.feats is not None
    coords = torch.nn.functional.pad(latents.coords, (1, 0))  # the object's number, 0
    return SparseTensor(latents.feats.to(device), coords.to(device))


def object_cond(scene: SceneCond) -> SceneCond:
    """What a scene's condition shows of each object itself, wherever it lies, as a copy without the rest."""
    length, channels = scene.num_object_tokens, scene.neg_cond.shape[-1] - scene.place_channels

    def own(cond: Tensor) -> Tensor:
        return cond[:, :length, :channels].clone()

    if isinstance(scene.cond, MultiViewCond):
        cond = MultiViewCond(tuple(own(view) for view in scene.cond.views))
    else:
        cond = own(scene.cond)
    return SceneCond(cond, own(scene.neg_cond), length)


def with_colours(objects: SceneCond, views: Sequence[SceneImages], config: PipelineConfig) -> SceneCond:
    """Conditions of objects with what else the checkpoint's appearance flow sees: details, light.

    Args:
        objects: see `object_cond`.
        views: the photos that they were made from, with the objects in the same order.
        config: names what it sees, see `append_patch_details` and `light_tones`.
    """
    tokens = objects.cond.views if isinstance(objects.cond, MultiViewCond) else (objects.cond,)
    joined = tuple(_with_colours(part, view, config) for part, view in zip(tokens, views, strict=True))
    cond = MultiViewCond(joined) if isinstance(objects.cond, MultiViewCond) else joined[0]
    return SceneCond(cond, torch.zeros_like(joined[0]), objects.num_object_tokens)


def _with_colours(tokens: Tensor, view: SceneImages, config: PipelineConfig) -> Tensor:
    size, device = config.image_size, tokens.device
    if config.slat_patch_grid:
        crops = images_to_tensor(view.cutouts, size).to(device)
        tokens = append_patch_details(tokens, crops, config.slat_patch_grid)
    if config.slat_light:
        photo = torch.from_numpy(np.asarray(view.photo.convert("RGB"), dtype=np.float32) / 255)
        masks = torch.from_numpy(np.stack(view.masks))[:, None]
        tokens = append_light(tokens, light_tones(photo.permute(2, 0, 1)[None], masks).to(device))
    return tokens


def select_objects(scene: SceneCond, rows: Sequence[int]) -> SceneCond:
    """The condition of some objects, in the order given."""
    chosen = list(rows)
    if isinstance(scene.cond, MultiViewCond):
        cond = MultiViewCond(tuple(view[chosen] for view in scene.cond.views))
    else:
        cond = scene.cond[chosen]
    return SceneCond(cond, scene.neg_cond[chosen], scene.num_object_tokens)


def latent_noise(
    coords: Tensor, num_objects: int, channels: int, generator: torch.Generator, device: torch.device | str
) -> SparseTensor:
    """Draw the initial state at the voxels ``coords`` (T, 4) on the CPU and move it to ``device``."""
    feats = torch.randn(len(coords), channels, generator=generator)
    return SparseTensor(feats.to(device), coords.to(device), num_objects)


def sample_structured_latents(
    model: SLatFlowModel | FlowFunction,
    sampler: FlowEulerSampler,
    objects: SceneCond,
    noise: SparseTensor,
    params: SamplingParams,
    normalization: SlatNormalization,
    *,
    max_voxels: int | None = None,
    record: bool = False,
    on_step: Callable[[int, int], object] | None = None,
) -> SparseTensor:
    """Sample the structured latents of B objects.

    Args:
        model: a flow model on sparse tensors.
        sampler: the Euler loop.
        objects: conditions of the objects, see `object_cond`.
        noise: (B, C), see `latent_noise`; objects may be empty.
        params: steps, times and guidance.
        normalization: undone on the result.
        max_voxels: objects are sampled in groups of about this many voxels, to bound memory; an object is
            never split. None takes all at once. The noise does not depend on it.
        record: replay passes where that is faster, see `recorded`; for the memory of one more pass.
        on_step: called with (steps done, steps), over all groups, before the first step and after every one.

    Returns:
        (B, C) latents at the voxels of ``noise``.

    Raises:
        ValueError: noise for another number of objects, or a number of channels that the normalisation does
            not have.
    """
    if noise.batch_size != objects.num_assets:
        raise ValueError(
            f"sample_structured_latents: expected noise for {objects.num_assets} objects, "
            f"got {noise.batch_size}"
        )
    groups = _groups(noise.lengths, max_voxels)
    total = params.steps * len(groups)
    if on_step is not None:
        on_step(0, total)
    samples = []
    for index, rows in enumerate(groups):
        chosen, done = select_objects(objects, rows), params.steps * index
        prepare = getattr(model, "precompute_context", None)
        result = sampler.sample(
            recorded(model, noise.device, params.steps) if record else model,
            noise[rows],
            prepare_cond(prepare, chosen),
            prepare_neg_cond(prepare, chosen) if sampler.uses_guidance(params) else None,
            params,
            on_step=None if on_step is None else lambda step, _, done=done: on_step(done + step, total),
            prepare_times=getattr(model, "precompute_times", None),
        )
        samples.append(result.samples)
    return denormalize(sparse_cat(samples), normalization)


def denormalize(latents: SparseTensor, normalization: SlatNormalization) -> SparseTensor:
    """Latents of unit spread to those that the decoders read.

    Raises:
        ValueError: another number of channels.
    """
    channels = latents.shape[1]
    if channels != len(normalization.mean):
        raise ValueError(
            f"slat_normalization: expected {channels} means like the channels of the flow, "
            f"got {len(normalization.mean)}"
        )
    mean, std = (latents.feats.new_tensor(values) for values in (normalization.mean, normalization.std))
    return latents.apply(lambda feats: feats * std + mean)


def _groups(lengths: Sequence[int], max_voxels: int | None) -> list[list[int]]:
    """Neighbouring objects that fit into ``max_voxels`` together, at least one a group."""
    groups: list[list[int]] = [[]]
    voxels = 0
    for row, length in enumerate(lengths):
        if groups[-1] and max_voxels is not None and voxels + length > max_voxels:
            groups.append([])
            voxels = 0
        groups[-1].append(row)
        voxels += length
    return groups
