"""Training into an object store: every state is there whole, and another machine goes on with it."""

import argparse
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from scenegen.cli.training_output import StoredOutput
from scenegen.stores.store import Store
from scenegen.stores.urls import StoreError, StoreUrl
from scenegen.trainers.distributed import World
from tests.toy_training import Stopping, loop_config, records, toy_trainer
from trellis_modules.config import ConfigError


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Function (name) -> output folder of a machine, with what the store has, and its delivery."""
    pytest.importorskip("fsspec", reason="needs the package fsspec: bash setup.sh --stores")
    url = StoreUrl.parse(f"file://{tmp_path}/store")

    def make(name: str) -> tuple[Path, StoredOutput]:
        monkeypatch.setenv("SCENEGEN_CACHE", str(tmp_path / name))
        options = argparse.Namespace(output_url=url, output_dir=url.mirror)
        options.output_dir.mkdir(parents=True, exist_ok=True)
        output = StoredOutput(options)
        output.fetch()
        return options.output_dir, output

    return make


def trained(folder: Path, output: StoredOutput, steps: int, resume: bool = False, source=None) -> None:
    trainer = toy_trainer(folder, source, max_steps=steps, i_save=3, keep_last=2)
    trainer.on_saved = output.after_state
    if resume:
        assert trainer.resume()
    trainer.run()


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_states_are_delivered_and_pruned_with_the_folder(machine, tmp_path):
    folder, output = machine("one")
    trained(folder, output, 10)
    output.deliver()
    assert names(tmp_path / "store") == names(folder)
    states = {name for name in names(tmp_path / "store") if "misc_step" in name and name.endswith(".json")}
    assert states == {"ckpts/misc_step0000009.json", "ckpts/misc_step0000010.json"}


def test_another_machine_goes_on_as_if_nothing_had_happened(machine, tmp_path):
    toy_trainer(tmp_path / "whole", max_steps=12, i_save=3, keep_last=2).run()
    with suppress(KeyboardInterrupt):
        trained(*machine("one"), 12, source=Stopping(7))
    shutil.rmtree(tmp_path / "one")  # the machine is lost before the end
    folder, output = machine("two")
    trained(folder, output, 12, resume=True)
    output.deliver()
    assert records(folder) == records(tmp_path / "whole")
    assert names(tmp_path / "store") == names(folder)


@pytest.mark.parametrize("last", range(6))
def test_a_delivery_that_is_cut_off_leaves_a_whole_state_in_the_store(machine, tmp_path, monkeypatch, last):
    folder, output = machine("one")
    trained(folder, output, 3)
    deliver, numbers = Store.deliver, iter(range(100))

    def cut_off(self, folder, name):
        if next(numbers) >= last:
            raise KeyboardInterrupt
        deliver(self, folder, name)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "deliver", cut_off)
        with pytest.raises(KeyboardInterrupt):
            trained(folder, output, 6, resume=True)
    shutil.rmtree(tmp_path / "one")
    folder, output = machine("two")
    trainer = toy_trainer(folder, max_steps=6, i_save=3, keep_last=2)
    assert trainer.resume() and trainer.step in (3, 6)


def test_a_store_that_refuses_a_state_costs_a_line_and_at_the_end_the_run(machine, monkeypatch, caplog):
    folder, output = machine("one")

    def refuse(self, folder, name):
        raise StoreError(f"{self.url}/{name}: expected a store that can be used, got none")

    monkeypatch.setattr(Store, "deliver", refuse)
    trained(folder, output, 4)
    assert caplog.messages[-1].endswith("the state stays on the disk and is delivered with the next one")
    with pytest.raises(StoreError, match="got none; all is in .*: run the command again"):
        output.deliver()
    monkeypatch.undo()


def test_networks_that_are_spread_over_hosts_are_refused(machine):
    _, output = machine("one")
    output.check(World(0, 2), loop_config(parallel="fsdp2"), hosts=1)
    output.check(World(0, 2), loop_config(parallel="ddp"), hosts=2)
    with pytest.raises(ConfigError, match="--output-dir: expected a folder that all hosts see"):
        output.check(World(0, 2), loop_config(parallel="fsdp2"), hosts=2)
