"""Samplers by the names that released pipeline files use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from trellis_modules.config import ConfigError
from trellis_modules.samplers.flow_euler import FlowEulerSampler, Guidance, SamplingParams

GUIDANCE_BY_NAME: dict[str, Guidance] = {
    "FlowEulerSampler": Guidance.OFF,
    "FlowEulerCfgSampler": Guidance.ALWAYS,
    "FlowEulerGuidanceIntervalSampler": Guidance.INTERVAL,
    # Released names of runs whose model also returns positions; extras ride along in every run here.
    "FlowEulerSamplerVGGT": Guidance.OFF,
    "FlowEulerCfgSamplerVGGT": Guidance.ALWAYS,
    "FlowEulerGuidanceIntervalSamplerVGGT": Guidance.INTERVAL,
}


def build_sampler(raw: Mapping[str, Any], where: str) -> FlowEulerSampler:
    """Build the sampler of an entry {"name": ..., "args": {"sigma_min": ...}}; other keys are not read.

    Args:
        raw: the entry.
        where: file and key of the entry, for error messages.

    Raises:
        ConfigError: unknown sampler name or argument.
    """
    name = raw.get("name")
    if name not in GUIDANCE_BY_NAME:
        raise ConfigError(f"{where}: unknown sampler {name!r}; known: {sorted(GUIDANCE_BY_NAME)}")
    args = dict(raw.get("args", {}))
    sigma_min = args.pop("sigma_min", 1e-5)
    if args:
        raise ConfigError(f"{where}: unknown argument {min(args)!r} for {name}; known: ['sigma_min']")
    return FlowEulerSampler(sigma_min, GUIDANCE_BY_NAME[name])


def merge_params(defaults: SamplingParams, overrides: Mapping[str, Any], where: str) -> SamplingParams:
    """Replace some settings; an override of None keeps the default.

    Args:
        defaults: settings to start from.
        overrides: by field name; a list is accepted for ``cfg_interval``.
        where: origin of the overrides, for error messages.

    Raises:
        ConfigError: unknown setting or a value out of range.
    """
    known = {item.name for item in fields(SamplingParams)}
    if unknown := sorted(overrides.keys() - known):
        raise ConfigError(f"{where}: unknown sampling parameter {unknown[0]!r}; known: {sorted(known)}")
    changes = {key: value for key, value in overrides.items() if value is not None}
    if "cfg_interval" in changes:
        changes["cfg_interval"] = tuple(changes["cfg_interval"])
    try:
        return replace(defaults, **changes)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error
