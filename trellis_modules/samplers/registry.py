"""Samplers by the names that released pipeline files use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trellis_modules.config import build, lookup, to_json
from trellis_modules.samplers.flow_euler import FlowEulerSampler, Guidance, SamplingParams
from trellis_modules.samplers.flow_matching import FlowPath

GUIDANCE_BY_NAME: dict[str, Guidance] = {
    "FlowEulerSampler": Guidance.OFF,
    "FlowEulerCfgSampler": Guidance.ALWAYS,
    "FlowEulerGuidanceIntervalSampler": Guidance.INTERVAL,
    # Released names of runs whose model also returns positions; extras ride along in every run here.
    "FlowEulerSamplerVGGT": Guidance.OFF,
    "FlowEulerCfgSamplerVGGT": Guidance.ALWAYS,
    "FlowEulerGuidanceIntervalSamplerVGGT": Guidance.INTERVAL,
}


@dataclass(frozen=True)
class SamplerArgs:
    """Constructor arguments of a sampler entry."""

    sigma_min: float = 1e-5

    def __post_init__(self) -> None:
        FlowPath(self.sigma_min)  # refuses what is out of range


@dataclass(frozen=True)
class SamplerConfig:
    """A sampler entry of a pipeline file: {"name": ..., "args": {...}, "params": {...}}.

    Attributes:
        name: a key of `GUIDANCE_BY_NAME`.
        args: of the sampler.
        params: defaults of its runs.
    """

    name: str
    args: SamplerArgs = SamplerArgs()
    params: SamplingParams = SamplingParams()

    @classmethod
    def parse(cls, raw: Mapping[str, Any], where: str) -> SamplerConfig:
        """Read an entry; ``where`` names its file and key in error messages.

        Raises:
            ConfigError: unknown name or key, wrong type, or a value out of range.
        """
        config = build(cls, raw, where)
        lookup(GUIDANCE_BY_NAME, config.name, where)
        return config

    def build_sampler(self) -> FlowEulerSampler:
        """The sampler this entry describes."""
        return FlowEulerSampler(self.args.sigma_min, GUIDANCE_BY_NAME[self.name])


def merge_params(defaults: SamplingParams, overrides: Mapping[str, Any], where: str) -> SamplingParams:
    """Replace some settings by ``overrides``, by field name; an override of None keeps the default.

    Raises:
        ConfigError: unknown setting, wrong type, or a value out of range; the message starts with ``where``.
    """
    return build(
        SamplingParams,
        to_json(defaults) | {key: value for key, value in overrides.items() if value is not None},
        where,
    )
