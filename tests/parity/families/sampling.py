"""Golden families of the samplers, the flow-matching algebra and the structure sampling stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from scenegen.conditioning.scene_conditioner import SceneCond
from scenegen.pipelines.sampling import occupied_coords, sample_structure, structure_noise
from tests.parity.golden import GoldenCase, family
from trellis_modules.flow_output import FlowOutput
from trellis_modules.samplers import FlowEulerSampler, FlowPath, MultiViewCond, SamplingParams, TimeSchedule
from trellis_modules.samplers.conditioning import arithmetic_mean
from trellis_modules.samplers.registry import SamplerConfig, merge_params


def _row_mean(value: Tensor) -> Tensor:
    return value.flatten(1).mean(dim=1)


@dataclass
class AnalyticFlow:
    """The closed-form model of the cases, which also records how it was called."""

    with_positions: bool
    calls_t: list[float] = field(default_factory=list)
    calls_cond_mean: list[float] = field(default_factory=list)

    def __call__(self, x_t: Tensor, t: Tensor, cond: Tensor, num_object_tokens: int = 0) -> FlowOutput:
        self.calls_t.append(float(t[0]))
        self.calls_cond_mean.append(float(cond.mean()))
        rows = (-1, *[1] * (x_t.ndim - 1))
        time = t.reshape(rows)
        velocity = 0.5 * x_t * torch.cos(0.001 * time) + 0.1 * _row_mean(cond).reshape(rows)
        velocity = velocity - 0.05 * x_t**2 * torch.tanh(0.002 * time)
        if not self.with_positions:
            return FlowOutput(velocity)
        columns = [_row_mean(x_t) * (k + 1) + 0.01 * t + _row_mean(cond) for k in range(8)]
        return FlowOutput(velocity, {"positions": torch.stack(columns, dim=1)})


@family(
    "FlowEulerSampler",
    "FlowEulerCfgSampler",
    "FlowEulerGuidanceIntervalSampler",
    "FlowEulerSamplerVGGT",
    "FlowEulerCfgSamplerVGGT",
    "FlowEulerGuidanceIntervalSamplerVGGT",
)
def sampler(case: GoldenCase) -> dict[str, Tensor]:
    """A whole sampling run, or the data that a velocity leads to."""
    args = {"sigma_min": case.config["sigma_min"]}
    instance = SamplerConfig.parse({"name": case.family, "args": args}, case.name).build_sampler()
    if "v" in case.meta["inputs"]:
        return _conversions(case, instance.path)
    cond = case.input("cond")
    if "num_images" in case.config:
        neg_cond, conditions = torch.full_like(cond[0], 0.3), MultiViewCond(tuple(cond))
    else:
        neg_cond, conditions = torch.full_like(cond, 0.3), cond
    model = AnalyticFlow(with_positions="positions" in case.tensors)
    result = instance.sample(
        model,
        case.input("noise"),
        conditions,
        neg_cond,
        merge_params(SamplingParams(), case.meta["sample_args"], case.name),
        record_trajectory=True,
    )
    computed = {
        "samples": result.samples,
        "pred_x_t": torch.stack(result.pred_x_t),
        "pred_x_0": torch.stack(result.pred_x_0),
        "calls_t": torch.tensor(model.calls_t, dtype=torch.float64),
        "calls_cond_mean": torch.tensor(model.calls_cond_mean, dtype=torch.float64),
    }
    if model.with_positions:
        computed["pred_pos_t"] = torch.stack(result.extras["positions"])
        computed["positions"] = result.last("positions")
    return computed


def _conversions(case: GoldenCase, path: FlowPath) -> dict[str, Tensor]:
    x_t, velocity = case.input("x_t"), case.input("v")
    computed = {}
    for name in case.tensors:
        kind, t = name.rsplit("_t", 1)
        if kind == "x0":
            computed[name] = path.x_0_from_velocity(x_t, velocity, float(t))
        else:
            case.skip(name, "neither sampling nor training converts to or from noise")
    return computed


@family("flow-matching interpolation")
def interpolation(case: GoldenCase) -> dict[str, Tensor]:
    """States, the data recovered from them, and velocity targets."""
    path = FlowPath(case.config["sigma_min"])
    x_0, noise, t = case.input("x_0"), case.input("noise"), case.tensors["t"]
    case.skip("t", "an input")
    x_t, velocity = path.diffuse(x_0, noise, t), path.target_velocity(x_0, noise)
    return {"x_t": x_t, "v": velocity, "reverse": path.x_0_from_velocity(x_t, velocity, t)}


@family("t_schedule")
def time_schedule(case: GoldenCase) -> dict[str, Tensor]:
    """Training times for given draws of the generator."""
    computed = {}
    for name in case.tensors:
        kind, *numbers = name.replace("_mean", "_").replace("_std", "_").split("_")
        schedule = TimeSchedule(kind, *map(float, numbers))
        normal, uniform = case.input("normal draws"), case.input("uniform draws")
        with mock.patch("torch.randn", return_value=normal), mock.patch("torch.rand", return_value=uniform):
            computed[name] = schedule.sample(len(normal))
    return computed


@family("structure sampling")
def structure_sampling(case: GoldenCase) -> dict[str, Tensor]:
    """Noise to occupied voxels and poses, with the plain mean of poses that the cases hold."""
    config = case.config
    cond, noise = case.input("cond"), case.input("noise")
    conditions = MultiViewCond(tuple(cond)) if cond.ndim == 4 else cond
    neg_cond = torch.zeros_like(cond[0] if cond.ndim == 4 else cond)
    with mock.patch("torch.randn", return_value=noise):
        drawn = structure_noise(len(noise), noise.shape[1], noise.shape[2], torch.Generator())
    defaults = merge_params(SamplingParams(), config["default sampler params"], case.name)
    sample = sample_structure(
        AnalyticFlow(with_positions=True),
        FlowEulerSampler(sigma_min=1e-5),
        SceneCond(conditions, neg_cond, num_object_tokens=cond.shape[-2]),
        drawn,
        merge_params(defaults, config["override"], case.name),
        positions_type=config["positions_type"],
        extras_mean=arithmetic_mean,
    )
    logits = F.interpolate(sample.latents[:, :1], scale_factor=2, mode="nearest") - 0.2
    return {"positions": sample.positions, "coords": occupied_coords(logits)}


@family("occupancy -> coords")
def occupancy_to_coords(case: GoldenCase) -> dict[str, Tensor]:
    """Occupied voxels of given logits."""
    return {"coords": occupied_coords(case.input("logits") - 2.6)}
