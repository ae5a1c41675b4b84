"""What a run tells: means that leave out what nobody said, one record a line, the same for TensorBoard."""

import json
import math
import sys

import pytest
import torch

from scenegen.trainers.logs import LogFile, Means, rounded
from tests.toy_training import BlockRegression, Stopping, records, toy_trainer


def test_means_leave_out_what_is_no_number_and_begin_anew():
    means = Means()
    for value, other in ((1.0, math.nan), (2.0, 5.0), (math.inf, math.nan)):
        means.add({"a": torch.tensor(value), "b": torch.tensor(other), "c": torch.tensor(math.nan)})
    told = means.take()
    assert told["a"] == math.inf and told["b"] == 5.0 and math.isnan(told["c"]) and not means.take()


def test_means_go_on_in_the_middle_of_an_interval():
    first, second = Means(), Means()
    first.add({"a": torch.tensor(1.0), "b": torch.tensor(math.nan)})
    second.load_state_dict(first.state_dict())
    for means in (first, second):
        means.add({"a": torch.tensor(2.0), "b": torch.tensor(3.0)})
    assert first.take() == second.take() == {"a": 1.5, "b": 3.0}


def test_numbers_that_json_cannot_hold_are_null():
    assert rounded(1 / 3) == 0.3333333 and rounded(math.nan) is None and rounded(math.inf) is None


def test_a_log_is_cut_back_to_a_step_and_loses_its_broken_end(tmp_path):
    path = tmp_path / "log.jsonl"
    log = LogFile(path)
    log.cut_back(5)  # there is none yet
    for step in (1, 2, 3, 4):
        log.append({"step": step, "loss": 0.5})
    with path.open("a") as file:
        file.write('{"step": 2, "lo')
    log.cut_back(3)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]
    log.cut_back(-1)
    assert path.read_text() == ""


def test_lines_that_are_no_records_are_cut_off(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\nnothing\n[1]\n{"steps": 1}\n{"step": true, "a": NaN}\n{"step": 2}\n')
    LogFile(path).cut_back(2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_a_run_that_starts_anew_drops_the_log_of_the_one_before(tmp_path):
    first = toy_trainer(tmp_path, Stopping(after=3))
    with pytest.raises(KeyboardInterrupt):
        first.run()
    assert len(records(tmp_path)) == 3
    toy_trainer(tmp_path, max_steps=2).run()
    assert [record["step"] for record in records(tmp_path)] == [1, 2]


def test_records_hold_speed_waiting_memory_and_norms_of_parameters(tmp_path):
    toy_trainer(tmp_path, objective=BlockRegression(), max_steps=4, i_log=2, log_param_stats=True).run()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]
    for line in lines:
        assert 0 < line["seconds_per_step"] < 10 and 0 <= line["data_wait"] <= 1 and line["memory_gib"] > 0
        norms = {name for name in line if name.startswith("param_norms/")}
        assert "param_norms/net.head.weight" in norms and "param_grads/net.rare.bias" in line
        assert not any("stem.weight" in name or "helper" in name for name in norms)  # they are not trained


def test_tensorboard_gets_the_same_numbers(tmp_path):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    first = toy_trainer(tmp_path, Stopping(after=3), i_save=2)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    second = toy_trainer(tmp_path, max_steps=4, i_save=2)
    second.resume()
    second.run()
    board = reading.EventAccumulator(str(tmp_path / "tb_logs")).Reload()
    events = board.Scalars("loss")
    assert [event.step for event in events] == [1, 2, 3, 4]  # step 3 of the broken run is hidden
    for event, record in zip(events, records(tmp_path), strict=True):
        assert event.value == pytest.approx(record["loss"], rel=1e-6)


def test_without_tensorboard_a_run_says_so_and_goes_on(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with caplog.at_level("INFO"):
        toy_trainer(tmp_path, max_steps=1).run()
    assert "TensorBoard is not installed: numbers go to log.jsonl alone" in caplog.text
    assert len(records(tmp_path)) == 1 and not (tmp_path / "tb_logs").exists()


def test_the_console_tells_progress_and_what_is_left(tmp_path, caplog):
    with caplog.at_level("INFO"):
        toy_trainer(tmp_path, max_steps=4, i_print=2).run()
    told = [message for message in caplog.messages if message.startswith("step 2 of 4 (50.0 %)")]
    assert len(told) == 1 and "steps an hour" in told[0] and "to go" in told[0]
