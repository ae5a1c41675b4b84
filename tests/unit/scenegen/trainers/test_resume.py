"""A run that was stopped and goes on equals one that was not: every number of it, in every precision."""

import random

import numpy as np
import pytest
import torch

from scenegen.models.registry import build_model, load_checkpoint
from scenegen.trainers.loop_config import OptimizerConfig, ParameterGroup
from scenegen.trainers.objective import Objective
from scenegen.trainers.trainer import Trainer
from tests.toy_training import (
    Clock,
    Regression,
    Stopping,
    records,
    toy_trainer,
)
from trellis_modules.config import NamedConfig

CLIPPER = NamedConfig("AdaptiveGradClipper", {"max_norm": 1.0, "clip_percentile": 50, "buffer_size": 3})
FLOW = NamedConfig("SparseStructureFlowModel", {
    "resolution": 2, "in_channels": 2, "out_channels": 2, "model_channels": 8, "cond_channels": 4,
    "num_blocks": 2, "num_heads": 2, "patch_size": 1, "use_fp16": True,
})  # fmt: skip
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


class FlowRegression(Objective):
    """A flow model with 16-bit blocks that learns one velocity."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.flow = build_model(FLOW, "flow")
        self.flow.input_layer.requires_grad_(False)

    def forward(self, batch, generator):
        x, t = batch.x.reshape(4, 2, 2, 2, 2), torch.rand(4, generator=generator) * 1000
        loss = (self.flow(x, t, batch.x.reshape(4, 4, 4)).velocity - 1).pow(2).mean()
        return loss, {}


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


def test_six_steps_of_a_16_bit_network_with_flat_masters_equal_three_and_three(tmp_path):
    def trainer(folder, source=None):
        return toy_trainer(
            folder, source, objective=FlowRegression(), max_steps=6, i_save=3, fp16_mode="inflat_all"
        )

    whole = trainer(tmp_path / "whole")
    assert whole.objective.flow.blocks[0].mlp.mlp[0].weight.dtype == torch.float16
    whole.run()
    expected = everything(whole)
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "parts", Stopping(after=4)).run()
    second = trainer(tmp_path / "parts")
    assert second.resume() and second.step == 3 and second.run()
    found = everything(second)
    del expected["drawn"], found["drawn"]  # nothing draws from the generators of everybody
    assert_same(expected, found)
    assert records(tmp_path / "whole") == records(tmp_path / "parts")


def test_networks_of_a_saved_state_are_checkpoints(tmp_path):
    trainer = toy_trainer(
        tmp_path, objective=FlowRegression(), max_steps=2, ema_rate=0.5, fp16_mode="inflat_all"
    )
    trainer.run()
    masters = trainer.learner.named(trainer.learner.precision.flat_masters)
    for stem, tensors in (("flow_step0000002", masters), ("flow_ema0.5_step0000002", trainer.ema)):
        network = load_checkpoint(tmp_path / "ckpts" / stem)
        state = network.state_dict()
        assert all(torch.equal(state[name.removeprefix("flow.")], value) for name, value in tensors.items())
    average = {name: value.clone() for name, value in trainer.ema.items()}
    flow = trainer.averaged_networks()["flow"]
    assert {parameter.dtype for parameter in flow.parameters()} == {torch.float32}
    assert all(torch.equal(flow.get_parameter(n.removeprefix("flow.")), v) for n, v in average.items())


@pytest.mark.parametrize("anneal", [False, True])
def test_schedules_follow_saved_steps_or_seconds_over_resumes(tmp_path, anneal):
    def run(folder, source=None, limit_s=3.0):
        trainer = toy_trainer(
            folder, source, Clock(0.25), max_steps=12 if not anneal else 10**9, decay_fraction=0.5, i_save=4
        )
        resumed = trainer.resume()
        trainer.run(limit_s if anneal else 1e9, anneal)
        return trainer, resumed

    whole, _ = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", Stopping(after=6))
    parts, resumed = run(tmp_path / "parts")
    assert resumed and parts.step == whole.step == 12 and parts.seconds == whole.seconds == 3.0
    assert records(tmp_path / "whole") == records(tmp_path / "parts")
    rates = [record["lr"] for record in records(tmp_path / "parts")]
    assert rates[6:] == sorted(rates[6:], reverse=True) and rates[-1] < 1e-4 < rates[6]
    again, _ = run(tmp_path / "parts")
    assert again.step == 12  # the time of the whole run is over, or all steps are done
