"""Runs that go on with other numbers of processes, which hold networks whole or in parts."""

from pathlib import Path

import pytest

from scenegen.trainers.checkpoints import StateError
from tests.toy_processes import run_processes
from tests.toy_training import BlockRegression, records, toy_trainer
from tests.unit.scenegen.trainers.test_distributed import STEPS, STOPPED, assert_close, state

SIX = {1: {"size": 1, "batch_split": 6}, 2: {"size": 2, "batch_split": 3}, 3: {"size": 3, "batch_split": 2}}
"""Processes that share out six batches of every step."""

CHANGES = {
    "two_three": (SIX[2] | {"parallel": "fsdp2"}, SIX[3] | {"parallel": "fsdp2"}),
    "three_two": (SIX[3] | {"parallel": "fsdp2"}, SIX[2] | {"parallel": "fsdp2"}),
    "two_one": (SIX[2] | {"parallel": "fsdp2"}, SIX[1]),
    "one_two": (SIX[1], SIX[2] | {"parallel": "fsdp2"}),
}
"""Runs that are stopped, and what goes on with them."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, dict[str, list[int]]]:
    """Folder of all runs, and the exit statuses of the last run of each output."""
    folder = tmp_path_factory.mktemp("changing")
    groups = [{"output": "six", **SIX[1]}]
    for name, (before, after) in CHANGES.items():
        groups += [{"output": name, **before, "trouble": STOPPED | {"rank": 0}}]
        groups += [{"output": name, **after, "resume": True}]
    statuses = run_processes(folder, *({"max_steps": STEPS, "i_save": 3, **group} for group in groups))
    return folder, {group["output"]: status for group, status in zip(groups, statuses, strict=True)}


@pytest.mark.parametrize("change", CHANGES)
def test_other_numbers_of_processes_go_on_as_if_nothing_had_changed(runs, change):
    folder, statuses = runs
    after = CHANGES[change][1]
    assert statuses[change] == [0] * after["size"]
    expected, found = records(folder / "six"), records(folder / change)
    assert [record["step"] for record in found] == [record["step"] for record in expected]
    for first, second in zip(expected, found, strict=True):
        assert second == pytest.approx(first, rel=3e-6, nan_ok=True), first["step"]
    assert_close(state(folder, "six"), state(folder, change, rank=after["size"] - 1))


def test_another_order_of_samples_is_said(runs):
    folder, _ = runs
    options = {"max_steps": STEPS, "i_save": 3, "i_ddpcheck": 2, "batch_split": 5}
    alone = toy_trainer(folder / "two_one", objective=BlockRegression(), **options)
    told = []
    alone._reporter.tell = lambda text, *values: told.append(text % values)
    assert alone.resume()
    assert told[-1].startswith("a step has 5 slots (processes times batch_split) and had 6: samples come in")


def test_flat_masters_refuse_what_was_spread(runs):
    folder, _ = runs
    options = {"max_steps": STEPS, "i_save": 3, "i_ddpcheck": 2, "fp16_mode": "inflat_all"}
    alone = toy_trainer(folder / "two_one", objective=BlockRegression(), **options)
    with pytest.raises(StateError, match="expected an optimiser of 1 tensors, got another"):
        alone.resume()
