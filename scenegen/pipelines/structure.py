"""The structure stage: what the objects look like in the photos, their coarse shapes and their poses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from scenegen.checkpoints.networks import Networks
from scenegen.checkpoints.roles import DECODER_ROLE, FLOW_ROLES, GEOMETRY_ENCODER_ROLE, IMAGE_ENCODER_ROLE
from scenegen.checkpoints.schema import PipelineConfig
from scenegen.conditioning.image_preparation import RemoveBackground, prepare_asset_image
from scenegen.conditioning.parts import CondParts
from scenegen.conditioning.scene_conditioner import SceneCond, SceneConditioner
from scenegen.inputs.scene_images import SceneImages
from scenegen.pipelines.memory import check_candidates_fit
from scenegen.pipelines.progress import ProgressReporter
from scenegen.pipelines.sampling import (
    FlowFunction,
    HeldAssets,
    InGroups,
    StructureSample,
    WithoutSceneAttention,
    sample_structure,
    structure_noise,
    told_poses,
)
from scenegen.pipelines.settings import ResolvedSettings
from trellis_modules.models import SparseStructureFlowModel
from trellis_modules.samplers import FlowEulerSampler

_IMAGES_AT_ONCE = 16
_OBJECTS_DECODED_AT_ONCE = 4
_ACTIVATIONS = 40  # of a block, in copies of its tokens
_STRUCTURE_BYTES = 4 * 4 * 64**3  # of a decoded structure, and what a judge makes of it


@dataclass(frozen=True)
class StructureStage:
    """Encodes photos, samples structures and poses, and decodes the structures.

    Attributes:
        config: the checkpoint's description.
        networks: its networks by role.
        device: where they run.
        remove_background: for cut-outs without transparency; None refuses them.
    """

    config: PipelineConfig
    networks: Networks
    device: torch.device
    remove_background: RemoveBackground | None = None

    def prepare(self, views: Sequence[SceneImages], order: Sequence[int]) -> list[SceneImages]:
        """The photos with their objects in this order, their cut-outs brought to the encoders' input.

        Raises:
            ValueError: a cut-out has no opaque pixel.
        """
        size = self.config.image_size
        return [
            SceneImages(
                view.photo,
                [prepare_asset_image(view.cutouts[i], size, self.remove_background) for i in order],
                [view.masks[i] for i in order],
                [view.object_ids[i] for i in order],
            )
            for view in views
        ]

    def encode(
        self, prepared: Sequence[SceneImages], parts: CondParts, reporter: ProgressReporter
    ) -> SceneCond:
        """The condition of the objects from all photos.

        Raises:
            ValueError: a photo lacks what ``parts`` asks for.
        """
        with ExitStack() as stack:
            image_encoder = stack.enter_context(self.networks.use(IMAGE_ENCODER_ROLE))
            stack.enter_context(reporter.watching(image_encoder))
            geometry_encoder = None
            if parts.geometry:
                geometry_encoder = stack.enter_context(self.networks.use(GEOMETRY_ENCODER_ROLE))
                stack.enter_context(reporter.watching(geometry_encoder))
            conditioner = SceneConditioner(
                image_encoder,
                geometry_encoder,
                self.config.image_size,
                _IMAGES_AT_ONCE,
                self.config.normalize_geometry,
                self.config.append_places,
            )
            advance = reporter.counter("condition", len(prepared))
            return conditioner.encode(prepared, parts, on_view=advance)

    def sample(
        self,
        cond: SceneCond,
        generators: Sequence[torch.Generator],
        settings: ResolvedSettings,
        reporter: ProgressReporter,
        held: HeldAssets | None = None,
        path_steps: int = 0,
    ) -> StructureSample:
        """Latents and poses of the objects, for as many samples as there are ``generators`` of noise.

        Some objects may be ``held``; ``path_steps`` as in `sample_structure`.

        Raises:
            SceneInputError: the memory does not hold so many samples.
        """
        with self._flow(settings, reporter) as (flow, sampler):
            per_asset = _bytes_per_asset(flow, cond.neg_cond.shape[1])
            check_candidates_fit(len(generators), cond.num_assets, per_asset, self.device)
            shape = (cond.num_assets, flow.config.in_channels, flow.config.resolution)
            noise = torch.cat([structure_noise(*shape, each, self.device) for each in generators])
            reporter.report("structure", 0, settings.sampling.steps)
            return sample_structure(
                _who_sees_whom(flow, settings),
                sampler,
                cond,
                noise,
                settings.sampling,
                positions_type=settings.positions_type,
                precompute=self.networks.keeps,
                needs_positions=self.config.has_scene,
                held=held,
                path_steps=path_steps,
                on_step=partial(reporter.report, "structure"),
            )

    def told_poses(
        self,
        cond: SceneCond,
        latents: Tensor,
        times: Sequence[float],
        generator: torch.Generator,
        settings: ResolvedSettings,
        reporter: ProgressReporter,
    ) -> Tensor:
        """What the pose head tells of finished latents (N * B, C, r, r, r), see `sampling.told_poses`."""
        with self._flow(settings, reporter) as (flow, sampler):
            return told_poses(
                _who_sees_whom(flow, settings),
                sampler,
                cond,
                latents.to(self.device),
                times,
                generator,
                precompute=self.networks.keeps,
            )

    def decode(self, latents: Tensor, reporter: ProgressReporter) -> Tensor:
        """Occupancy logits (B, R, R, R), float32 on the CPU, of latents (B, C, r, r, r).

        Raises:
            Cancelled: the caller wants to stop.
        """
        with self.networks.use(DECODER_ROLE) as decoder, reporter.watching(decoder):
            chunks = [decoder(chunk).float().cpu() for chunk in latents.split(_OBJECTS_DECODED_AT_ONCE)]
        return torch.cat(chunks).squeeze(1)

    @contextmanager
    def _flow(
        self, settings: ResolvedSettings, reporter: ProgressReporter
    ) -> Iterator[tuple[SparseStructureFlowModel, FlowEulerSampler]]:
        """The flow that the settings ask for, with its sampler; no other one stays in memory beside it."""
        chosen = self.config.structure_flow(settings.few_steps)
        self.networks.free(role for role in FLOW_ROLES if role != chosen.role)
        with self.networks.use(chosen.role) as flow, reporter.watching(flow):
            yield flow, chosen.sampler.build_sampler()


def _who_sees_whom(flow: nn.Module, settings: ResolvedSettings) -> FlowFunction:
    """The flow model with the scene attention that the settings ask for."""
    if not settings.scene_attention:
        return WithoutSceneAttention(flow)
    return flow if settings.group is None else InGroups(flow, settings.group)


def _bytes_per_asset(flow: SparseStructureFlowModel, num_cond_tokens: int) -> int:
    """What one object takes while it is sampled and judged, about, beside weights and conditions."""
    config, number = flow.config, 4
    tokens = (
        _ACTIVATIONS * config.tokens_per_edge**3 + 2 * num_cond_tokens
    )  # with keys and values of one block
    return number * config.model_channels * tokens + _STRUCTURE_BYTES
