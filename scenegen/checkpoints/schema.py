"""``pipeline.json``: which networks a checkpoint folder holds and how they are sampled."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from scenegen.checkpoints.roles import (
    DECODER_ROLE,
    FLOW_ROLE,
    GEOMETRY_ENCODER_ROLE,
    IMAGE_ENCODER_ROLE,
    OBJECT_PIPELINE_NAME,
    PIPELINE_FILE,
    PIPELINE_NAME,
    SLAT_FLOW_ROLE,
    SLAT_GAUSSIAN_ROLE,
    SLAT_MESH_ROLE,
)
from scenegen.conditioning.image_preparation import IMAGE_SIZE
from scenegen.conditioning.parts import CondParts
from scenegen.hub import missing_checkpoint
from trellis_modules.checkpoint import CheckpointError
from trellis_modules.config import ConfigError, NamedConfig, build, load_json, to_json
from trellis_modules.samplers.registry import SamplerConfig

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


@dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """The name and the ``args`` of ``pipeline.json``; networks are named by stems (see `CheckpointFolder`).

    Attributes:
        name: `PIPELINE_NAME` or `OBJECT_PIPELINE_NAME`.
        models: role -> stem. Without ``slat_*`` roles objects end as surfaces of the structure.
        sparse_structure_sampler: of the structure stage.
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
        texture_source: default of the textures; None takes the Gaussians where there is a decoder for them.
    """

    name: str = PIPELINE_NAME
    models: dict[str, str]
    sparse_structure_sampler: SamplerConfig
    image_cond_model: str
    vggt_model: str | None = None
    image_size: int = IMAGE_SIZE
    normalize_geometry: bool = False
    append_places: bool = False
    sha256: dict[str, str] = field(default_factory=dict)
    slat_sampler: SamplerConfig | None = None
    slat_normalization: SlatNormalization | None = None
    slat_patch_grid: int = 0
    texture_source: TextureSource | None = None

    def __post_init__(self) -> None:
        if self.name not in (PIPELINE_NAME, OBJECT_PIPELINE_NAME):
            raise ValueError(f"expected name {PIPELINE_NAME!r}, got {self.name!r}")
        required = [FLOW_ROLE, DECODER_ROLE]
        if self.has_appearance:
            required.append(SLAT_MESH_ROLE)
        for role in required:
            if role not in self.models:
                raise ValueError(f"models: expected the role {role!r}, got {sorted(self.models)}")
        if self.has_scene and self.vggt_model is None:
            raise ValueError("vggt_model: expected the stem of the geometry encoder, got none")
        if self.has_appearance and (self.slat_sampler is None or self.slat_normalization is None):
            raise ValueError(
                f"slat_sampler, slat_normalization: expected both beside the role {SLAT_FLOW_ROLE!r}"
            )

    @property
    def stems(self) -> dict[str, str]:
        """Role -> stem of every network."""
        stems = {**self.models, IMAGE_ENCODER_ROLE: self.image_cond_model}
        if self.vggt_model is not None:
            stems[GEOMETRY_ENCODER_ROLE] = self.vggt_model
        return stems

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
            return cls.parse(named, str(path))
        except ConfigError as error:
            raise CheckpointError(str(error)) from error

    @classmethod
    def parse(cls, named: NamedConfig, where: str) -> PipelineConfig:
        """Check a description.

        Raises:
            ConfigError: a key is unknown, missing, of the wrong type or contradicts another.
        """
        args: dict[str, Any] = dict(named.args)
        for key in ("sparse_structure_sampler", "slat_sampler"):
            if isinstance(args.get(key), dict):
                args[key] = SamplerConfig.parse(args[key], f"{where}: {key}")
        return build(cls, {**args, "name": named.name}, where)
