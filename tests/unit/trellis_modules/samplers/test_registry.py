"""Samplers from pipeline files."""

from __future__ import annotations

import pytest

from trellis_modules.config import ConfigError
from trellis_modules.samplers import FlowEulerSampler, Guidance, SamplingParams
from trellis_modules.samplers.registry import GUIDANCE_BY_NAME, SamplerConfig, merge_params


@pytest.mark.parametrize("name", GUIDANCE_BY_NAME)
def test_released_names_are_instances_of_the_one_class(name: str) -> None:
    params = {"steps": 25, "cfg_interval": [0.5, 1.0]}
    config = SamplerConfig.parse({"name": name, "args": {"sigma_min": 0.01}, "params": params}, "file")
    sampler = config.build_sampler()
    assert type(sampler) is FlowEulerSampler and sampler.path.sigma_min == 0.01
    assert (sampler.guidance is Guidance.OFF) == ("Cfg" not in name and "Guidance" not in name)
    assert config.params == SamplingParams(steps=25, cfg_interval=(0.5, 1.0))


@pytest.mark.parametrize(
    "raw, message",
    [
        ({"name": "Heun"}, "unknown name 'Heun'"),
        ({"name": "FlowEulerSampler", "args": {"sigma": 0}}, "unknown key 'sigma'"),
        ({"name": "FlowEulerSampler", "args": {"sigma_min": "0"}}, "sigma_min"),
        ({"name": "FlowEulerSampler", "params": {"steps": 0}}, "steps must be at least 1"),
        ({"args": {}}, "missing key 'name'"),
    ],
)
def test_bad_entries_are_named(raw: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        SamplerConfig.parse(raw, "pipeline.json: sampler")
    assert str(error.value).startswith("pipeline.json: sampler")


def test_overrides_replace_defaults_and_none_keeps_them() -> None:
    defaults = SamplingParams(steps=25, rescale_t=3.0)
    merged = merge_params(defaults, {"steps": 5, "rescale_t": None, "cfg_interval": [0.5, 1.0]}, "call")
    assert merged == SamplingParams(5, 3.0, cfg_interval=(0.5, 1.0))


@pytest.mark.parametrize(
    "setting, message", [("step", "unknown key 'step'"), ("steps", ".*steps must be at least 1")]
)
def test_bad_overrides_are_named(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"call: {message}"):
        merge_params(SamplingParams(), {setting: 0}, "call")
