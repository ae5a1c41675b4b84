"""``pipeline.json``: which networks a checkpoint folder holds and how they are sampled."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from safe_files.limits import MAX_IMAGE_SIDE_PX
from safe_files.regular import shown
from scenegen.checkpoints.roles import (
    DECODER_ROLE,
    FEW_STEPS_FLOW_ROLE,
    FEW_STEPS_SAMPLER,
    FLOW_ROLE,
    FLOW_ROLES,
    GEOMETRY_ENCODER_ROLE,
    IMAGE_ENCODER_ROLE,
    MODEL_ROLES,
    OBJECT_PIPELINE_NAME,
    PIPELINE_FILE,
    PIPELINE_NAME,
    SLAT_FLOW_ROLE,
    SLAT_GAUSSIAN_ROLE,
    SLAT_MESH_ROLE,
    SLAT_RADIANCE_FIELD_ROLE,
    check_stems,
)
from scenegen.conditioning.image_preparation import IMAGE_SIZE
from scenegen.conditioning.parts import CondParts
from scenegen.confidence.calibration import Calibration
from scenegen.hub import missing_checkpoint
from trellis_modules.checkpoint import WEIGHTS_SUFFIX, CheckpointError
from trellis_modules.config import ConfigError, NamedConfig, build, load_json, to_json
from trellis_modules.samplers import SamplingParams
from trellis_modules.samplers.registry import SamplerConfig

logger = logging.getLogger(__name__)

_STRUCTURE_SAMPLER = "sparse_structure_sampler"
_SAMPLERS = (_STRUCTURE_SAMPLER, FEW_STEPS_SAMPLER, "slat_sampler")
_SCENE_SAMPLER = "VGGT"  # end of the published names of samplers of scenes

TextureSource = Literal["gaussian", "mesh", "radiance_field"]
"""Where textures come from: Gaussians, the decoded mesh's own colours, or views of the radiance field."""


@dataclass(frozen=True)
class SlatNormalization:
    """Mean and spread per channel of the latents that the flow was trained on, before normalisation."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise ValueError(
                f"slat_normalization: expected as many means as stds, got {len(self.mean)}, {len(self.std)}"
            )
        if not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise ValueError("slat_normalization: expected finite means and stds above 0, got others")


@dataclass(frozen=True)
class StructureFlow:
    """One of the flows of structures, with what belongs to it alone.

    Attributes:
        role: of its network.
        sampler: how it is sampled by default.
        sha256: recorded digest of its weights; None where none is.
        confidence: what signs of right and wrong objects are worth for these weights; None if unknown.
    """

    role: str
    sampler: SamplerConfig
    sha256: str | None
    confidence: Calibration | None


@dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """The name and the ``args`` of ``pipeline.json``; networks are named by stems (see `CheckpointFolder`).

    Attributes:
        name: `PIPELINE_NAME` or `OBJECT_PIPELINE_NAME`.
        models: role -> stem. Without ``slat_*`` roles objects end as surfaces of the structure.
        sparse_structure_sampler: of the structure stage.
        few_step_sampler: of the structure stage with the flow of few steps, for checkpoints that have one; in
            the file its name and arguments may be left out, where they are those of
            ``sparse_structure_sampler``.
        image_cond_model: stem of the image encoder.
        vggt_model: stem of the geometry encoder; None for checkpoints that condition on the object alone.
        image_size: side of the encoders' input in pixels.
        normalize_geometry: see `SceneConditioner`; released checkpoints do without.
        append_places: the structure flow also sees where its tokens lie in the photo, see `SceneConditioner`;
            released checkpoints do without.
        sha256: weight file -> hex digest, checked when the file is loaded.
        slat_sampler: of the appearance stage.
        slat_normalization: of the latents of the appearance stage.
        slat_patch_grid: the appearance flow also sees the colours and places of a crop's patches, so many
            along an edge, see `append_patch_details`; released checkpoints do without (0).
        slat_light: the appearance flow also sees the tones of the photo, see `light_tones`; released
            checkpoints do without.
        texture_source: default of the textures; None takes the Gaussians where there is a decoder for them.
        confidence: what signs of right and wrong objects are worth for one of the flows of structures.
    """

    name: str = PIPELINE_NAME
    models: dict[str, str]
    sparse_structure_sampler: SamplerConfig
    few_step_sampler: SamplerConfig | None = None
    image_cond_model: str
    vggt_model: str | None = None
    image_size: int = IMAGE_SIZE
    normalize_geometry: bool = False
    append_places: bool = False
    sha256: dict[str, str] = field(default_factory=dict)
    slat_sampler: SamplerConfig | None = None
    slat_normalization: SlatNormalization | None = None
    slat_patch_grid: int = 0
    slat_light: bool = False
    texture_source: TextureSource | None = None
    confidence: Calibration | None = None

    def __post_init__(self) -> None:
        if self.name not in (PIPELINE_NAME, OBJECT_PIPELINE_NAME):
            raise ValueError(f"expected name {PIPELINE_NAME!r}, got {self.name!r}")
        required = [FLOW_ROLE, DECODER_ROLE]
        if self.has_appearance:
            required.append(SLAT_MESH_ROLE)
        for role in required:
            if role not in self.models:
                raise ValueError(f"models: expected the role {role!r}, got {sorted(self.models)}")
        if (self.few_step_sampler is None) != (FEW_STEPS_FLOW_ROLE not in self.models):
            raise ValueError(
                f"{FEW_STEPS_SAMPLER}: expected it and the role {FEW_STEPS_FLOW_ROLE!r} in models, got one "
                "of the two; add the other, or leave both out"
            )
        if self.has_scene and self.vggt_model is None:
            raise ValueError("vggt_model: expected the stem of the geometry encoder, got none")
        self._check_sizes()
        self._check_samplers()
        if self.has_appearance and (self.slat_sampler is None or self.slat_normalization is None):
            raise ValueError(
                f"slat_sampler, slat_normalization: expected both beside the role {SLAT_FLOW_ROLE!r}"
            )

    def _check_sizes(self) -> None:
        check_stems(self.stems)
        if not 1 <= self.image_size <= MAX_IMAGE_SIDE_PX:
            raise ValueError(f"image_size: expected 1 to {MAX_IMAGE_SIDE_PX} pixels, got {self.image_size}")
        if not 0 <= self.slat_patch_grid <= self.image_size:
            raise ValueError(
                f"slat_patch_grid: expected 0 to {self.image_size} patches, got {self.slat_patch_grid}"
            )
        needed = {"gaussian": SLAT_GAUSSIAN_ROLE, "radiance_field": SLAT_RADIANCE_FIELD_ROLE}
        role = needed.get(self.texture_source)
        if self.has_appearance and role is not None and role not in self.models:
            raise ValueError(f"texture_source: {self.texture_source!r} needs the role {role!r}, got none")

    def _check_samplers(self) -> None:
        for key in (_STRUCTURE_SAMPLER, FEW_STEPS_SAMPLER):
            sampler: SamplerConfig | None = getattr(self, key)
            if sampler is None or sampler.name.endswith(_SCENE_SAMPLER) == self.has_scene:
                continue
            wanted = f"a name that ends with {_SCENE_SAMPLER}" if self.has_scene else "one of single objects"
            raise ValueError(f"{key}: expected {wanted} for the pipeline {self.name}, got {sampler.name!r}")
        if self.slat_sampler is not None and self.slat_sampler.name.endswith(_SCENE_SAMPLER):
            raise ValueError(
                f"slat_sampler: expected a sampler of single objects, got {self.slat_sampler.name!r}"
            )

    def unused(self) -> list[str]:
        """What is named and no stage uses, one line each."""
        lines = [
            f"models: {shown(role)} is no role that a stage uses"
            for role in self.models
            if role not in MODEL_ROLES
        ]
        if not self.has_appearance:
            named = [role for role in self.models if role.startswith("slat_") and role in MODEL_ROLES]
            named += [name for name in ("slat_sampler", "slat_normalization") if getattr(self, name)]
            lines += [f"{name}: not used without the role {SLAT_FLOW_ROLE!r}" for name in named]
        known = {self._weights_sha256(role) for role in FLOW_ROLES if role in self.models}
        if self.confidence is not None and self.confidence.flow_sha256 not in known:
            lines.append("confidence: was learnt for other weights of the structure flow")
        if self.vggt_model is not None and not self.has_scene:
            lines.append(f"vggt_model: not used by the pipeline {self.name}")
        return lines

    @property
    def stems(self) -> dict[str, str]:
        """Role -> stem of every network."""
        stems = {**self.models, IMAGE_ENCODER_ROLE: self.image_cond_model}
        if self.vggt_model is not None:
            stems[GEOMETRY_ENCODER_ROLE] = self.vggt_model
        return stems

    def structure_flow(self, few_steps: bool = False) -> StructureFlow:
        """The flow of structures that every checkpoint has, or the one of few steps.

        Raises:
            ValueError: the checkpoint has none of few steps.
        """
        role = FEW_STEPS_FLOW_ROLE if few_steps else FLOW_ROLE
        sampler = self.few_step_sampler if few_steps else self.sparse_structure_sampler
        if sampler is None:
            raise ValueError(
                f"few_steps: expected a checkpoint with a structure flow of few steps ({role}), got one "
                "without; leave few_steps (--few-steps) out, or name a checkpoint that has one"
            )
        sha256 = self._weights_sha256(role)
        is_known = self.confidence is not None and self.confidence.flow_sha256 == sha256
        return StructureFlow(role, sampler, sha256, self.confidence if is_known else None)

    def _weights_sha256(self, role: str) -> str | None:
        return self.sha256.get(f"{self.models[role]}{WEIGHTS_SUFFIX}")

    @property
    def has_scene(self) -> bool:
        """Whether objects see their scene and get poses in it."""
        return self.name == PIPELINE_NAME

    @property
    def has_appearance(self) -> bool:
        """Whether there is an appearance stage."""
        return SLAT_FLOW_ROLE in self.models

    @property
    def cond_parts(self) -> CondParts:
        """The parts of the condition that the structure flow was trained with."""
        return CondParts() if self.has_scene else CondParts(mask=False, scene=False, geometry=False)

    @property
    def default_texture_source(self) -> TextureSource:
        """Where textures come from when the caller does not say."""
        return self.texture_source or ("gaussian" if SLAT_GAUSSIAN_ROLE in self.models else "mesh")

    def to_named(self) -> NamedConfig:
        """The content of ``pipeline.json``; settings that are not there are left out."""
        args = {key: value for key, value in to_json(self).items() if value is not None}
        # Scenes know their checkpoint by a digest of its description: what is new and not used is not in it.
        if not self.slat_light:
            del args["slat_light"]
        for key in _SAMPLERS:
            params = args.get(key, {}).get("params", {})
            if params.get("solver") == SamplingParams().solver:
                del params["solver"]
        if not self.has_appearance:
            args = {key: value for key, value in args.items() if not key.startswith("slat_")}
        return NamedConfig(args.pop("name"), args)

    @classmethod
    def load(cls, folder: Path) -> PipelineConfig:
        """Read ``folder/pipeline.json``.

        Raises:
            CheckpointError: no such folder, or a file that is not a pipeline description.
        """
        path = folder / PIPELINE_FILE
        if not path.is_file():
            raise missing_checkpoint(folder)
        try:
            named = NamedConfig.parse(load_json(path), str(path))
            config = cls.parse(named, str(path))
        except ConfigError as error:
            raise CheckpointError(str(error)) from error
        for line in config.unused():
            logger.warning("%s: %s; it has no effect", path, line)
        return config

    @classmethod
    def parse(cls, named: NamedConfig, where: str) -> PipelineConfig:
        """Check a description.

        Raises:
            ConfigError: a key is unknown, missing, of the wrong type or contradicts another.
        """
        args: dict[str, Any] = dict(named.args)
        few, usual = args.get(FEW_STEPS_SAMPLER), args.get(_STRUCTURE_SAMPLER)
        if isinstance(few, dict) and isinstance(usual, dict):
            args[FEW_STEPS_SAMPLER] = {key: usual[key] for key in ("name", "args") if key in usual} | few
        for key in _SAMPLERS:
            if isinstance(args.get(key), dict):
                args[key] = SamplerConfig.parse(args[key], f"{where}: {key}")
        return build(cls, {**args, "name": named.name}, where)
