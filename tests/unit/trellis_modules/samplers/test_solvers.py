"""Solvers on a flow whose solution is known: how fast they approach it, and what they ask of a model."""

import math

import pytest
import torch
from torch import Tensor

from trellis_modules.flow_output import FlowOutput
from trellis_modules.samplers import FlowEulerSampler, SamplingParams
from trellis_modules.samplers.flow_euler import sampling_times
from trellis_modules.samplers.flow_matching import MODEL_TIME_SCALE, FlowPath, PreparedTime
from trellis_modules.samplers.solvers import SOLVERS
from trellis_modules.sparse import SparseTensor

MEAN, STD = 0.7, 0.4  # of the data, which are normal
NOISE = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
ORDERS = {"euler": 1, "midpoint": 2, "heun": 2, "multistep": 2}
PASSES = {"euler": 8, "midpoint": 16, "heun": 15, "multistep": 8}  # of eight steps


def spread(t: float) -> float:
    """Standard deviation of states at a time."""
    return math.hypot((1 - t) * STD, t)


def flow(x_t: Tensor, t: Tensor, cond: object) -> FlowOutput:
    """The velocity of normal data: states keep their place in their distribution, which moves and widens."""
    time = t.flatten()[0].double().item() / MODEL_TIME_SCALE
    place = (x_t - (1 - time) * MEAN) / spread(time)
    growth = (time - (1 - time) * STD**2) / spread(time)
    return FlowOutput(place * growth - MEAN, {"time": torch.tensor(time)})


def sample(solver: str, steps: int, **options) -> Tensor:
    params = SamplingParams(steps, options.pop("rescale_t", 1.0), 0.0, solver=solver)
    return FlowEulerSampler(sigma_min=0.0).sample(flow, NOISE, None, None, params, **options).samples


def error(solver: str, steps: int, **options) -> float:
    return float((sample(solver, steps, **options) - (MEAN + STD * NOISE)).abs().max())


@pytest.mark.parametrize("rescale_t", [1.0, 3.0])
@pytest.mark.parametrize("solver", SOLVERS)
def test_twice_the_steps_divide_the_error_by_two_to_the_order(solver: str, rescale_t: float) -> None:
    coarse, fine = (error(solver, steps, rescale_t=rescale_t) for steps in (64, 128))
    order = math.log2(coarse / fine)
    assert order > ORDERS[solver] - 0.25 and (solver != "euler" or order < 1.25)


@pytest.mark.parametrize("solver", [name for name in SOLVERS if name != "euler"])
def test_second_order_is_nearer_than_eulers_with_as_many_passes(solver: str) -> None:
    assert error(solver, 16 * 8 // PASSES[solver]) < 0.5 * error("euler", 16)


@pytest.mark.parametrize("solver", SOLVERS)
def test_predictions_are_asked_for_at_the_times_that_were_told_before(solver: str) -> None:
    asked, seen = [], []

    def prepare(times: Tensor) -> list[PreparedTime]:
        asked.extend(times.tolist())
        return [PreparedTime(t, t[None]) for t in times.split(1)]

    def model(x_t: Tensor, t: PreparedTime, cond: object) -> FlowOutput:
        seen.append(float(t.vectors))
        return flow(x_t, t.t, cond)

    sampler, params = FlowEulerSampler(), SamplingParams(8, cfg_strength=0.0, solver=solver)
    sampler.sample(model, NOISE, None, None, params, prepare_times=prepare)
    looks = SOLVERS[solver].looks(sampling_times(8))
    assert seen == pytest.approx([MODEL_TIME_SCALE * look for look in looks]) and len(seen) == PASSES[solver]
    assert sorted(set(seen)) == asked


@pytest.mark.parametrize("solver", SOLVERS)
def test_one_step_and_a_straight_flow_need_no_second_order(solver: str) -> None:
    def straight(x_t: Tensor, t: Tensor, cond: object) -> FlowOutput:
        return FlowOutput(NOISE - 3.0)

    for steps in (1, 5):
        params = SamplingParams(steps, cfg_strength=0.0, solver=solver)
        result = FlowEulerSampler(sigma_min=0.0).sample(straight, NOISE, None, None, params)
        torch.testing.assert_close(result.samples, torch.full_like(NOISE, 3.0))


@pytest.mark.parametrize("solver", SOLVERS)
def test_known_parts_are_where_they_belong_in_every_pass(solver: str) -> None:
    path, x_0, noise = FlowPath(0.0), torch.full_like(NOISE, 0.25), NOISE
    held = torch.arange(len(NOISE))[:, None] % 2 == 0

    def constrain(x_t: Tensor, t: float) -> Tensor:
        return torch.where(held, path.diffuse(x_0, noise, t), x_t)

    def model(x_t: Tensor, t: Tensor, cond: object) -> FlowOutput:
        expected = path.diffuse(x_0, noise, t[0].double().item() / MODEL_TIME_SCALE)
        torch.testing.assert_close(x_t[held], expected[held], atol=1e-6, rtol=0)
        return flow(x_t, t, cond)

    params = SamplingParams(5, cfg_strength=0.0, solver=solver)
    result = FlowEulerSampler(0.0).sample(model, NOISE, None, None, params, constrain=constrain)
    assert torch.equal(result.samples[held], x_0[held])


@pytest.mark.parametrize("solver", SOLVERS)
def test_voxels_are_moved_like_numbers(solver: str) -> None:
    coords = torch.tensor([(0, 0, 0, row) for row in range(9)])

    def model(x_t: SparseTensor, t: Tensor, cond: object) -> FlowOutput:
        output = flow(x_t.feats, t, cond)
        return FlowOutput(x_t.replace(output.velocity), output.extras)

    params = SamplingParams(6, cfg_strength=0.0, solver=solver)
    result = FlowEulerSampler(0.0).sample(model, SparseTensor(NOISE, coords, 1), None, None, params)
    torch.testing.assert_close(result.samples.feats, sample(solver, 6))


def test_guidance_is_asked_for_in_every_pass_and_extras_are_those_of_the_last() -> None:
    calls = []

    def model(x_t: Tensor, t: Tensor, cond: Tensor) -> FlowOutput:
        calls.append(float(cond[0, 0, 0]))
        return flow(x_t, t, cond)

    conds = [torch.full((len(NOISE), 1, 1), value) for value in (1.0, 0.0)]
    params = SamplingParams(3, cfg_strength=2.0, cfg_interval=(0.4, 1.0), solver="midpoint")
    result = FlowEulerSampler(0.0).sample(model, NOISE, *conds, params)
    # Passes at 1, 5/6, 2/3, 1/2, 1/3 and 1/6: the last two are not guided.
    assert calls == [1.0, 0.0] * 4 + [1.0, 1.0]
    assert float(result.last("time")) == pytest.approx(1 / 6)


def test_nothing_is_extrapolated_over_a_jump_of_the_velocity() -> None:
    def model(x_t: Tensor, t: Tensor, cond: Tensor) -> FlowOutput:
        return FlowOutput(cond[:, 0].expand_as(x_t))

    conds = [torch.full((len(NOISE), 1, 1), value, dtype=torch.float64) for value in (1.0, 0.0)]
    results = []
    for solver in ("euler", "multistep"):  # both are exact where the velocity is constant between jumps
        params = SamplingParams(8, cfg_strength=2.0, cfg_interval=(0.3, 0.7), solver=solver)
        results.append(FlowEulerSampler(0.0).sample(model, NOISE, *conds, params).samples)
    torch.testing.assert_close(*results)


def test_an_unknown_solver_is_refused() -> None:
    with pytest.raises(ValueError, match="solver must be one of .*multistep.*, got 'rk4'"):
        SamplingParams(solver="rk4")
