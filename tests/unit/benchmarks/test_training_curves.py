"""Trainings beside their logs: by the clock of the log, and what counts as reached."""

import argparse
import json
import math

import pytest
import torch

from benchmarks import training_curves
from benchmarks.training_curves import LoggedClock, compare
from scenegen.trainers.trainer import Trainer
from tests.toy_training import Regression, Source, loop_config, records

LOG = {5: {"seconds": 5.0}, 10: {"seconds": 20.0}}  # the second half took three times as long


def test_a_step_takes_what_it_took_in_the_log(tmp_path):
    clock = LoggedClock(LOG)
    source, config = Source(), loop_config(max_steps=10, decay_fraction=0.5)
    trainer = clock.trainer = Trainer(Regression(), source, config, tmp_path, torch.device("cpu"), clock)
    trainer.run(time_limit_s=20.0, anneal=True)
    assert trainer.step == 10 and trainer.seconds == pytest.approx(17.0)  # each is told one step late
    rates = [record["lr"] for record in records(tmp_path)]
    assert rates[1:8] == [1e-3] * 7, "until ten of twenty seconds, which the log had after step 6"
    assert rates[8] == pytest.approx(1e-3 * (1 + math.cos(math.pi * 0.1)) / 2) and rates[9] < rates[8]


@pytest.mark.parametrize(
    ("losses", "reached"), [((1.0, 1.04), True), ((1.0, 0.5), True), ((1.0, 1.2), False), ((3.0, 1.0), True)]
)
def test_a_loss_is_reached_that_is_not_above_the_logged_one(tmp_path, capsys, losses, reached):
    log = {step: {"step": step, "loss": 1.0, "iou": 0.5, "lr": 1e-3} for step in (50, 100)}
    (tmp_path / "image_encoder").mkdir()
    trained = [{"step": step, "loss": loss, "iou": 0.5, "lr": 1e-3} for step, loss in zip((50, 100), losses)]
    text = "".join(json.dumps(record) + "\n" for record in trained)
    (tmp_path / "image_encoder" / "log.jsonl").write_text(text)
    options = argparse.Namespace(output=tmp_path, window=1, tolerance=0.05)
    assert compare(options, "image_encoder", log) == reached
    told = capsys.readouterr().out
    assert "| iou | 0.5000 | 0.5000 | +0.0% |" in told and ("NOT reached" in told) != reached
    assert "learning rates within 0.00%" in told


def test_logs_and_configurations_of_all_stages_are_there():
    for stage in training_curves.STAGES:
        log = training_curves.read_log(training_curves.LOGS / f"{stage}.jsonl")
        assert training_curves.STAGES[stage].steps in log
        assert (training_curves.CONFIGS / f"{stage}.json").is_file()
