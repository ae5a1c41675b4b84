"""Samplers of flow models: one Euler loop, guidance as a wrapper, several views by a condition schedule."""

from trellis_modules.samplers.conditioning import Cond, MultiViewCond
from trellis_modules.samplers.flow_euler import FlowEulerSampler, Guidance, SamplingParams, SamplingResult
from trellis_modules.samplers.flow_matching import FlowPath, TimeSchedule, model_time

__all__ = [
    "Cond",
    "FlowEulerSampler",
    "FlowPath",
    "Guidance",
    "MultiViewCond",
    "SamplingParams",
    "SamplingResult",
    "TimeSchedule",
    "model_time",
]
