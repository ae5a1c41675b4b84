"""The Euler loop, guidance around it, and several views in turn."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from trellis_modules.flow_output import FlowOutput
from trellis_modules.samplers import FlowEulerSampler, FlowPath, Guidance, MultiViewCond, SamplingParams
from trellis_modules.samplers.conditioning import condition_schedule
from trellis_modules.samplers.flow_euler import sampling_times
from trellis_modules.samplers.flow_matching import PreparedTime


@dataclass
class _Recorder:
    """A model whose velocity and extra are the mean of its condition; keeps its calls."""

    calls: list[tuple[float, float]] = field(default_factory=list)

    def __call__(self, x_t: Tensor, t: Tensor, cond: Tensor) -> FlowOutput:
        level = cond.flatten(1).mean(dim=1)
        self.calls.append((float(t[0]) / 1000, float(level[0])))
        rows = level.reshape(-1, *[1] * (x_t.ndim - 1))
        return FlowOutput(torch.ones_like(x_t) * rows, {"level": level})


def _cond(level: float, rows: int = 2) -> Tensor:
    return torch.full((rows, 3, 4), float(level))


NOISE = torch.zeros(2, 1, 2, 2, 2)


def test_times_of_the_published_settings() -> None:
    times = sampling_times(25, 3.0)
    assert times[:3] == pytest.approx([1, 0.98630137, 0.97183099], abs=1e-8)
    assert times[-1] == 0 and len(times) == 26 and all(isinstance(t, float) for t in times)


def test_interval_guidance_takes_19_of_25_double_passes() -> None:
    model = _Recorder()
    params = SamplingParams(steps=25, rescale_t=3.0, cfg_strength=5.0, cfg_interval=(0.5, 1.0))
    FlowEulerSampler().sample(model, NOISE, _cond(1), _cond(0), params)
    assert len(model.calls) == 44
    assert all(t >= 0.5 for t, level in model.calls if level == 0)


def _times_in_plain_floats(steps: int, rescale_t: float) -> list[float]:
    """NumPy's evenly spaced times, operation by operation: ``start + index * step``, the last one exact."""
    even = [1.0 + index * (-1.0 / steps) for index in range(steps)] + [0.0]
    return [rescale_t * t / (1 + (rescale_t - 1) * t) for t in even]


@pytest.mark.parametrize("rescale_t", [0.5, 1.0, 2.0, 2.5, 3.0, 5.0])
def test_guidance_decides_as_the_original_where_a_step_falls_on_an_end(rescale_t: float) -> None:
    for steps in range(1, 61):
        expected = _times_in_plain_floats(steps, rescale_t)
        assert sampling_times(steps, rescale_t) == expected, f"{steps} steps"
        ends = {round(t, 2) for t in expected[:-1] if abs(t - round(t, 2)) < 1e-12}
        for end in ends:
            for interval in ((end, 1.0), (0.0, end)):
                model = _Recorder()
                params = SamplingParams(steps, rescale_t, cfg_strength=1.0, cfg_interval=interval)
                FlowEulerSampler().sample(model, NOISE, _cond(1), _cond(0), params)
                guided = sum(level == 0 for _, level in model.calls)
                inside = sum(interval[0] <= t <= interval[1] for t in expected[:-1])
                assert guided == inside, (steps, interval)


def test_a_time_just_outside_of_the_interval_is_not_guided() -> None:
    model = _Recorder()
    params = SamplingParams(steps=11, rescale_t=2.5, cfg_strength=1.0, cfg_interval=(0.2, 0.8))
    FlowEulerSampler().sample(model, NOISE, _cond(1), _cond(0), params)
    assert sum(level == 0 for _, level in model.calls) == 5  # 0.75 down to 0.357; the next is 0.2 - 2e-16


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_exact_velocity_ends_at_the_data(steps: int) -> None:
    generator = torch.Generator().manual_seed(steps)
    x_0, noise = (torch.randn(2, 1, 3, 3, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    path = FlowPath(0.0)
    sampler = FlowEulerSampler(0.0, Guidance.OFF)
    result = sampler.sample(
        lambda x_t, t, cond: FlowOutput(path.target_velocity(x_0, noise)),
        noise,
        _cond(0),
        params=SamplingParams(steps=steps, rescale_t=2.0),
        record_trajectory=True,
    )
    torch.testing.assert_close(result.samples, x_0)
    torch.testing.assert_close(result.pred_x_0, [x_0] * steps)


def test_velocity_is_guided_and_extras_are_not() -> None:
    result = FlowEulerSampler(guidance=Guidance.ALWAYS).sample(
        _Recorder(), NOISE, _cond(2), _cond(0.5), SamplingParams(steps=4, cfg_strength=3.0)
    )
    torch.testing.assert_close(result.samples, NOISE - (4 * 2 - 3 * 0.5))
    assert len(result.extras["level"]) == 4 and result.last("level").tolist() == [2, 2]
    assert torch.equal(NOISE, torch.zeros_like(NOISE)), "the noise must not change"


@pytest.mark.parametrize("sampler, strength", [(Guidance.OFF, 3.0), (Guidance.INTERVAL, 0.0)])
def test_no_second_pass_without_guidance(sampler: Guidance, strength: float) -> None:
    model = _Recorder()
    params = SamplingParams(steps=3, cfg_strength=strength)
    FlowEulerSampler(guidance=sampler).sample(model, NOISE, _cond(1), params=params)
    assert len(model.calls) == 3


def test_guidance_without_neg_cond_is_refused() -> None:
    with pytest.raises(ValueError, match="needs neg_cond"):
        FlowEulerSampler().sample(_Recorder(), NOISE, _cond(1))


def test_cond_rows_must_fit() -> None:
    with pytest.raises(ValueError, match=r"cond must have 1 or 2 rows.*\(3, 3, 4\)"):
        FlowEulerSampler(guidance=Guidance.OFF).sample(_Recorder(), NOISE, _cond(1, rows=3))


def test_precomputed_context_reaches_the_model_as_it_is() -> None:
    context = {"keys": torch.zeros(1)}
    seen = []

    def model(x_t: Tensor, t: Tensor, cond: object) -> FlowOutput:
        seen.append(cond)
        return FlowOutput(x_t)

    FlowEulerSampler(guidance=Guidance.OFF).sample(model, NOISE, context, params=SamplingParams(steps=2))
    assert all(cond is context for cond in seen)


def test_views_take_turns_and_share_the_last_step() -> None:
    assert condition_schedule(MultiViewCond(("a", "b", "c")), 5) == [
        ("a",), ("b",), ("c",), ("a",), ("a", "b", "c"),
    ]  # fmt: skip
    assert condition_schedule("only", 2) == [("only",)] * 2


def test_more_views_than_steps_warns(caplog: pytest.LogCaptureFixture) -> None:
    assert condition_schedule(MultiViewCond(("a", "b", "c")), 2) == [("a",), ("a", "b", "c")]
    assert "3 views but only 2 steps" in caplog.text


def test_extras_of_views_are_averaged_by_the_given_function() -> None:
    cond = MultiViewCond((_cond(1), _cond(5)))
    result = FlowEulerSampler(guidance=Guidance.OFF).sample(
        _Recorder(),
        NOISE,
        cond,
        params=SamplingParams(steps=3),
        extras_mean=lambda name, estimates: estimates.amax(dim=0),
    )
    assert result.last("level").tolist() == [5, 5]
    torch.testing.assert_close(result.samples, NOISE - (1 + 5 + 3) / 3)


def test_progress_is_reported_after_every_step() -> None:
    reports = []
    sampler, params = FlowEulerSampler(guidance=Guidance.OFF), SamplingParams(steps=2)
    sampler.sample(_Recorder(), NOISE, _cond(1), params=params, on_step=lambda *step: reports.append(step))
    assert reports == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    "setting", [{"steps": 0}, {"rescale_t": 0.0}, {"cfg_interval": (0.8, 0.2)}, {"cfg_interval": (0.0, 1.5)}]
)
def test_settings_out_of_range_are_refused(setting: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        SamplingParams(**setting)


def test_a_model_is_told_what_it_has_made_of_all_times_before_the_first_step() -> None:
    seen, asked = [], []

    def prepare(times: Tensor) -> list[PreparedTime]:
        asked.append(times.tolist())
        return [PreparedTime(t, 2 * t[None]) for t in times.split(1)]

    def model(x_t: Tensor, t: PreparedTime, cond: Tensor) -> FlowOutput:
        seen.append(t.vectors.item())
        return FlowOutput(torch.ones_like(x_t))

    params = SamplingParams(steps=4, cfg_strength=1.0, cfg_interval=(0.6, 1.0))
    FlowEulerSampler().sample(model, NOISE, _cond(1), _cond(0), params, prepare_times=prepare)
    assert asked == [[250.0, 500.0, 750.0, 1000.0]]
    assert seen == [2000.0, 2000.0, 1500.0, 1500.0, 1000.0, 500.0]
