"""Samplers by the names that released pipeline files use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trellis_modules.config import NamedConfig, build, lookup, to_json
from trellis_modules.samplers.flow_euler import FlowEulerSampler, Guidance, SamplingParams
from trellis_modules.samplers.flow_matching import FlowPath

GUIDANCE_BY_NAME: dict[str, Guidance] = {
    "FlowEulerSampler": Guidance.OFF,
    "FlowEulerCfgSampler": Guidance.ALWAYS,
    "FlowEulerGuidanceIntervalSampler": Guidance.INTERVAL,
    # Released names for models that also return positions; extras ride along in every run here.
    "FlowEulerSamplerVGGT": Guidance.OFF,
    "FlowEulerCfgSamplerVGGT": Guidance.ALWAYS,
    "FlowEulerGuidanceIntervalSamplerVGGT": Guidance.INTERVAL,
}


def build_sampler(raw: Mapping[str, Any], where: str) -> FlowEulerSampler:
    """Build the sampler of an entry {"name": ..., "args": {"sigma_min": ...}}.

    Args:
        raw: the entry; the name is a key of `GUIDANCE_BY_NAME`.
        where: file and key of the entry, for error messages.

    Raises:
        ConfigError: unknown name or argument, wrong type, or a value out of range.
    """
    config = NamedConfig.parse(raw, where)
    guidance = lookup(GUIDANCE_BY_NAME, config.name, where)
    path = build(FlowPath, config.args, where)
    return FlowEulerSampler(path.sigma_min, guidance)


def merge_params(defaults: SamplingParams, overrides: Mapping[str, Any], where: str) -> SamplingParams:
    """Replace some settings by ``overrides``, by field name; an override of None keeps the default.

    Raises:
        ConfigError: unknown setting, wrong type, or a value out of range; the message starts with ``where``.
    """
    given = {key: value for key, value in overrides.items() if value is not None}
    return build(SamplingParams, to_json(defaults) | given, where)
