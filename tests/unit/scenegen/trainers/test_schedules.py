"""Learning rates as functions of the step: ours, those of PyTorch, and what is refused."""

import pytest
import torch

from scenegen.trainers.loop_config import OptimizerConfig
from scenegen.trainers.optimizers import LearningRates, build_optimizer, trained_groups
from scenegen.trainers.schedules import TORCH_SCHEDULES, build_schedule
from trellis_modules.config import ConfigError, NamedConfig

ARGUMENTS = {
    "ConstantLR": {"factor": 0.5, "total_iters": 3},
    "CosineAnnealingLR": {"T_max": 6, "eta_min": 1e-4},
    "CosineAnnealingWarmRestarts": {"T_0": 4, "T_mult": 2},
    "ExponentialLR": {"gamma": 0.9},
    "LinearLR": {"start_factor": 0.25, "total_iters": 4},
    "MultiStepLR": {"milestones": [2, 5], "gamma": 0.1},
    "PolynomialLR": {"total_iters": 8, "power": 2.0},
    "StepLR": {"step_size": 3, "gamma": 0.5},
}
INITIAL = [1e-3, 4e-3]


def test_every_schedule_of_pytorch_is_tried():
    assert ARGUMENTS.keys() == TORCH_SCHEDULES.keys()


@pytest.mark.parametrize("name", ARGUMENTS)
def test_schedules_of_pytorch_give_its_rates_from_any_step_on(name):
    optimizer = torch.optim.SGD([{"params": [torch.zeros(1)], "lr": rate} for rate in INITIAL])
    scheduler = TORCH_SCHEDULES[name](optimizer, **ARGUMENTS[name])
    expected = []
    for _ in range(10):
        expected.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step(), scheduler.step()
    schedule = build_schedule(NamedConfig(name, ARGUMENTS[name]), INITIAL)
    assert [schedule.rates(INITIAL, step, 0.0) for step in range(10)] == expected
    assert schedule.rates(INITIAL, 4, 0.0) == expected[4]  # back
    resumed = build_schedule(NamedConfig(name, ARGUMENTS[name]), INITIAL)
    assert resumed.rates(INITIAL, 7, 0.0) == expected[7]


def test_rates_of_groups_keep_their_ratio_under_a_factor():
    groups = trained_groups(torch.nn.Linear(2, 2).named_parameters(), OptimizerConfig())
    config = OptimizerConfig("SGD", {"lr": 0.5})
    optimizer = build_optimizer(config, groups, [list(group.parameters) for group in groups])
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.25})
    rates = LearningRates(optimizer, NamedConfig("LinearWarmupLRScheduler", {"warmup_steps": 4}))
    assert [rates.set(step, 0.0) for step in (0, 1, 3, 9)] == [0.0625, 0.125, 0.25, 0.25]
    assert optimizer.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize(("name", "args", "told"), [
    ("LambdaLR", {}, "trainer.lr_scheduler: unknown name 'LambdaLR'"),
    ("StepLR", {"size": 3}, "trainer.lr_scheduler 'StepLR': "),
    ("CosineAnnealingLR", {"T_max": 0}, "trainer.lr_scheduler 'CosineAnnealingLR': "),
    ("LinearLR", {"start_factor": 2.0}, "Starting multiplicative factor"),
    ("LinearWarmupLRScheduler", {"warmup_steps": -1}, "warmup_steps: expected at least 0, got -1"),
])  # fmt: skip
def test_a_schedule_that_is_none_is_refused_in_one_line(name, args, told):
    with pytest.raises(ConfigError) as error:
        build_schedule(NamedConfig(name, args), INITIAL)
    assert told in str(error.value) and "\n" not in str(error.value)
