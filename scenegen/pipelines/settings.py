"""The settings of one run, resolved against a checkpoint's defaults, and their record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from torch import Tensor

from scenegen.conditioning.parts import CondParts
from scenegen.pipelines.sampling import PositionsType
from scenegen.pipelines.texturing import TextureSettings
from trellis_modules.samplers import SamplingParams

Representation = Literal["gaussian", "radiance_field"]
"""What an object can be returned as beside its mesh."""

SEEDS = range(-(2**63), 2**64)
"""What PyTorch's generators take: whole numbers of 64 bits, with or without sign."""

OnStep = Callable[[int, int], Any]
"""Called with (steps done, steps) after a sampling step."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """See `SceneGenPipeline.run`, whose arguments these are; nothing is left to a default."""

    seed: int
    sampling: SamplingParams
    slat_sampling: SamplingParams | None
    cond_parts: CondParts
    scene_attention: bool
    positions_type: PositionsType
    structure: Tensor | None
    max_faces: int | None
    texture: TextureSettings | None
    representations: frozenset[Representation]
    on_step: OnStep | None

    def __post_init__(self) -> None:
        if not isinstance(self.seed, int) or self.seed not in SEEDS:
            raise ValueError(f"run: seed: expected a whole number from -2^63 to 2^64 - 1, got {self.seed!r}")

    def record(self) -> dict[str, Any]:
        """What decides over the result, as JSON types."""
        record: dict[str, Any] = {
            "seed": self.seed,
            **asdict(self.sampling),
            "cond_parts": asdict(self.cond_parts),
            "scene_attention": self.scene_attention,
            "positions_type": self.positions_type,
            "given_structure": self.structure is not None,
        }
        if self.slat_sampling is None:
            return record | {"max_faces": self.max_faces}
        texture = None if self.texture is None else asdict(self.texture)
        return record | {"appearance": asdict(self.slat_sampling), "texture": texture}

    @property
    def wanted(self) -> frozenset[Representation]:
        """The representations that have to be decoded, for the caller or for the texture."""
        if self.slat_sampling is not None and self.texture is not None and self.texture.source == "gaussian":
            return self.representations | {"gaussian"}
        return self.representations
