"""Flow-matching algebra and training times."""

from __future__ import annotations

import pytest
import torch

from trellis_modules.samplers.flow_matching import FlowPath, TimeSchedule, model_time


@pytest.mark.parametrize("sigma_min", [0.0, 1e-5, 0.1])
def test_the_velocity_leads_back_to_the_data(sigma_min: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x_0, noise = (torch.randn(3, 2, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    path, t = FlowPath(sigma_min), torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    x_t, velocity = path.diffuse(x_0, noise, t), path.target_velocity(x_0, noise)
    torch.testing.assert_close(path.x_0_from_velocity(x_t, velocity, t), x_0)


def test_velocity_is_the_derivative_of_the_path() -> None:
    path = FlowPath(0.1)
    x_0, noise = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    difference = (path.diffuse(x_0, noise, 0.6) - path.diffuse(x_0, noise, 0.4)) / 0.2
    torch.testing.assert_close(path.target_velocity(x_0, noise), difference)


def test_model_time_is_scaled_once_for_numbers_and_rows() -> None:
    assert model_time(0.25, 3, "cpu").tolist() == [250.0] * 3
    rows = model_time(torch.tensor([0.5, 1.0], dtype=torch.float64), 2, "cpu")
    assert rows.tolist() == [500.0, 1000.0] and rows.dtype == torch.float32


@pytest.mark.parametrize("schedule", [TimeSchedule("uniform"), TimeSchedule("logitNormal", 1.0, 1.0)])
def test_times_are_reproducible_and_inside_the_unit_interval(schedule: TimeSchedule) -> None:
    times = schedule.sample(2000, generator=torch.Generator().manual_seed(3))
    assert torch.equal(times, schedule.sample(2000, generator=torch.Generator().manual_seed(3)))
    assert times.min() >= 0 and times.max() <= 1
    expected = 0.5 if schedule.name == "uniform" else torch.sigmoid(torch.tensor(1.0))
    assert times.median() == pytest.approx(float(expected), abs=0.03)


@pytest.mark.parametrize("arguments, message", [(("normal",), "name must be"), (("uniform", 0, 0), "std")])
def test_bad_schedule_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TimeSchedule(*arguments)


def test_bad_sigma_is_refused() -> None:
    with pytest.raises(ValueError, match="sigma_min"):
        FlowPath(1.0)
