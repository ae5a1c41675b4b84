"""Saved states on the disk: whole or not there, damaged ones passed over, the last and the best kept."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from scenegen.trainers import checkpoints
from scenegen.trainers.checkpoints import NetworkFile, StateError, StateStore
from tests.toy_training import Regression, Source, Stopping, records, toy_trainer
from trellis_modules.config import NamedConfig
from trellis_modules.files import atomic_write_text

KILLS = 20


@pytest.fixture
def store(tmp_path) -> StateStore:
    """A store with the states of three steps."""
    store = StateStore(tmp_path / "ckpts", keep_last=3)
    for step in (2, 4, 6):
        write(store, step)
    return store


def write(store: StateStore, step: int) -> None:
    value = torch.full((3,), float(step))
    networks = {
        "net": NetworkFile({"w": value}, NamedConfig("Net", {"width": 3})),
        "net_ema0.9": NetworkFile({"w": value}),
    }
    store.write(step, networks, {"moment": value}, {"seconds": 0.5})


def test_a_state_comes_back_with_all_its_files(store):
    state = store.read_latest()
    assert state.step == 6 and state.notes == {"seconds": 0.5} and state.shards is None
    assert torch.equal(state.tensors["moment"], torch.full((3,), 6.0))
    values = {name: float(tensors["w"][0]) for name, tensors in state.networks.items()}
    assert values == {"net": 6.0, "net_ema0.9": 6.0}
    assert json.loads((store.folder / "net_step0000006.json").read_text()) == {
        "name": "Net",
        "args": {"width": 3},
    }
    assert sorted(path.name for path in store.folder.glob("*_step0000002*")) == [
        "misc_step0000002.json", "misc_step0000002.safetensors", "net_ema0.9_step0000002.safetensors",
        "net_step0000002.json", "net_step0000002.safetensors",
    ]  # fmt: skip


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [flip, lambda path: path.write_bytes(path.read_bytes()[:-4]), Path.unlink])
@pytest.mark.parametrize("name", ["net", "net_ema0.9", "misc"])
def test_of_a_damaged_latest_state_the_one_before_is_taken(store, caplog, name, damage):
    damage(store.folder / f"{name}_step0000006.safetensors")
    assert store.read_latest().step == 4
    assert "misc_step0000006.json: expected the state of an earlier run" in caplog.messages[0]
    assert caplog.messages[-1] == "the state before it is taken: step 4"
    with pytest.raises(StateError, match=r"--ckpt STEP"):
        store.read(6)


def test_where_all_states_are_damaged_the_latest_is_told(store):
    for step in store.steps():
        (store.folder / f"misc_step{step:07d}.safetensors").unlink()
    with pytest.raises(StateError, match="misc_step0000006.json"):
        store.read_latest()


def test_a_step_that_was_not_saved_is_told_with_those_that_were(store):
    with pytest.raises(StateError, match="expected the saved state of step 5, found none; saved: 2, 4, 6"):
        store.read(5)


def test_after_going_back_later_states_are_not_the_latest(store):
    store.point_to(2)
    assert store.candidates() == [2] and store.read_latest().step == 2
    write(store, 3)
    assert store.candidates() == [3, 2]
    (store.folder / "latest.json").write_text("{")
    assert store.candidates() == [6, 4, 3, 2]


def test_the_last_states_and_the_best_are_kept(store):
    store.mark_best(2, 0.25)
    assert store.best() == (2, 0.25) and store.steps() == [6, 4, 2]
    for step in (8, 10):
        write(store, step)
    assert store.steps() == [10, 8, 6, 2]
    assert not list(store.folder.glob("*_step0000004*"))
    assert StateStore(store.folder, keep_last=None).best() == (2, 0.25)


@pytest.mark.parametrize("calls", range(5))
def test_a_full_disk_leaves_the_states_before_and_nothing_of_the_new_one(store, monkeypatch, calls):
    before = {path.name: path.read_bytes() for path in store.folder.iterdir()}
    left = iter(range(calls))

    def limited(function):
        def write(*arguments):
            if next(left, None) is None:
                raise OSError(28, "No space left on device")
            return function(*arguments)

        return write

    monkeypatch.setattr(checkpoints, "write_state", limited(checkpoints.write_state))
    monkeypatch.setattr(checkpoints, "atomic_write_text", limited(atomic_write_text))
    with pytest.raises(OSError, match="No space left"):
        write(store, 8)
    assert {path.name: path.read_bytes() for path in store.folder.iterdir()} == before


def test_what_a_kill_left_of_a_file_goes_with_the_next_state(store):
    (store.folder / ".net_step0000007.safetensors.part").write_bytes(b"half")
    write(store, 8)
    assert not list(store.folder.glob(".*")) and store.read_latest().step == 8


def test_files_outside_the_folder_are_not_read(store):
    path = store.folder / "misc_step0000006.json"
    content = json.loads(path.read_text())
    content["sha256"]["../../etc/passwd"] = "0"
    path.write_text(json.dumps(content))
    with pytest.raises(StateError, match="expected files of this folder, got '../../etc/passwd'"):
        store.read(6)


# ---- through the loop


def test_a_run_goes_on_from_the_state_before_a_damaged_one(tmp_path):
    toy_trainer(tmp_path / "whole", max_steps=8, i_save=2).run()
    first = toy_trainer(tmp_path / "parts", Stopping(after=7), max_steps=8, i_save=2)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    flip(tmp_path / "parts" / "ckpts" / "net_step0000006.safetensors")
    second = toy_trainer(tmp_path / "parts", max_steps=8, i_save=2)
    assert second.resume() and second.step == 4 and second.run()
    assert records(tmp_path / "parts") == records(tmp_path / "whole")


def test_a_run_goes_back_to_an_earlier_step_and_its_log_with_it(tmp_path):
    toy_trainer(tmp_path, max_steps=8, i_save=2).run()
    expected = records(tmp_path)
    again = toy_trainer(tmp_path, Stopping(after=5), max_steps=8, i_save=2)
    assert again.resume(step=4) and again.step == 4
    with pytest.raises(KeyboardInterrupt):
        again.run()
    assert [record["step"] for record in records(tmp_path)] == [1, 2, 3, 4, 5]
    last = toy_trainer(tmp_path, max_steps=8, i_save=2)
    assert last.resume() and last.step == 4  # not step 8, which was given up
    assert last.run() and records(tmp_path) == expected


def test_a_run_starts_from_the_states_of_another_folder(tmp_path):
    toy_trainer(tmp_path / "first", max_steps=4, i_save=2).run()
    second = toy_trainer(tmp_path / "second", max_steps=6, i_save=2)
    assert not second.resume() and second.resume(tmp_path / "first") and second.step == 4
    assert second.run() and second.store.steps() == [6]
    assert toy_trainer(tmp_path / "first", max_steps=4).store.steps() == [4, 2]


@pytest.mark.parametrize(("change", "told"), [
    ({"learning_rate": 0.5}, "trainer.args.optimizer.args.lr = 0.5, as the experiment has, got 0.001"),
    ({"grad_clip": NamedConfig("AdaptiveGradClipper", {})}, "trainer.args.grad_clip = "),
    ({"ema_rate": 0.5}, "trainer.args.ema_rate = 0.5, as the experiment has, got 0.999"),
])  # fmt: skip
def test_a_state_of_other_settings_is_refused(tmp_path, change, told):
    toy_trainer(tmp_path, max_steps=2).run()
    other = toy_trainer(tmp_path, max_steps=4, **change)
    before = {name: value.clone() for name, value in other.objective.state_dict().items()}
    with pytest.raises(StateError) as error:
        other.resume()
    assert told in str(error.value) and "\n" not in str(error.value)
    assert all(torch.equal(value, other.objective.state_dict()[name]) for name, value in before.items())


class Slow(Source):
    """Takes a little longer, so that kills find the run at work."""

    def batch(self, *place):
        time.sleep(0.002)
        return super().batch(*place)


def killed_run(folder: Path, after_s: float) -> bool:
    """Go on with a run in a process of its own, which is killed after so many seconds; True if it was."""
    if not (child := os.fork()):
        status = 1
        try:
            trainer = toy_trainer(folder, Slow(), max_steps=60, i_save=5)
            trainer.resume()
            status = 0 if trainer.run() else 1
        finally:
            os._exit(status)
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    return status == signal.SIGKILL


def test_twenty_kills_lose_nothing_older_than_the_last_save(tmp_path):
    whole = toy_trainer(tmp_path / "whole", max_steps=60, i_save=5)
    start = time.monotonic()
    whole.run()
    seconds, rng, folder = time.monotonic() - start, random.Random(0), tmp_path / "parts"
    kills = saved = 0
    while kills < KILLS:
        kills += killed_run(folder, rng.random() * 0.7 * seconds)
        latest = StateStore(folder / "ckpts").read_latest()
        step = latest.step if latest else 0
        logged = [record["step"] for record in records(folder)] if (folder / "log.jsonl").exists() else []
        assert step >= saved and step % 5 == 0 and logged == list(range(1, len(logged) + 1))
        saved = step
        if step == 60:  # finished: the next kills are for another run
            assert records(folder) == records(tmp_path / "whole")
            folder, saved = tmp_path / f"parts{kills}", 0
    last = toy_trainer(folder, max_steps=60, i_save=5)
    last.resume()
    last.run()
    assert records(folder) == records(tmp_path / "whole")
    for name, value in whole.objective.state_dict().items():
        assert torch.equal(value, last.objective.state_dict()[name]), name


def test_what_only_the_loss_needs_is_not_saved(tmp_path):
    objective = Regression()
    objective.helper = torch.nn.Linear(4, 1).requires_grad_(False)
    trainer = toy_trainer(tmp_path, objective=objective, max_steps=1)
    trainer.run()
    stems = {path.name.partition("_step")[0] for path in (tmp_path / "ckpts").glob("*.safetensors")}
    assert stems == {"net", "net_ema0.999", "misc"}
    assert toy_trainer(tmp_path, max_steps=2).resume()
