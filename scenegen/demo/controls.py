"""The controls of a generation: their ranges and defaults, presets, and the `RunSettings` that they mean."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from scenegen.checkpoints.schema import PipelineConfig
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.masks import ObjectOrder
from scenegen.pipelines.sampling import PositionsType
from scenegen.pipelines.settings import RunSettings
from scenegen.pipelines.texturing import TextureSettings
from trellis_modules.samplers import SamplingParams

MAX_SEED = 2**31 - 1
ORDERS: tuple[ObjectOrder, ...] = get_args(ObjectOrder)
TEXTURE_SIZES = (512, 1024, 2048, 4096)
OWN_PRESET = "checkpoint's own"
PRESETS = ("fast", "balanced", "quality", OWN_PRESET)


@dataclass(frozen=True)
class Range:
    """What a slider allows."""

    low: float
    high: float
    step: float

    def check(self, name: str, value: float) -> None:
        """Refuse a value outside.

        Raises:
            SceneInputError: it is outside.
        """
        if not isinstance(value, int | float) or not self.low <= value <= self.high:
            raise SceneInputError(
                f"{name}: expected a number from {self.low:g} to {self.high:g}, got {value!r}; correct it"
            )


SEED = Range(0, MAX_SEED, 1)
SIMPLIFY = Range(0, 0.99, 0.01)
STEPS = Range(1, 100, 1)
CFG_STRENGTH = Range(0, 10, 0.1)
CFG_TIME = Range(0, 1, 0.01)
RESCALE = Range(0.1, 5, 0.1)


@dataclass(frozen=True)
class SamplingControls:
    """The five controls of a sampling stage; the defaults are those of the published page."""

    steps: int = 25
    cfg_strength: float = 5.0
    cfg_start: float = 0.5
    cfg_end: float = 1.0
    rescale_t: float = 3.0

    @classmethod
    def of(cls, params: SamplingParams) -> SamplingControls:
        """What the controls show for settings of a checkpoint."""
        return cls(params.steps, params.cfg_strength, *params.cfg_interval, params.rescale_t)

    def check(self, stage: str) -> None:
        """Refuse values that no slider allows.

        Raises:
            SceneInputError: one is out of range, or the interval's start is after its end.
        """
        STEPS.check(f"{stage}: inference steps", self.steps)
        CFG_STRENGTH.check(f"{stage}: CFG scale", self.cfg_strength)
        CFG_TIME.check(f"{stage}: CFG interval start", self.cfg_start)
        CFG_TIME.check(f"{stage}: CFG interval end", self.cfg_end)
        RESCALE.check(f"{stage}: rescale factor", self.rescale_t)
        if self.cfg_start > self.cfg_end:
            raise SceneInputError(
                f"{stage}: expected the CFG interval to start before it ends, got {self.cfg_start:g} to "
                f"{self.cfg_end:g}; move one of the two sliders"
            )

    def params(self) -> dict[str, Any]:
        """The settings by the names of `SamplingParams`."""
        return {
            "steps": int(self.steps),
            "cfg_strength": float(self.cfg_strength),
            "cfg_interval": [float(self.cfg_start), float(self.cfg_end)],
            "rescale_t": float(self.rescale_t),
        }


@dataclass(frozen=True)
class SceneControls:
    """All controls of a generation.

    Attributes:
        order: which object is the first one, and so the query where none is chosen.
        positions_type: which sampling steps the poses come from.
        simplify: share of the triangles that is removed.
        texture_size: texels along an edge.
        structure, appearance: of the two sampling stages.
        refine: push objects out of each other and onto the floor.
        few_steps: structures come from the checkpoint's flow of few steps, whose own sampling settings hold
            in place of those of ``structure``.
    """

    seed: int = 0
    order: ObjectOrder = "largest"
    positions_type: PositionsType = "last"
    simplify: float = 0.95
    texture_size: int = 1024
    structure: SamplingControls = SamplingControls()
    appearance: SamplingControls = SamplingControls()
    refine: bool = False
    few_steps: bool = False

    def check(self, num_photos: int) -> None:
        """Refuse what the page does not allow, before any network runs.

        Raises:
            SceneInputError: a control is out of range.
        """
        SEED.check("seed", self.seed)
        SIMPLIFY.check("simplify", self.simplify)
        _check_choice("asset order", self.order, ORDERS)
        _check_choice("positions type", self.positions_type, get_args(PositionsType))
        _check_choice("texture size", self.texture_size, TEXTURE_SIZES)
        if not isinstance(self.texture_size, int) or not isinstance(self.refine, bool):
            raise SceneInputError(
                f"settings: expected a whole number as texture_size and true or false as refine, got "
                f"{self.texture_size!r:.40} and {self.refine!r:.40}; correct them"
            )
        if not isinstance(self.few_steps, bool):
            raise SceneInputError(
                f"settings: expected true or false as few_steps, got {self.few_steps!r:.40}; correct it"
            )
        if self.positions_type == "avg" and num_photos < 2:
            raise SceneInputError(
                "positions type: expected several pictures for 'avg', got one; choose 'last' or add pictures"
            )
        self.structure.check("structure")
        self.appearance.check("appearance")

    def run_settings(self, config: PipelineConfig, query: int | None = None) -> RunSettings:
        """What the controls mean for a checkpoint.

        Args:
            config: the checkpoint's description.
            query: place of the query object, from 0; None takes the first of the order.

        Raises:
            SceneInputError: the checkpoint has no flow of few steps.
        """
        if self.few_steps and config.few_step_sampler is None:
            raise SceneInputError(
                "few_steps: expected a checkpoint with a structure flow of few steps, this demo's has none; "
                "leave it out"
            )
        settings = RunSettings(
            seed=int(self.seed),
            sampling={} if self.few_steps else self.structure.params(),
            few_steps=self.few_steps,
            positions_type=self.positions_type,
            order=self.order,
            query=query,
        )
        if config.has_appearance:
            texture = TextureSettings(size=self.texture_size, simplify=self.simplify)
            return replace(settings, slat_sampling=self.appearance.params(), texture=texture)
        is_default = self.simplify == SceneControls.simplify
        return settings if is_default else replace(settings, simplify=self.simplify)

    @classmethod
    def parse(cls, raw: Mapping[str, Any], default: SceneControls) -> SceneControls:
        """Controls from JSON; what is left out is as in ``default``.

        Raises:
            SceneInputError: an unknown name.
        """
        for name in ("structure", "appearance"):
            if not isinstance(raw.get(name, {}), Mapping):
                raise SceneInputError(
                    f'settings: expected {name} as an object such as {{"steps": 12}}, got {raw[name]!r:.60}; '
                    "correct it, or leave it out"
                )
        try:
            stages = {
                name: replace(getattr(default, name), **raw[name])
                for name in ("structure", "appearance")
                if name in raw
            }
            return replace(default, **{**raw, **stages})
        except TypeError as error:
            raise SceneInputError(
                f"settings: {error}; known: {', '.join(cls.__dataclass_fields__)}, and for the stages "
                f"{', '.join(SamplingControls.__dataclass_fields__)}"
            ) from error


def preset(name: str, config: PipelineConfig | None) -> SceneControls:
    """The controls of a preset; seed, order and refinement are not part of it.

    "balanced" has the values of the published page, "fast" and "quality" half and twice the checkpoint's own
    steps with its own guidance.

    Args:
        name: one of `PRESETS`.
        config: the checkpoint's description; None, where it cannot be read, takes the published values.
    """
    published = SceneControls()
    if name == "balanced" or config is None:
        return published
    own = replace(published, structure=SamplingControls.of(config.sparse_structure_sampler.params))
    if config.has_appearance:
        own = replace(own, appearance=SamplingControls.of(config.slat_sampler.params))
    if name == "fast":
        return replace(_with_steps(own, 0.5), texture_size=512)
    return replace(_with_steps(own, 2.0), texture_size=2048) if name == "quality" else own


def draw_seed() -> int:
    """A seed for somebody who does not care which."""
    return random.SystemRandom().randrange(MAX_SEED + 1)


def _with_steps(controls: SceneControls, factor: float) -> SceneControls:
    def scaled(stage: SamplingControls) -> SamplingControls:
        steps = min(max(round(stage.steps * factor), int(STEPS.low)), int(STEPS.high))
        return replace(stage, steps=steps)

    return replace(controls, structure=scaled(controls.structure), appearance=scaled(controls.appearance))


def _check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        raise SceneInputError(
            f"{name}: expected one of {', '.join(map(str, choices))}, got {value!r}; choose one of them"
        )
