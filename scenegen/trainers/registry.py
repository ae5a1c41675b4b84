"""Trainers by name: what networks can be trained for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from scenegen.datasets.batch import (
    Batch,
    LatentBatch,
    SceneCaseBatch,
    ShapeBatch,
    SparseLatentBatch,
    SparseViewBatch,
)
from scenegen.synthesis.sources.batch import (
    FieldBatch,
    LatentPictureBatch,
    ObjectLatentBatch,
    SceneBatch,
    SceneLatentBatch,
    ScenePairBatch,
)
from scenegen.trainers.objective import Objective
from scenegen.trainers.objectives.asset_flow import DenseFlowObjective, SparseFlowObjective
from scenegen.trainers.objectives.conditions import (
    AssetFlowSettings,
    GuidedFlowSettings,
    ImageFlowSettings,
    TextFlowSettings,
)
from scenegen.trainers.objectives.drawn_decoders import (
    SLatRadianceFieldObjective,
    SLatVaeGaussianObjective,
    SLatVaeGaussianSettings,
)
from scenegen.trainers.objectives.geometry_encoder import GeometryEncoderConfig, GeometryEncoderObjective
from scenegen.trainers.objectives.image_encoder import ImageEncoderConfig, ImageEncoderObjective
from scenegen.trainers.objectives.mesh_decoder import MeshDecoderObjective, MeshDecoderSettings
from scenegen.trainers.objectives.object_flow import ObjectFlowConfig, ObjectFlowObjective
from scenegen.trainers.objectives.picture_loss import PictureLossSettings
from scenegen.trainers.objectives.released_scene_flow import (
    ReleasedSceneFlowObjective,
    ReleasedSceneFlowSettings,
)
from scenegen.trainers.objectives.scene_flow import SceneFlowConfig, SceneFlowObjective
from scenegen.trainers.objectives.scene_flow_distillation import (
    SceneFlowDistillation,
    SceneFlowDistillationConfig,
)
from scenegen.trainers.objectives.structure_vae import StructureVaeConfig, StructureVaeObjective
from scenegen.trainers.objectives.structured_latent_flow import (
    StructuredLatentFlowConfig,
    StructuredLatentFlowObjective,
)
from scenegen.trainers.objectives.structured_latent_vae import (
    StructuredLatentVaeConfig,
    StructuredLatentVaeObjective,
)


@dataclass(frozen=True)
class TrainerKind:
    """A trainer that can be asked for by name.

    Attributes:
        objective: makes it: called with the networks by role, and ``config``, the settings.
        settings: dataclass of what ``trainer.args`` says beside the loop's settings, with other names.
        roles: of the networks that the experiment's ``models`` name.
        batch_type: kind of batch that the objective learns from.
        not_recorded: why passes cannot be recorded as CUDA graphs with such settings; None where they can.
    """

    objective: Callable[..., Objective]
    settings: type
    roles: tuple[str, ...]
    batch_type: type[Batch]
    not_recorded: Callable[[Any], str | None] = lambda settings: None


_FLOW_ROLES = ("flow", "image_encoder")


def _voxels_differ(settings: Any) -> str:
    return "whose batches have another number of voxels in every step"


def _captions_differ(settings: AssetFlowSettings) -> str | None:
    return "whose captions are others in every step" if isinstance(settings, TextFlowSettings) else None


def _collisions_wait(settings: ReleasedSceneFlowSettings) -> str | None:
    return "whose use_collision_loss waits for the GPU" if settings.use_collision_loss else None


def _inverse_waits(settings: Any) -> str:
    return "whose inverse of the cameras waits for the GPU"


def _dense_flow(settings: type[AssetFlowSettings]) -> TrainerKind:
    return TrainerKind(DenseFlowObjective, settings, ("denoiser",), LatentBatch, _captions_differ)


def _sparse_flow(settings: type[AssetFlowSettings]) -> TrainerKind:
    return TrainerKind(SparseFlowObjective, settings, ("denoiser",), SparseLatentBatch, _voxels_differ)


TRAINERS: Mapping[str, TrainerKind] = {
    "ImageConditionedVGGTFlowMatchingCFGTrainer": TrainerKind(
        ReleasedSceneFlowObjective, ReleasedSceneFlowSettings, ("denoiser",), SceneCaseBatch, _collisions_wait
    ),
    "FlowMatchingTrainer": _dense_flow(AssetFlowSettings),
    "FlowMatchingCFGTrainer": _dense_flow(GuidedFlowSettings),
    "ImageConditionedFlowMatchingCFGTrainer": _dense_flow(ImageFlowSettings),
    "TextConditionedFlowMatchingCFGTrainer": _dense_flow(TextFlowSettings),
    "SparseFlowMatchingTrainer": _sparse_flow(AssetFlowSettings),
    "SparseFlowMatchingCFGTrainer": _sparse_flow(GuidedFlowSettings),
    "ImageConditionedSparseFlowMatchingCFGTrainer": _sparse_flow(ImageFlowSettings),
    "TextConditionedSparseFlowMatchingCFGTrainer": _sparse_flow(TextFlowSettings),
    "SparseStructureVaeTrainer": TrainerKind(
        StructureVaeObjective, StructureVaeConfig, ("encoder", "decoder"), ShapeBatch
    ),
    "SLatVaeGaussianTrainer": TrainerKind(
        SLatVaeGaussianObjective,
        SLatVaeGaussianSettings,
        ("encoder", "decoder"),
        SparseViewBatch,
        _voxels_differ,
    ),
    "SLatVaeRadianceFieldDecoderTrainer": TrainerKind(
        SLatRadianceFieldObjective, PictureLossSettings, ("decoder",), SparseViewBatch, _voxels_differ
    ),
    "SLatVaeMeshDecoderTrainer": TrainerKind(
        MeshDecoderObjective, MeshDecoderSettings, ("decoder",), SparseViewBatch, _voxels_differ
    ),
    "geometry_encoder": TrainerKind(
        GeometryEncoderObjective, GeometryEncoderConfig, ("vggt",), ScenePairBatch, _inverse_waits
    ),
    "image_encoder": TrainerKind(ImageEncoderObjective, ImageEncoderConfig, ("image_encoder",), SceneBatch),
    "object_flow": TrainerKind(ObjectFlowObjective, ObjectFlowConfig, _FLOW_ROLES, ObjectLatentBatch),
    "scene_flow": TrainerKind(
        SceneFlowObjective, SceneFlowConfig, (*_FLOW_ROLES, "geometry_encoder"), SceneLatentBatch
    ),
    "scene_flow_distillation": TrainerKind(
        SceneFlowDistillation,
        SceneFlowDistillationConfig,
        ("flow", "teacher", "image_encoder", "geometry_encoder"),
        SceneLatentBatch,
    ),
    "structured_latent_vae": TrainerKind(
        StructuredLatentVaeObjective,
        StructuredLatentVaeConfig,
        ("encoder", "decoder_gs", "decoder_mesh"),
        FieldBatch,
        _voxels_differ,
    ),
    "structured_latent_flow": TrainerKind(
        StructuredLatentFlowObjective,
        StructuredLatentFlowConfig,
        _FLOW_ROLES,
        LatentPictureBatch,
        _voxels_differ,
    ),
}
"""Names are those of released configurations where they have such a trainer; the others are our own."""
