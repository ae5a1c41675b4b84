"""Golden families of training: the loss of the scene flow, and the clipping of gradients."""

from __future__ import annotations

import re
from collections.abc import Mapping
from unittest import mock

import torch
from torch import Tensor, nn

from scenegen.datasets.batch import SceneCaseBatch
from scenegen.trainers.grad_clip import AdaptiveGradClipper
from scenegen.trainers.objectives import conditions, released_scene_flow
from scenegen.trainers.objectives.released_scene_flow import (
    ReleasedSceneFlowObjective,
    ReleasedSceneFlowSettings,
)
from tests.parity.golden import GoldenCase, evaluate_input, family, make_input
from trellis_modules.flow_output import FlowOutput
from trellis_modules.samplers.flow_matching import FlowPath, TimeSchedule

_COUNT_AND_LABEL = re.compile(r"n=(\d+) assets.*lab = '(\w+)'")
_SPREAD = re.compile(r" \+ ([0-9.]+)\*make_input")
_EDGE = 8
_DRAWS = re.compile(r"make_input\('[^']*\{k\}',\([^()]*\)\)")
_NO_LIMIT = -1.0


class _GivenPrediction(nn.Module):
    """The stand-in for the denoiser: ignores what it is shown, but remembers it."""

    def __init__(self, velocity: Tensor, positions: Tensor) -> None:
        super().__init__()
        self.velocity, self.positions = velocity.requires_grad_(), positions.requires_grad_()

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor, **_arguments: int) -> FlowOutput:
        self.x_t, self.t = x_t, t
        return FlowOutput(self.velocity, {"positions": self.positions})


class _DecoderStub(nn.Module):
    def forward(self, latents: Tensor) -> Tensor:
        return latents[:, :2].mean(1, keepdim=True) - 0.3


def _step_inputs(case: GoldenCase, step: int) -> Mapping[str, Tensor]:
    """Data, draws and predictions of a step, by the rules of the case's description."""
    count, label = _COUNT_AND_LABEL.search(" ".join(map(str, case.meta["inputs"].values()))).groups()
    shape, label = (int(count), _EDGE, _EDGE, _EDGE, _EDGE), f"{label}.{step}"
    x_0, noise, error = (
        torch.from_numpy(make_input(f"{label}.{name}", shape)) for name in ("x0", "noise", "prederr")
    )
    pose_error = torch.from_numpy(make_input(f"{label}.poserr", (int(count), 8)))
    positions = case.tensors[f"step{step}.in.positions"]
    spread, pose_spread = (
        float(_SPREAD.search(case.meta["inputs"][name])[1]) for name in ("pred", "pred_positions")
    )
    target = FlowPath(case.config["sigma_min"]).target_velocity(x_0, noise)
    return {
        "x_0": x_0,
        "noise": noise,
        "t": evaluate_input(f"make_uniform('{label}.t',({count},),0.02,0.98)"),
        "positions": positions,
        "velocity": target + spread * error,
        "predicted_positions": positions + pose_spread * pose_error,
    }


@family("training loss with positions")
def training_loss(case: GoldenCase) -> dict[str, Tensor]:
    """Consecutive steps of one objective, whose pose weight follows an average; gradients of step 0."""
    settings = ReleasedSceneFlowSettings(**case.config)
    with (
        mock.patch.object(conditions, "frozen_network", return_value=nn.Identity()),
        mock.patch.object(released_scene_flow, "frozen_network", return_value=_DecoderStub()),
    ):
        objective = ReleasedSceneFlowObjective(nn.Identity(), settings)
    computed = {}
    steps = 1 + max(int(name[4]) for name in case.tensors if name.startswith("step"))
    for step in range(steps):
        computed |= {f"step{step}.{name}": value for name, value in _run_step(case, objective, step).items()}
        case.skip(f"step{step}.in.positions", "an input")
    return computed


def _run_step(case: GoldenCase, objective: ReleasedSceneFlowObjective, step: int) -> dict[str, Tensor]:
    inputs = _step_inputs(case, step)
    denoiser = _GivenPrediction(inputs["velocity"], inputs["predicted_positions"])
    objective.denoiser = denoiser
    batch = SceneCaseBatch(
        inputs["x_0"],
        inputs["positions"],
        cond_tokens=torch.zeros(len(inputs["t"]), 5, 4),
        num_object_tokens=1,
    )
    with (
        mock.patch.object(TimeSchedule, "sample", return_value=inputs["t"]),
        mock.patch("torch.randn", return_value=inputs["noise"]),
    ):
        loss, logs = objective(batch, torch.Generator())
    objective.end_step(logs)
    velocity_gradient, pose_gradient = torch.autograd.grad(loss, [denoiser.velocity, denoiser.positions])
    return {
        **{name.replace("/", "."): value for name, value in logs.items()},
        "loss": loss,
        "ema_pos_weight": objective.pose_weight.average.clone(),
        "t_model": denoiser.t,
        "x_t_row0_ch0": denoiser.x_t[0, 0],
        "grad.pred_positions": pose_gradient,
        "grad.pred_row_last_ch0": velocity_gradient[-1, 0],
    }


@family("AdaptiveGradClipper")
def adaptive_grad_clipper(case: GoldenCase) -> dict[str, Tensor]:
    """Norms, limits and clipped gradients of successive calls, some with a gradient that is not finite."""
    scale, first, second = _DRAWS.findall(case.meta["inputs"]["gradients at call k"])
    broken = case.meta["inputs"]["calls with b[0]=inf"]
    clipper = AdaptiveGradClipper(**case.config)
    rows: dict[str, list[Tensor]] = {"norm": [], "max_norm": [], "g1": [], "g2": []}
    for call in range(len(case.tensors["norm"])):
        size, *gradients = (evaluate_input(text.replace("{k}", str(call))) for text in (scale, first, second))
        gradients = [size.exp() * gradient for gradient in gradients]
        if call in broken:
            gradients[1][0] = torch.inf
        rows["norm"].append(clipper(gradients))
        limit = clipper.limit.clone()
        rows["max_norm"].append(torch.where(limit.isinf(), _NO_LIMIT, limit))
        rows["g1"].append(gradients[0])
        rows["g2"].append(gradients[1])
    return {name: torch.stack(values) for name, values in rows.items()}
