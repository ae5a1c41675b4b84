"""The loop: resuming, schedules, limits, what is logged and what is left alone."""

import pytest
import torch
from torch import nn

from scenegen.trainers.loop_config import LoopConfig, OptimizerConfig, ParameterGroup
from scenegen.trainers.schedules import WarmupCosine
from scenegen.trainers.trainer import Trainer
from tests.toy_training import (
    BlockRegression,
    Clock,
    Points,
    Regression,
    Source,
    Stopping,
    loop_config,
    records,
    toy_trainer,
)
from trellis_modules.config import ConfigError


def test_stopped_and_resumed_run_equals_an_uninterrupted_one(tmp_path):
    whole = toy_trainer(tmp_path / "whole")
    whole.run()
    first = toy_trainer(tmp_path / "parts", Stopping(after=7))
    with pytest.raises(KeyboardInterrupt):
        first.run()
    second = toy_trainer(tmp_path / "parts")
    assert second.resume() and second.step == 7
    assert second.run()
    for name, value in whole.objective.state_dict().items():
        assert torch.equal(value, second.objective.state_dict()[name]), name
        assert torch.equal(whole.ema[name], second.ema[name]), name


def test_training_lowers_the_loss_and_logs_every_step(tmp_path):
    toy_trainer(tmp_path, max_steps=300, learning_rate=0.02).run()
    logged = records(tmp_path)
    assert [r["step"] for r in logged] == list(range(1, 301))
    assert logged[-1]["loss"] < 0.1 * logged[0]["loss"]


def test_non_finite_gradients_leave_the_weights_alone(tmp_path):
    trainer = toy_trainer(tmp_path, Source(bad_step=0), max_steps=1)
    before = {n: v.clone() for n, v in trainer.objective.state_dict().items()}
    trainer.run()
    assert all(torch.equal(before[n], v) for n, v in trainer.objective.state_dict().items())
    assert records(tmp_path)[0]["skipped"] == 1


def test_time_limit_saves_a_state_and_says_unfinished(tmp_path):
    trainer = toy_trainer(tmp_path, clock=Clock(0.25), max_steps=10**9)
    assert not trainer.run(time_limit_s=2.0)
    assert trainer.step == 8 and trainer.seconds == 2.0 and trainer.store.steps() == [8, 7]
    assert not list(tmp_path.rglob(".*.part"))
    resumed = toy_trainer(tmp_path, clock=Clock(0.5), max_steps=10**9)
    assert resumed.resume() and not resumed.run(time_limit_s=1.0)
    assert resumed.step == 10 and resumed.seconds == 3.0  # the limit is of the call, the seconds of all calls


def test_learning_rate_warms_up_holds_and_decays_to_zero():
    schedule = WarmupCosine(warmup_steps=10, decay_fraction=0.5)
    rates = {step: schedule.factor(step, step / 100) for step in (0, 9, 50, 75, 100)}
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[50] == 1.0
    assert rates[75] == pytest.approx(0.5) and rates[100] == pytest.approx(0.0)


def test_annealing_ends_the_schedule_with_the_time_limit(tmp_path):
    trainer = toy_trainer(tmp_path, clock=Clock(0.5), max_steps=10**9, decay_fraction=0.5)
    trainer.run(time_limit_s=5.0, anneal=True)
    rates = [record["lr"] for record in records(tmp_path)]
    assert rates[:6] == [5e-4] + [1e-3] * 5 and rates[-1] < 1e-4  # warm-up, constant, then the decay
    assert rates[5:] == sorted(rates[5:], reverse=True) and rates[7] == pytest.approx(6.5451e-4, rel=1e-4)
    with pytest.raises(ValueError, match="anneal needs a finite time_limit_s"):
        trainer.run(anneal=True)


def test_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="trainer.fp16_mode: expected"):
        LoopConfig(max_steps=1, fp16_mode="float16")


@pytest.mark.gpu
@pytest.mark.parametrize("options", [
    {}, {"batch_split": 2}, {"fp16_mode": "bfloat16"}, {"fp16_mode": "amp"}, {"fp16_mode": "inflat_all"},
    {"fp16_mode": "inflat_all", "batch_split": 2},
], ids=str)  # fmt: skip
def test_recorded_graphs_train_like_eager_steps(tmp_path, options):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    trainers = []
    for graphs in (False, True):
        trainer = toy_trainer(tmp_path / str(graphs), device="cuda", cuda_graphs=graphs, **options)
        trainer.run()
        trainers.append(trainer)
    for eager, graphed in zip(*(t.objective.state_dict().values() for t in trainers), strict=True):
        torch.testing.assert_close(eager, graphed)
    losses = [[record["loss"] for record in records(trainer.output_dir)] for trainer in trainers]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_groups_give_the_tensors_they_find_rates_of_their_own(tmp_path):
    weights = {}
    for factor in (1.0, 0.25):
        groups = (ParameterGroup(r"net\.4", {"lr": factor * 1e-3}), ParameterGroup("weight", {}))
        trainer = toy_trainer(tmp_path / str(factor), max_steps=1, groups=groups)
        before = {n: v.clone() for n, v in trainer.objective.state_dict().items()}
        trainer.run()
        weights[factor] = {n: v - before[n] for n, v in trainer.objective.state_dict().items()}
    assert weights[1.0]["net.4.weight"].any()
    for name, change in weights[1.0].items():
        expected = 0.25 * change if name.startswith("net.4") else change
        torch.testing.assert_close(weights[0.25][name], expected, atol=1e-7, rtol=1e-3)


@pytest.mark.parametrize(
    ("regexes", "message"),
    [
        (["head"], "param_groups: expected a regular expression that fits a trained parameter, got 'head'"),
        (["net", "weight"], "got 'weight', which fits none that no group before it fits"),
        (["net("], "param_groups: expected a regular expression, got 'net\\('"),
    ],
)
def test_a_group_of_nothing_is_refused(tmp_path, regexes, message):
    with pytest.raises(ConfigError, match=message):
        toy_trainer(tmp_path, groups=tuple(ParameterGroup(regex, {"lr": 0.5}) for regex in regexes))


def test_what_the_optimiser_refuses_is_told_in_its_name(tmp_path):
    with pytest.raises(ConfigError, match=r"trainer.optimizer AdamW: Invalid learning rate: -1"):
        toy_trainer(tmp_path, learning_rate=-1.0)
    with pytest.raises(ConfigError, match="trainer.optimizer: unknown name 'Newton'"):
        toy_trainer(tmp_path, optimizer=OptimizerConfig("Newton"))


def test_networks_that_are_not_trained_stay_in_eval_mode(tmp_path):
    objective = Regression()
    objective.frozen = nn.BatchNorm1d(4).requires_grad_(False)
    config = loop_config(max_steps=1)
    Trainer(objective, Source(), config, tmp_path, torch.device("cpu")).run()
    assert not objective.frozen.training and objective.net.training


class Halving(Regression):
    """Decides for some steps that the loss counts half."""

    def decide(self, generator):
        return (bool(torch.rand((), generator=generator) < 0.5),)

    def forward(self, batch, generator, half=False):
        loss, logs = super().forward(batch, generator)
        return loss * (0.5 if half else 1.0), {"half": torch.tensor(float(half)), **logs}


def test_decisions_depend_on_the_step_alone_and_reach_the_loss(tmp_path):
    logs = []
    for name in ("first", "second"):
        config = loop_config(learning_rate=0.0)
        Trainer(Halving(), Source(), config, tmp_path / name, torch.device("cpu")).run()
        logs.append(records(tmp_path / name))
    assert {record["half"] for record in logs[0]} == {0.0, 1.0}
    assert [record["half"] for record in logs[0]] == [record["half"] for record in logs[1]]
    for record in logs[0]:
        assert record["loss"] == pytest.approx(record["error"] * (0.5 if record["half"] else 1.0), rel=1e-3)


def test_averaged_networks_are_the_children_of_the_objective(tmp_path):
    trainer = toy_trainer(tmp_path, max_steps=3)
    trainer.run()
    average = {name: value.clone() for name, value in trainer.ema.items()}
    networks = trainer.averaged_networks()
    assert networks.keys() == {"net"}
    for name, value in networks["net"].state_dict().items():
        assert torch.equal(value, average[f"net.{name}"])


class Looking:
    """Writes down what it is shown, and draws from everybody's generator."""

    every = 2

    def __init__(self, trainer, values=()):
        self.trainer, self.values, self.seen = trainer, iter(values), []

    def __call__(self, step, suffix):
        objective, torch_number = self.trainer.objective, float(torch.rand(()))
        weight = objective.net[0].weight.detach().clone()
        self.seen.append((step, suffix, objective.training, weight, torch_number))
        return {"validation": next(self.values, 1.0), "validation/error": 0.25}


def test_watchers_see_averaged_weights_and_leave_nothing_behind(tmp_path):
    plain = toy_trainer(tmp_path / "plain", max_steps=5, ema_rate=0.9)
    plain.run()
    watched = toy_trainer(tmp_path / "watched", max_steps=5, ema_rate=0.9)
    looking = Looking(watched)
    watched.watch(looking)
    watched.run()
    assert [(step, suffix) for step, suffix, *_ in looking.seen] == [
        (0, "init"), (2, "step0000002"), (4, "step0000004"), (5, "final"),
    ]  # fmt: skip
    assert not any(training for _, _, training, *_ in looking.seen)
    assert torch.equal(looking.seen[-1][3], watched.ema["net.0.weight"])
    for name, value in plain.objective.state_dict().items():
        assert torch.equal(value, watched.objective.state_dict()[name]), name
    found = [record for record in records(tmp_path / "watched") if "validation" in record]
    assert [record["step"] for record in found] == [0, 2, 4, 5] and found[0]["validation/error"] == 0.25
    others = [record for record in records(tmp_path / "watched") if "validation" not in record]
    assert others == records(tmp_path / "plain")


def test_the_state_of_the_best_validation_is_kept(tmp_path):
    trainer = toy_trainer(tmp_path, max_steps=9, i_save=3, keep_last=1)
    trainer.watch(Looking(trainer, [0.0, 0.5, 0.25, 0.75]))  # the first is of the start, which is no state
    trainer.run()
    assert trainer.store.best() == (4, 0.25) and trainer.store.steps() == [9, 4]
    again = toy_trainer(tmp_path, max_steps=11, i_save=3, keep_last=1)
    again.watch(looking := Looking(again, [0.1, 0.3, 0.2]))  # the first is of the state that it goes on from
    assert again.resume() and again.run()
    assert [suffix for _, suffix, *_ in looking.seen] == ["resume_step0000009", "step0000010", "final"]
    assert again.store.best() == (11, 0.2) and again.store.steps() == [11]


def test_several_passes_learn_from_the_mean_of_their_batches(tmp_path):
    class Both(Source):
        def batch(self, step, slot=0, slots=1):
            parts = [super(Both, self).batch(step, part, 2).x for part in range(2)]
            return Points(torch.cat(parts))

    class Still(Regression):  # without noise, which each pass draws for itself
        def forward(self, batch, generator):
            loss = (self.net(batch.x) - batch.x.sum(1, keepdim=True)).pow(2).mean()
            return loss, {"error": loss.detach()}

    split = toy_trainer(tmp_path / "split", objective=Still(), max_steps=4, batch_split=2)
    whole = toy_trainer(tmp_path / "whole", Both(), objective=Still(), max_steps=4)
    split.run(), whole.run()
    for first, second in zip(records(tmp_path / "split"), records(tmp_path / "whole"), strict=True):
        assert first == pytest.approx(second, rel=1e-5)


def test_compiled_blocks_have_the_names_and_the_numbers_of_others(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    trainer = toy_trainer(tmp_path, objective=BlockRegression(), max_steps=1, compile=True)
    assert compiled == list(trainer.objective.net.blocks)
