"""What a run is told: the caller's settings, and what they are for a checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import Tensor

from safe_files.limits import MAX_CANDIDATES
from scenegen.checkpoints.roles import SLAT_GAUSSIAN_ROLE, SLAT_RADIANCE_FIELD_ROLE
from scenegen.checkpoints.schema import PipelineConfig
from scenegen.conditioning.parts import CondParts
from scenegen.inputs.masks import ObjectOrder
from scenegen.models.asset_groups import FEWEST
from scenegen.pipelines.result import Representation
from scenegen.pipelines.sampling import PositionsType
from scenegen.pipelines.texturing import TEXTURE_MODES, TextureSettings
from trellis_modules.samplers import SamplingParams
from trellis_modules.samplers.registry import merge_params

DECODER_ROLES: Mapping[Representation, str] = {
    "gaussian": SLAT_GAUSSIAN_ROLE,
    "radiance_field": SLAT_RADIANCE_FIELD_ROLE,
}
"""The network that makes each representation."""

BUDGETS: Mapping[str, int] = {"fast": 1, "balanced": 4, "best": 8}
"""Numbers of candidates by name."""

_TEXTURE = TextureSettings()

SEEDS = range(-(2**63), 2**64)
"""What PyTorch's generators take: whole numbers of 64 bits, with or without sign."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How a scene is made; what is left out is the checkpoint's.

    Attributes:
        seed: of all noise.
        sampling: settings of the structure stage that replace the checkpoint's, by the names of
            `SamplingParams` (steps, cfg_strength, ...); None keeps the checkpoint's value.
        few_steps: take the checkpoint's flow of structures that was trained to need few steps, with the
            settings of its own sampler that ``sampling`` may replace, in place of the usual flow.
        slat_sampling: likewise for the appearance stage.
        cond_parts: which conditions are used; None takes those that the checkpoint was trained with.
        scene_attention: let the objects see each other; without it only for comparisons.
        group: objects that see each other whole in the scene attention, the query among them; of all others
            they see a few tokens. For scenes of many objects, whose time would grow with the square of their
            number; at least 2, and no change where the scene has no more objects. None: all.
        appearance: without it objects stay the plain surfaces of their structure, in the photo's colours, as
            they are where the checkpoint has no appearance stage; takes less time.
        positions_type: which sampling steps the poses come from, see `sample_structure`.
        order: in which order the networks see the objects, by the areas of their masks or as given; the first
            is the query, whose frame the poses are in.
        query: place of the object that is the query all the same, from 0; None leaves it to ``order``.
        structure: (B, R, R, R) occupancy logits in the caller's order that replace those of the structure
            stage, for shapes that are known or edited; poses still come from sampling.
        max_faces: most triangles of an object without an appearance stage; None keeps all.
        faces: triangles of each object, with and without appearance stage, in place of ``max_faces`` and
            ``texture.simplify``. It is reached within 2 % where the surface has as many.
        scene_faces: likewise for the scene; objects share it by their areas as they are placed.
        simplify: likewise as the share of the triangles that simplification removes, in [0, 1).
        solid: insist on watertight objects: one that nothing else closes is drawn anew on a grid.
        close_holes: close small holes of structures where the network is undecided, and any right through
            objects where the photo shows a closed surface. Not for a ``structure`` that is given, surfaces as
            released, and where no network places the objects.
        texture: how meshes of the appearance stage are textured; None leaves them as they are decoded, with
            colours at their many vertices.
        representations: what else the objects are returned as.
        candidates: samples of the structures, with this seed and those after it, of which the best one by
            confidence goes on; takes as many times as long as the structure stage.
    """

    seed: int = 42
    sampling: Mapping[str, Any] = field(default_factory=dict)
    few_steps: bool = False
    slat_sampling: Mapping[str, Any] = field(default_factory=dict)
    cond_parts: CondParts | None = None
    scene_attention: bool = True
    group: int | None = None
    appearance: bool = True
    positions_type: PositionsType = "last"
    order: ObjectOrder = "largest"
    query: int | None = None
    structure: Tensor | None = field(default=None, compare=False)
    max_faces: int | None = 20_000
    faces: int | None = None
    scene_faces: int | None = None
    simplify: float | None = None
    solid: bool = False
    close_holes: bool = True
    texture: TextureSettings | None = TextureSettings()
    representations: Collection[Representation] = ()
    candidates: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.seed, int) or self.seed not in SEEDS:
            raise ValueError(f"run: seed: expected a whole number from -2^63 to 2^64 - 1, got {self.seed!r}")
        if not 1 <= self.candidates <= MAX_CANDIDATES:
            raise ValueError(f"run: candidates: expected 1 to {MAX_CANDIDATES}, got {self.candidates}")
        if self.seed + self.candidates - 1 not in SEEDS:
            raise ValueError(f"run: seed: expected {self.candidates} seeds up to 2^64 - 1, got {self.seed}")
        if unknown := sorted(set(self.representations) - DECODER_ROLES.keys()):
            raise ValueError(f"run: unknown representation {unknown[0]!r}; known: {sorted(DECODER_ROLES)}")
        if self.group is not None and (self.group < FEWEST or not self.scene_attention):
            raise ValueError(
                f"run: group: expected at least {FEWEST} objects and scene attention, got {self.group} and "
                f"scene_attention={self.scene_attention}"
            )
        self._check_faces()

    def _check_faces(self) -> None:
        for name in ("faces", "scene_faces"):
            if (count := getattr(self, name)) is not None and count < 1:
                raise ValueError(f"run: {name}: expected a number of triangles above 0, got {count}")
        if self.simplify is not None and not 0 <= self.simplify < 1:
            raise ValueError(f"run: simplify: expected a share in [0, 1), got {self.simplify}")
        given = [name for name in ("faces", "scene_faces", "simplify") if getattr(self, name) is not None]
        if self.texture is not None and self.texture.simplify != _TEXTURE.simplify:
            given.append("texture.simplify")
        if len(given) > 1:
            raise ValueError(f"run: expected one number of faces, got {', '.join(given)}; keep one of them")

    def resolve(self, config: PipelineConfig, roles: Collection[str]) -> ResolvedSettings:
        """What these settings are for a checkpoint.

        Args:
            config: the checkpoint's description.
            roles: the networks that it has.

        Raises:
            ConfigError: a sampling setting is unknown or out of range.
            ValueError: something is asked for that the checkpoint or the other settings do not allow.
        """
        flow = config.structure_flow(self.few_steps)
        texture = self._texture(config)
        resolved = ResolvedSettings(
            seed=self.seed,
            sampling=merge_params(flow.sampler.params, self.sampling, "run"),
            few_steps=self.few_steps,
            slat_sampling=self._slat_sampling(config),
            cond_parts=self.cond_parts or config.cond_parts,
            scene_attention=self.scene_attention,
            group=self._group(config),
            positions_type=self.positions_type,
            order=self.order,
            query=self.query,
            structure=self.structure,
            max_faces=self.max_faces,
            faces=self.faces,
            scene_faces=self.scene_faces,
            simplify=self.simplify,
            solid=self.solid,
            close_holes=self._closes_holes(config, texture),
            texture=texture,
            representations=frozenset(self.representations),
            candidates=self._candidates(config),
        )
        _check_decoders(resolved, roles)
        return resolved

    def _candidates(self, config: PipelineConfig) -> int:
        if self.candidates > 1 and not config.has_scene:
            raise ValueError(
                "run: candidates: samples are compared by where they place the objects, and the checkpoint "
                "places none; leave it out"
            )
        return self.candidates

    def _group(self, config: PipelineConfig) -> int | None:
        if self.group is not None and not config.has_scene:
            raise ValueError("run: group: the objects of this checkpoint do not see each other; leave it out")
        return self.group

    def _texture(self, config: PipelineConfig) -> TextureSettings | None:
        """How meshes are textured here; nothing is asked that would have no effect."""
        if not (self.appearance and config.has_appearance):
            if self.texture not in (None, _TEXTURE):
                raise ValueError(f"run: texture was given, but {self._why_plain()}; leave it out")
            return self.texture
        if self.texture is None:
            counts = (self.faces, self.scene_faces, self.simplify)
            if self.solid or any(value is not None for value in counts):
                raise ValueError(
                    "run: solid, faces, scene_faces and simplify change meshes that are textured, but "
                    "texture is None, which leaves them as they are decoded; give texture=TextureSettings()"
                )
            return None
        if self.solid and self.texture.surface == "released":
            raise ValueError(
                "run: solid: surfaces as released are open; leave one of solid and texture.surface out"
            )
        source = self.texture.source or config.default_texture_source
        modes = TEXTURE_MODES[source]
        mode = self.texture.mode or modes[0]
        if mode not in modes:
            raise ValueError(
                f"run: texture mode: expected {' or '.join(map(repr, modes))} for the colours of the source "
                f"{source!r}, got {mode!r}; give another source, or leave the mode out"
            )
        simplify = self.texture.simplify if self.simplify is None else self.simplify
        return replace(self.texture, source=source, mode=mode, simplify=simplify)

    def _closes_holes(self, config: PipelineConfig, texture: TextureSettings | None) -> bool:
        is_released = texture is not None and texture.surface == "released"
        return self.close_holes and config.has_scene and self.structure is None and not is_released

    def _why_plain(self) -> str:
        return "the checkpoint has no appearance stage" if self.appearance else "appearance is False"

    def _slat_sampling(self, config: PipelineConfig) -> SamplingParams | None:
        if self.appearance and config.has_appearance:
            return merge_params(config.slat_sampler.params, self.slat_sampling, "run: slat_sampling")
        if self.slat_sampling:
            raise ValueError(f"run: slat_sampling was given, but {self._why_plain()}")
        return None


@dataclass(frozen=True, kw_only=True)
class ResolvedSettings:
    """`RunSettings` for one checkpoint: nothing is left to a default.

    Attributes:
        slat_sampling: None where the appearance stage does not run.
    """

    seed: int
    sampling: SamplingParams
    few_steps: bool
    slat_sampling: SamplingParams | None
    cond_parts: CondParts
    scene_attention: bool
    group: int | None
    positions_type: PositionsType
    order: ObjectOrder
    query: int | None
    structure: Tensor | None = field(compare=False)
    max_faces: int | None
    faces: int | None
    scene_faces: int | None
    simplify: float | None
    solid: bool
    close_holes: bool
    texture: TextureSettings | None
    representations: frozenset[Representation]
    candidates: int

    @property
    def seeds(self) -> list[int]:
        """One for each candidate."""
        return [self.seed + number for number in range(self.candidates)]

    def record(self) -> dict[str, Any]:
        """What decides over the result, as JSON types."""
        record: dict[str, Any] = {
            "seed": self.seed,
            **_sampling_record(self.sampling),
            "cond_parts": asdict(self.cond_parts),
            "scene_attention": self.scene_attention,
            "positions_type": self.positions_type,
            "given_structure": self.structure is not None,
            "close_holes": self.close_holes,
        }
        counts = {"faces": self.faces, "scene_faces": self.scene_faces, "simplify": self.simplify}
        record |= {name: value for name, value in counts.items() if value is not None}
        if self.few_steps:
            record["few_steps"] = True
        if self.order != "largest":
            record["order"] = self.order
        if self.query is not None:
            record["query"] = self.query
        if self.group is not None:
            record["group"] = self.group
        if self.solid:
            record["solid"] = True
        if self.slat_sampling is None:
            return record | {"max_faces": self.max_faces}
        texture = None if self.texture is None else asdict(self.texture)
        return record | {"appearance": _sampling_record(self.slat_sampling), "texture": texture}

    @property
    def wanted(self) -> frozenset[Representation]:
        """The representations that have to be decoded, for the caller or for the texture."""
        if self.slat_sampling is None or self.texture is None or self.texture.source not in DECODER_ROLES:
            return self.representations
        return self.representations | {self.texture.source}


def _sampling_record(params: SamplingParams) -> dict[str, Any]:
    """The settings of a sampler; the solver only where it is another than that of all checkpoints."""
    record = asdict(params)
    if params.solver == SamplingParams().solver:
        del record["solver"]
    return record


def _check_decoders(settings: ResolvedSettings, roles: Collection[str]) -> None:
    if settings.wanted and settings.slat_sampling is None:
        raise ValueError(f"run: {sorted(settings.wanted)} need the appearance stage, which does not run")
    for name in sorted(settings.wanted):
        if DECODER_ROLES[name] not in roles:
            raise ValueError(
                f"run: {name!r} needs the network {DECODER_ROLES[name]!r}, which the checkpoint lacks; "
                "leave it out, or take the texture from the mesh"
            )
