"""A run that was stopped and goes on equals one that was not: every number of it, in every precision."""

import random

import numpy as np
import pytest
import torch

from scenegen.trainers.loop_config import OptimizerConfig, ParameterGroup
from scenegen.trainers.trainer import Trainer
from tests.toy_training import (
    Regression,
    Stopping,
    records,
    toy_trainer,
)
from trellis_modules.config import NamedConfig

CLIPPER = NamedConfig("AdaptiveGradClipper", {"max_norm": 1.0, "clip_percentile": 50, "buffer_size": 3})
GROUPS = (ParameterGroup(r"net\.4", {"lr": 2e-3}),)


class Averaging(Regression):
    """Keeps an average of its loss, as objectives keep that of the ratio of two terms."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean_loss", torch.zeros(()))

    def forward(self, batch, generator):
        loss, logs = super().forward(batch, generator)
        spread = random.random() + float(np.random.rand()) + float(torch.rand(()))  # generators of everybody
        return loss * (1 + spread + self.mean_loss), logs

    def end_step(self, logs):
        self.mean_loss.copy_(0.9 * self.mean_loss + 0.1 * logs["error"])


def seeded(folder, seed=0, **options) -> Trainer:
    defaults = {"i_log": 4, "grad_clip": CLIPPER, "ema_rate": (0.9, 0.5), "groups": GROUPS, "max_steps": 6}
    trainer = toy_trainer(folder, objective=Averaging(), **{**defaults, **options})
    torch.manual_seed(seed), random.seed(seed), np.random.seed(seed)
    return trainer


def everything(trainer: Trainer) -> dict[str, object]:
    """Every number that a step changes."""
    learner = trainer.learner
    state = {f"objective.{name}": value for name, value in trainer.objective.state_dict().items()}
    state |= {f"master.{name}": v for name, v in learner.named(learner.precision.flat_masters).items()}
    for rate, tensors in zip(learner.averages.rates, learner.averages.tensors, strict=True):
        state |= {f"ema{rate}.{name}": value for name, value in learner.named(tensors).items()}
    for index, moments in learner.optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
    state |= {f"clipper.{name}": value for name, value in learner.clipper.state_dict().items()}
    numbers = {"scale": learner.precision.state_dict(), "step": trainer.step}
    numbers["groups"] = learner.optimizer.state_dict()["param_groups"]
    numbers["drawn"] = (random.random(), float(np.random.rand()), float(torch.rand(())))
    return {**{name: value.detach().clone() for name, value in state.items()}, **numbers}


def assert_same(first: dict[str, object], second: dict[str, object]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        same = torch.equal(value, second[name]) if isinstance(value, torch.Tensor) else value == second[name]
        assert same, name


@pytest.mark.parametrize("options", [
    {"fp16_mode": None},
    {"fp16_mode": "amp"},
    {"fp16_mode": "inflat_all", "fp16_scale_growth": 0.005},
    {"fp16_mode": "bfloat16", "batch_split": 2},
    {"optimizer": OptimizerConfig("SGD", {"lr": 0.01, "momentum": 0.9}, GROUPS),
     "lr_scheduler": NamedConfig("CosineAnnealingLR", {"T_max": 6, "eta_min": 1e-4})},
    {"optimizer": OptimizerConfig("RMSprop", {"lr": 0.01}, GROUPS),
     "lr_scheduler": NamedConfig("MultiStepLR", {"milestones": [2, 4]})},
], ids=["float32", "amp", "inflat_all", "split", "SGD", "RMSprop"])  # fmt: skip
def test_six_steps_equal_three_and_three_bit_for_bit(tmp_path, options):
    whole = seeded(tmp_path / "whole", **options)
    assert whole.run()
    expected = everything(whole)
    parts = tmp_path / "parts"
    first = seeded(parts, i_save=3, **options)
    first.source = Stopping(after=3)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    second = seeded(parts, seed=9, **options)
    assert second.resume() and second.step == 3
    assert second.run()
    assert_same(expected, everything(second))
    assert records(tmp_path / "whole") == records(parts)
    assert [record["step"] for record in records(parts)] == [4]
